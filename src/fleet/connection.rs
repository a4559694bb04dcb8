//! One connection to the primary, ready for commands: authenticated, with the scripts loaded and
//! the replica's channels subscribed.

use std::fmt;
use std::pin::Pin;

use fleet_protocol::command::{Command, RunId};
use fleet_protocol::reply;
use fleet_protocol::script::{Call, Script};
use fleet_protocol::{Keys, Push, Replica, Reply, StoreTime, Timing};
use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, PushInfo, PushKind};
use redis::{RedisConnectionInfo, RedisError, Value};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio::try_join;

use super::dial::{Address, Stream, dial};
use super::error::{Step, StoreError, within};
use super::target::Target;
use crate::upstream::bounded::Bounded;

/// Maximum number of bytes that are read after each command: many times the longest reply, which has
/// the records of all replicas.
const MAX_REPLY_BYTES: usize = 4 * 1024 * 1024;

/// Maximum number of messages that await processing. The next heartbeat reports what is dropped.
const MAX_PUSHES: usize = 1024;

/// The driver of a connection, aborted on drop.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A bare connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) commands: MultiplexedConnection,
    _driver: Driver,
}

impl Session {
    /// Opens a connection; messages arrive at `pushes`, if any.
    pub(super) async fn open(
        address: &Address,
        target: &Target,
        pushes: Option<mpsc::Sender<PushInfo>>,
        deadline: Instant,
    ) -> Result<Self, StoreError> {
        let access = within(deadline, Step::Read, target.access()).await?;
        let stream = dial(address, access.tls.as_ref(), deadline).await?;
        let login = Self::log_in(stream, target, access.password.as_ref(), pushes);
        within(deadline, Step::Login, login).await
    }

    /// Logs in over a stream. The caller bounds the time.
    pub(super) async fn log_in(
        stream: Box<dyn Stream>,
        target: &Target,
        password: Option<&SecretString>,
        pushes: Option<mpsc::Sender<PushInfo>>,
    ) -> Result<Self, StoreError> {
        let mut info = RedisConnectionInfo::default()
            .set_db(target.database.into())
            .set_skip_set_lib_name();
        if let Some(user) = &target.user {
            info = info.set_username(user);
        }
        if let Some(password) = password {
            info = info.set_password(password.expose_secret());
        }
        // The state machine decides what is late.
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        if let Some(pushes) = pushes {
            info = info.set_protocol(ProtocolVersion::RESP3);
            config = config.set_push_sender(move |push| pushes.try_send(push));
        }
        let stream = Bounded::per_write(stream, MAX_REPLY_BYTES);
        let opening = MultiplexedConnection::new_with_config(&info, stream, config);
        let (commands, driver) = opening.await?;
        let _driver = Driver(tokio::spawn(driver));
        Ok(Self { commands, _driver })
    }

    /// Sends a command and returns its reply.
    pub(super) async fn call(&self, words: &[&str]) -> Result<reply::Value, StoreError> {
        let mut cmd = Cmd::new();
        words.iter().for_each(|word| {
            cmd.arg(*word);
        });
        let value = execute(&mut self.commands.clone(), &cmd).await?;
        value_of(value).ok_or(StoreError::Malformed)
    }
}

/// The result of a command.
pub(super) type Replying = Pin<Box<dyn Future<Output = Result<Reply, StoreError>> + Send>>;

/// A primary that runs commands: over a [`Session`], or emulated by tests.
pub(super) trait Primary: fmt::Debug + Send {
    /// Returns the reply to a command. The first poll sends it.
    fn send(&self, command: &Command, keys: &Keys, timing: &Timing) -> Replying;
}

impl Primary for Session {
    fn send(&self, command: &Command, keys: &Keys, timing: &Timing) -> Replying {
        Box::pin(run(self.commands.clone(), command.call(keys, timing)))
    }
}

/// A connection to the primary.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) primary: Box<dyn Primary>,
    pub(super) pushes: mpsc::Receiver<PushInfo>,
    pub(super) run: Option<RunId>,
    /// The store's time when the connection was ready.
    pub(super) now: StoreTime,
}

impl Connection {
    /// Connects within the timeout of `target`.
    pub(super) async fn open(
        address: &Address,
        target: &Target,
        keys: &Keys,
        replica: Replica,
    ) -> Result<Self, StoreError> {
        let deadline = Instant::now() + target.timeout;
        let (sender, pushes) = mpsc::channel(MAX_PUSHES);
        let session = Session::open(address, target, Some(sender), deadline).await?;
        let prepare = Self::prepare(session, pushes, keys, replica);
        within(deadline, Step::Command, prepare).await
    }

    async fn prepare(
        session: Session,
        pushes: mpsc::Receiver<PushInfo>,
        keys: &Keys,
        replica: Replica,
    ) -> Result<Self, StoreError> {
        // In one round trip: a distant store is reached within the timeout.
        let loading = try_join_all(Script::ALL.map(|script| load(&session, script)));
        let ((), _, run) = try_join!(check_role(&session), loading, run_id(&session).map(Ok))?;
        let channels = [keys.channel(replica), keys.channel_to_all()];
        let mut subscribe = session.commands.clone();
        subscribe.subscribe(&channels[..]).await?;
        let now = server_time(&session).await?;
        Ok(Self {
            primary: Box::new(session),
            pushes,
            run,
            now,
        })
    }
}

