//! The scripts on a real server.

mod property;
mod rights;

use std::time::Duration;

use fleet_protocol::command::{
    Beat, Bye, Close, Command, Enter, Fact, Finish, KeyFingerprint, Leave, LockName, Login,
    LoginResult, Members, Publish, QueueLimit, QueueTickets, Rate, Reserve, RunId,
};
use fleet_protocol::reply::{Body, LoginOutcome, Value};
use fleet_protocol::script::{COMMANDS, Call, Script};
use fleet_protocol::{Keys, Name, Push, Replica, Reply, StoreTime, Ticket, Timing};
use testkit::store::StoreServer;

use crate::server::{Client, Hashes, load, words};
use testkit::store::model::Sent;

pub(crate) const TIMING: Timing = Timing {
    lease: Duration::from_secs(5),
    timeout: Duration::from_millis(500),
};

/// Sets the time from the last argument.
pub(crate) const CLOCK_ARGUMENT: &str = "\
local micros = tonumber(table.remove(ARGV))
local now = math.floor(micros / 1000)
";

/// A store with loaded scripts, and what it announces.
struct Store {
    keys: Keys,
    client: Client,
    pushes: Client,
    scripts: Hashes,
    clock_is_argument: bool,
}

impl Store {
    /// Returns a store whose scripts read the server's clock.
    fn new(server: &StoreServer) -> Self {
        Self::with_scripts(server, false, Script::source)
    }

    /// Returns a store whose scripts receive the time as an argument.
    fn with_clock_argument(server: &StoreServer) -> Self {
        Self::with_scripts(server, true, |script| {
            script.source_with_clock(CLOCK_ARGUMENT)
        })
    }

    fn with_scripts(
        server: &StoreServer,
        clock_is_argument: bool,
        source: impl Fn(Script) -> String,
    ) -> Self {
        let (keys, mut client, mut pushes) =
            (Keys::new("test"), Client::new(server), Client::new(server));
        let scripts = load(&mut client, source);
        pushes
            .call(&["PSUBSCRIBE", &format!("{}*", keys.prefix())])
            .unwrap();
        Self {
            keys,
            client,
            pushes,
            scripts,
            clock_is_argument,
        }
    }

    /// Runs a command at a time in microseconds.
    fn run(&mut self, micros: u64, command: &Command) -> (Reply, Vec<Sent>) {
        let call = command.call(&self.keys, &TIMING);
        let plain = match &call {
            Call::Plain { reads, .. } => Some(*reads),
            Call::Script { .. } => None,
        };
        let mut words = words(call, &self.scripts);
        if self.clock_is_argument && plain.is_none() {
            words.push(micros.to_string().into());
        }
        let value = self.client.call(&words).unwrap();
        let reply = match plain {
            Some(reads) => Reply::from_plain(reads, value),
            None => Reply::from_script(value),
        };
        (reply.unwrap(), self.pushes())
    }

    /// Returns what was announced since the last call.
    fn pushes(&mut self) -> Vec<Sent> {
        self.pushes.send(&["PING"]);
        let mut sent = Vec::new();
        loop {
            let Value::Array(message) = self.pushes.read().unwrap() else {
                panic!("no message");
            };
            let [.., Value::Bytes(channel), Value::Bytes(text)] = &message[..] else {
                panic!("{message:?}");
            };
            if channel == b"pong" {
                return sent;
            }
            let channel = str::from_utf8(channel).unwrap();
            let name = channel.strip_prefix(self.keys.prefix()).unwrap();
            let replica = name
                .strip_prefix("r:")
                .map(|replica| replica.parse().unwrap());
            assert_eq!(replica.is_none(), name == "all", "{channel}");
            sent.push((replica, Push::parse(text).unwrap()));
        }
    }
}

#[test]
fn scripts_are_short_and_use_only_listed_commands() {
    let mut used = std::collections::BTreeSet::new();
    for script in Script::ALL {
        let source = script.source();
        for call in source.split("redis.call('").skip(1) {
            used.insert(call.split('\'').next().unwrap().to_lowercase());
        }
        for absent in [
            "redis.pcall",
            "cjson",
            "cmsgpack",
            "struct.",
            "bit.",
            "redis.setresp",
        ] {
            assert!(!source.contains(absent), "{script:?} {absent}");
        }
        let body = script.source_with_clock("");
        assert!(body.lines().all(|line| line.len() <= 100), "{script:?}");
    }
    let listed = COMMANDS.map(str::to_owned).into_iter().collect();
    assert_eq!(used, listed);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lua");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 40, "{} has {lines} lines", path.display());
    }
}

/// One command of each kind that writes, in an order in which all succeed.
fn one_of_each(now: u64) -> Vec<Command> {
    let (deadline, replica) = (StoreTime(now + 60_000), Replica(1));
    let lifetime = Duration::from_secs(60);
    let queues = || {
        vec![QueueTickets {
            queue: name(1),
            at_once: 1,
            held: vec![ticket(1, 1)],
            waiting: vec![ticket(1, 2)],
        }]
    };
    let lock = LockName { replica, number: 1 };
    let (identity, secret) = (name(7), name(8));
    vec![
        Command::Beat(Beat {
            replica,
            key: KeyFingerprint(1),
            run: Some(RunId([1; 20])),
            joins: true,
            queues: queues(),
            deadline,
        }),
        enter(ticket(1, 2), deadline),
        enter(ticket(1, 3), deadline),
        Command::Reserve(Reserve {
            limit: name(3),
            rate: Rate {
                interval: lifetime,
                burst: lifetime,
                timeout: lifetime,
            },
            max_wait: lifetime,
            deadline,
        }),
        Command::Close(Close {
            place: name(4),
            until: deadline,
            wait: lifetime,
            replica: Replica(1),
        }),
        Command::Gates,
        Command::Login(Login {
            identity,
            secret,
            lock,
            lifetime,
            forced: Some(lifetime),
            deadline,
        }),
        Command::Finish(Finish {
            identity,
            lock,
            result: LoginResult::Throttled { wait: lifetime },
        }),
        Command::Members(Members {
            queues: vec![name(1)],
        }),
        Command::Leave(Leave {
            queue: name(1),
            ticket: ticket(1, 2),
            caller: name(2),
            at_once: 1,
        }),
        Command::Bye(Bye {
            replica: Replica(2),
            queues: queues(),
        }),
    ]
}

fn server_time(client: &mut Client) -> u64 {
    let Value::Array(parts) = client.call(&["TIME"]).unwrap() else {
        panic!("no time");
    };
    let number = |value: &Value| match value {
        Value::Bytes(bytes) => str::from_utf8(bytes).unwrap().parse::<u64>().unwrap(),
        _ => panic!("no number"),
    };
    number(&parts[0]) * 1000 + number(&parts[1]) / 1000
}

#[test]
fn every_key_is_in_the_fleets_slot_and_expires() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let mut store = Store::new(&server);
    let now = server_time(&mut store.client);
    for command in one_of_each(now) {
        store.run(0, &command);
        let Value::Array(keys) = store.client.call(&["KEYS", "*"]).unwrap() else {
            panic!("no keys");
        };
        for key in keys {
            let Value::Bytes(key) = key else {
                panic!("no key");
            };
            assert!(key.starts_with(b"cap:1:{test}:"));
            let left = store.client.call(&[b"PTTL".to_vec(), key.clone()]).unwrap();
            let expires = matches!(left, Value::Int(1..=3_600_000));
            assert!(expires, "{} {left:?}", String::from_utf8_lossy(&key));
        }
    }
}

#[test]
fn enter_that_runs_after_its_deadline_grants_nothing() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let mut store = Store::new(&server);
    let now = server_time(&mut store.client);
    store.run(0, &one_of_each(now)[0]);
    // As after a pause of the server that is longer than the timeout.
    let (reply, pushes) = store.run(0, &enter(ticket(1, 9), StoreTime(now - 1)));
    assert_eq!((reply.body, pushes), (Body::Late, vec![]));
    let holders = store
        .client
        .call(&["ZCARD", &format!("cap:1:{{test}}:h:{}", name(1))]);
    assert_eq!(holders, Ok(Value::Int(1)));
}