pub(super) async fn run(
    mut connection: MultiplexedConnection,
    call: Call,
) -> Result<Reply, StoreError> {
    match call {
        Call::Plain { words, reads } => {
            let mut cmd = Cmd::new();
            words.iter().for_each(|word| {
                cmd.arg(word);
            });
            let value = execute(&mut connection, &cmd).await?;
            let value = value_of(value).ok_or(StoreError::Malformed)?;
            Ok(Reply::from_plain(reads, value)?)
        }
        Call::Script { script, keys, args } => {
            let invoke = |name: &str, script: &str| {
                let mut cmd = redis::cmd(name);
                cmd.arg(script).arg(keys.len()).arg(&keys).arg(&args);
                cmd
            };
            let by_hash = invoke("EVALSHA", hash_of(script));
            let value = match execute(&mut connection, &by_hash).await {
                // After `SCRIPT FLUSH`.
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    let by_source = invoke("EVAL", &script.source());
                    execute(&mut connection, &by_source).await?
                }
                result => result?,
            };
            let value = value_of(value).ok_or(StoreError::Malformed)?;
            Ok(Reply::from_script(value)?)
        }
    }
}

/// Sends a command. Returns its reply, unless that is an error.
async fn execute(connection: &mut MultiplexedConnection, cmd: &Cmd) -> Result<Value, RedisError> {
    connection.send_packed_command(cmd).await?.extract_error()
}

/// Returns the hash of a script's source.
fn hash_of(script: Script) -> &'static str {
    static HASHES: std::sync::LazyLock<Vec<(Script, String)>> = std::sync::LazyLock::new(|| {
        let hash = |script: Script| redis::Script::new(&script.source()).get_hash().to_owned();
        Script::ALL.map(|script| (script, hash(script))).into()
    });
    let known = HASHES.iter().find(|(other, _)| *other == script);
    known.map_or("", |(_, hash)| hash)
}

/// A managed store may forbid `ROLE`; then every write reveals a replica.
async fn check_role(session: &Session) -> Result<(), StoreError> {
    let Ok(reply::Value::Array(role)) = session.call(&["ROLE"]).await else {
        return Ok(());
    };
    match role.first() {
        Some(reply::Value::Bytes(role)) if role == b"master" => Ok(()),
        _ => Err(StoreError::NotPrimary),
    }
}

async fn load(session: &Session, script: Script) -> Result<(), StoreError> {
    let source = script.source();
    session.call(&["SCRIPT", "LOAD", &source]).await.map(drop)
}

/// A managed store may forbid `INFO`; then silence alone reveals a failover.
async fn run_id(session: &Session) -> Option<RunId> {
    let info = session.call(&["INFO", "server"]).await.ok()?;
    let reply::Value::Bytes(info) = info else {
        return None;
    };
    let info = String::from_utf8(info).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("run_id:"))?;
    citrix_wire::hex::decode(line.trim().as_bytes()).map(RunId)
}

async fn server_time(session: &Session) -> Result<StoreTime, StoreError> {
    let reply::Value::Array(parts) = session.call(&["TIME"]).await? else {
        return Err(StoreError::Malformed);
    };
    let part = |index: usize| match parts.get(index) {
        Some(reply::Value::Bytes(digits)) => str::from_utf8(digits).ok()?.parse::<u64>().ok(),
        _ => None,
    };
    let (seconds, micros) = (part(0), part(1));
    let millis = |seconds: u64, micros: u64| seconds.saturating_mul(1000) + micros / 1000;
    let time = seconds.zip(micros).ok_or(StoreError::Malformed)?;
    Ok(StoreTime(millis(time.0, time.1)))
}

/// Returns the message of a push; `None` for others.
pub(super) fn message_of(push: &PushInfo) -> Option<Push> {
    match (&push.kind, &push.data[..]) {
        (PushKind::Message, [_, Value::BulkString(message)]) => Push::parse(message).ok(),
        _ => None,
    }
}

fn value_of(value: Value) -> Option<reply::Value> {
    Some(match value {
        Value::Nil => reply::Value::Nil,
        Value::Int(number) => reply::Value::Int(number),
        Value::Double(number) => reply::Value::Bytes(number.to_string().into_bytes()),
        Value::BulkString(bytes) => reply::Value::Bytes(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => {
            reply::Value::Bytes(text.into_bytes())
        }
        Value::Okay => reply::Value::Bytes(b"OK".to_vec()),
        Value::Array(values) => {
            let values = values.into_iter().map(value_of);
            reply::Value::Array(values.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn reply_without_end_is_not_kept() {
        let (io, mut store) = tokio::io::duplex(64 * 1024);
        let flood = async {
            let line = vec![b'+'; 64 * 1024];
            let mut sent = 0;
            while store.write_all(&line).await.is_ok() {
                sent += line.len();
            }
            sent
        };
        let target = Target {
            tls: None,
            user: None,
            password: None,
            database: 0,
            timeout: Duration::MAX,
        };
        let exchange = async {
            let session = Session::log_in(Box::new(io), &target, None, None);
            session.await?.call(&["TIME"]).await
        };
        let (reply, sent) = tokio::join!(exchange, flood);
        assert!(reply.is_err());
        // More were read only before the command.
        assert!(sent <= 2 * MAX_REPLY_BYTES + 128 * 1024, "{sent}");
    }
}