#[test]
fn login_that_is_not_needed_frees_the_lock_without_a_notification() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let mut store = Store::new(&server);
    let deadline = StoreTime(server_time(&mut store.client) + 10_000);
    let mut login = |number| {
        let lock = LockName {
            replica: Replica(1),
            number,
        };
        let login = Login {
            identity: name(7),
            secret: name(1),
            lock,
            lifetime: Duration::from_secs(20),
            forced: None,
            deadline,
        };
        let (reply, _) = store.run(0, &Command::Login(login));
        let finish = Finish {
            identity: name(7),
            lock,
            result: LoginResult::Unneeded,
        };
        let (_, pushes) = store.run(0, &Command::Finish(finish));
        (reply.body, pushes)
    };
    let (mine, token) = (LoginOutcome::Mine, None);
    let expected = Body::Login {
        outcome: mine,
        token,
    };
    for number in [1, 2] {
        assert_eq!(login(number), (expected.clone(), vec![]));
    }
}

#[test]
fn published_token_replaces_only_the_known_one_and_notifies_all() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let mut store = Store::new(&server);
    let mut publish = |known: Option<&[u8]>, record: &[u8]| {
        let publish = Publish {
            identity: name(7),
            known: known.map(<[u8]>::to_vec),
            record: record.to_vec(),
            lifetime: Duration::from_secs(20),
        };
        let (reply, pushes) = store.run(0, &Command::Publish(publish));
        (reply.body, pushes)
    };
    let done = (Body::Done, vec![(None, Push::Token(name(7)))]);
    let overtaken = (Body::Overtaken, vec![]);
    assert_eq!(publish(Some(b"0"), b"1"), overtaken);
    assert_eq!(publish(None, b"1"), done);
    assert_eq!(publish(None, b"2"), overtaken);
    assert_eq!(publish(Some(b"1"), b"2"), done);
    let (reply, _) = store.run(0, &Command::Get(Fact::Token(name(7))));
    assert_eq!(reply.body, Body::Value(Some(b"2".to_vec())));
}

#[test]
fn forced_login_is_not_deferred_by_one_from_before_the_clock_was_set_back() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let mut store = Store::with_clock_argument(&server);
    let mut login = |seconds: u64| {
        let login = Login {
            identity: name(7),
            secret: name(1),
            lock: LockName {
                replica: Replica(1),
                number: seconds,
            },
            lifetime: Duration::from_secs(20),
            forced: Some(Duration::from_secs(10)),
            deadline: StoreTime((seconds + 1) * 1000),
        };
        let lock = login.lock;
        let (reply, _) = store.run(seconds * 1_000_000, &Command::Login(login));
        let Body::Login { outcome, .. } = reply.body else {
            panic!("{reply:?}");
        };
        let (secret, record) = (name(1), b"record".to_vec());
        let finish = Finish {
            identity: name(7),
            lock,
            result: LoginResult::Token {
                record,
                secret,
                lifetime: Duration::from_secs(60),
            },
        };
        store.run(seconds * 1_000_000, &Command::Finish(finish));
        outcome
    };
    let (mine, recent) = (LoginOutcome::Mine, LoginOutcome::Recent);
    assert_eq!(login(5000), mine);
    assert_eq!(login(5004), recent(Duration::from_secs(6)));
    assert_eq!(login(1400), mine);
    assert_eq!(login(1401), recent(Duration::from_secs(9)));
}

#[test]
fn no_login_waits_for_a_429_a_lock_or_a_verdict_from_before_the_clock_was_set_back() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let mut store = Store::with_clock_argument(&server);
    let lock = |number| LockName {
        replica: Replica(1),
        number,
    };
    let login = |store: &mut Store, seconds: u64, number| {
        let login = Login {
            identity: name(7),
            secret: name(1),
            lock: lock(number),
            lifetime: Duration::from_secs(20),
            forced: None,
            deadline: StoreTime((seconds + 1) * 1000),
        };
        let (reply, _) = store.run(seconds * 1_000_000, &Command::Login(login));
        let Body::Login { outcome, .. } = reply.body else {
            panic!("{reply:?}");
        };
        outcome
    };
    let throttle = |store: &mut Store, seconds: u64, number| {
        let finish = Finish {
            identity: name(7),
            lock: lock(number),
            result: LoginResult::Throttled {
                wait: Duration::from_secs(30),
            },
        };
        let (reply, _) = store.run(seconds * 1_000_000, &Command::Finish(finish));
        reply.body
    };
    let reject = |store: &mut Store, seconds: u64, number| {
        let finish = Finish {
            identity: name(7),
            lock: lock(number),
            result: LoginResult::Rejected {
                secret: name(1),
                record: b"a record\0 5".to_vec(),
                lifetime: Duration::from_secs(30),
            },
        };
        store.run(seconds * 1_000_000, &Command::Finish(finish));
    };
    let throttled = |seconds| LoginOutcome::Throttled(Duration::from_secs(seconds));
    assert_eq!(login(&mut store, 9000, 1), LoginOutcome::Mine);
    assert_eq!(login(&mut store, 9001, 2), LoginOutcome::Held);
    // Set back by an hour.
    assert_eq!(login(&mut store, 5401, 3), LoginOutcome::Mine);
    assert_eq!(throttle(&mut store, 5402, 1), Body::Overtaken);
    assert_eq!(throttle(&mut store, 5402, 3), Body::Done);
    assert_eq!(login(&mut store, 5403, 4), throttled(29));
    // By seconds, as after a failover.
    assert_eq!(login(&mut store, 5398, 5), throttled(34));
    assert_eq!(login(&mut store, 2000, 6), LoginOutcome::Mine);
    reject(&mut store, 2001, 6);
    let verdict = LoginOutcome::Rejected(b"a record\0 5".to_vec());
    assert_eq!(login(&mut store, 2002, 7), verdict);
    assert_eq!(login(&mut store, 1000, 8), LoginOutcome::Mine);
}

#[test]
fn shorter_wait_of_a_429_does_not_replace_a_longer_one() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let mut store = Store::with_clock_argument(&server);
    let lock = LockName {
        replica: Replica(1),
        number: 1,
    };
    for (wait, left) in [(60, 60), (1, 60), (90, 90)] {
        let finish = Finish {
            identity: name(7),
            lock,
            result: LoginResult::Throttled {
                wait: Duration::from_secs(wait),
            },
        };
        store.run(5_000_000_000, &Command::Finish(finish));
        let login = Login {
            identity: name(7),
            secret: name(1),
            lock,
            lifetime: Duration::from_secs(20),
            forced: None,
            deadline: StoreTime(5_001_000),
        };
        let (reply, _) = store.run(5_000_000_000, &Command::Login(login));
        let expected = Body::Login {
            outcome: LoginOutcome::Throttled(Duration::from_secs(left)),
            token: None,
        };
        assert_eq!(reply.body, expected);
    }
}

#[test]
fn gates_that_closed_before_the_clock_was_set_back_are_forgotten_with_a_heartbeat() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let mut store = Store::with_clock_argument(&server);
    let beat = |seconds: u64| {
        Command::Beat(Beat {
            replica: Replica(1),
            key: KeyFingerprint(1),
            run: None,
            joins: false,
            queues: Vec::new(),
            deadline: StoreTime((seconds + 1) * 1000),
        })
    };
    let closed = |store: &mut Store, seconds: u64| {
        let (reply, _) = store.run(seconds * 1_000_000, &Command::Gates);
        let Body::Gates(gates) = reply.body else {
            panic!("{reply:?}");
        };
        gates.len()
    };
    store.run(9_000_000_000, &beat(9000));
    let close = Command::Close(Close {
        place: name(4),
        until: StoreTime(9_060_000),
        wait: Duration::from_secs(60),
        replica: Replica(1),
    });
    store.run(9_000_000_000, &close);
    store.run(9_001_000_000, &beat(9001));
    assert_eq!(closed(&mut store, 9001), 1);
    store.run(8_700_000_000, &beat(8700));
    assert_eq!(closed(&mut store, 8700), 0);
}

fn name(number: u8) -> Name {
    Name([number; 16])
}

fn ticket(replica: u32, number: u64) -> Ticket {
    Ticket {
        arrived: StoreTime(number),
        replica: Replica(replica),
        number,
    }
}

fn enter(ticket: Ticket, deadline: StoreTime) -> Command {
    Command::Enter(Enter {
        queue: name(1),
        ticket,
        caller: name(2),
        limit: QueueLimit {
            at_once: 1,
            room: 10,
            timeout: Duration::from_secs(60),
        },
        deadline,
    })
}
