//! A store for tests on a paused clock: the scripts for logins and facts, in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet_protocol::command::{Fact, LoginResult};
use fleet_protocol::machine::Request;
use fleet_protocol::reply::{Body, LoginOutcome};
use fleet_protocol::{Event, Name, Output, State, StoreTime};
use prometheus::Registry;
use rustls::RootCertStore;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::handle::{Fleet, Source};
use super::link::{Link, LinkStatus};
use super::metrics::FleetMetrics;
use crate::config::{self, Config};

/// Duration of a request.
const LATENCY: Duration = Duration::from_millis(1);
const EPOCH: u64 = 1_000_000_000;

/// A store, and the replicas that share it.
#[derive(Clone)]
pub(crate) struct ScriptedStore(Arc<Mutex<Content>>);

struct Content {
    origin: Instant,
    values: HashMap<Key, (Value, Instant)>,
    replicas: Vec<(Arc<Fleet>, watch::Sender<LinkStatus>)>,
    is_up: bool,
    drops_pushes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Token(Name),
    Lock(Name),
    Forced(Name),
    Throttled(Name),
    Verdict(Name, Name),
    Site(Name),
    Activation(Name),
    Regions(Name),
}

#[derive(Clone, Debug)]
enum Value {
    Record(Vec<u8>),
    /// A replica and its attempt.
    Lock(u32, u64),
    Mark,
}

impl ScriptedStore {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Content {
            origin: Instant::now(),
            values: HashMap::new(),
            replicas: Vec::new(),
            is_up: true,
            drops_pushes: false,
        })))
    }

    /// Starts a replica with this key.
    pub(crate) fn join(&self, key: char, registry: &Registry) -> Arc<Fleet> {
        let (fleet, link, events) = create(&configuration(key), registry);
        let status = link.into_status();
        let mut content = self.0.lock().unwrap();
        set_state(&status, content.is_up);
        content.replicas.push((Arc::clone(&fleet), status));
        drop(content);
        tokio::spawn(self.clone().serve(Arc::clone(&fleet), events));
        fleet
    }

    async fn serve(self, fleet: Arc<Fleet>, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            let Event::Request { id, request } = event else {
                continue;
            };
            sleep(LATENCY).await;
            let mut content = self.0.lock().unwrap();
            let now = content.now();
            let is_up = content.is_up;
            let body = is_up.then(|| content.process(fleet.replica().0, request));
            drop(content);
            fleet.publish(Output::Response { id, body, now });
        }
    }

    /// Stops the store, or starts it again.
    pub(crate) fn set_up(&self, is_up: bool) {
        let mut content = self.0.lock().unwrap();
        content.is_up = is_up;
        for (fleet, status) in &content.replicas {
            set_state(status, is_up);
            if is_up {
                fleet.publish(Output::State(State::Joined));
            }
        }
    }

    pub(crate) fn flush(&self) {
        self.0.lock().unwrap().values.clear();
    }

    /// Loses all notifications.
    pub(crate) fn drop_pushes(&self) {
        self.0.lock().unwrap().drops_pushes = true;
    }

    /// Changes every record.
    pub(crate) fn change_records(&self, change: impl Fn(&mut Vec<u8>)) {
        for (value, _) in self.0.lock().unwrap().values.values_mut() {
            if let Value::Record(record) = value {
                change(record);
            }
        }
    }

    /// Puts each token and each customer's regions in the place of all others.
    pub(crate) fn exchange_tokens(&self) {
        let mut content = self.0.lock().unwrap();
        let tokens = content.values.iter_mut();
        let mut tokens: Vec<_> = tokens
            .filter(|(key, _)| matches!(key, Key::Token(_) | Key::Regions(_)))
            .map(|(_, value)| value)
            .collect();
        let count = tokens.len();
        for index in 1..count {
            let (left, right) = tokens.split_at_mut(index);
            std::mem::swap(left[index - 1], right[0]);
        }
    }
}

/// Returns the configuration of a replica with this key.
pub(super) fn configuration(key: char) -> Config {
    let text = "[citrix]\ncustomer_id = 'acme'\nclient_id = 'c'\nclient_secret = { env = 'S' }\n\
                [fleet]\nurl = 'redis+unix:///none'\nkey = { env = 'K' }\n";
    let key = key.to_string().repeat(32);
    let secrets = [("S".to_owned(), "s".to_owned()), ("K".to_owned(), key)];
    config::from_toml(text, secrets).unwrap()
}

/// Creates the handle of a replica and its link.
pub(super) fn create(
    config: &Config,
    registry: &Registry,
) -> (Arc<Fleet>, Link, mpsc::Receiver<Event>) {
    let source = Source {
        store: config.boot.fleet_store.as_ref().unwrap(),
        fleet: config.live.fleet.as_ref().unwrap(),
        upstream: &config.live.upstream,
        roots: &Arc::new(RootCertStore::empty()),
    };
    let metrics = FleetMetrics::register(registry).unwrap();
    Fleet::new(source, metrics).unwrap()
}

fn set_state(status: &watch::Sender<LinkStatus>, is_up: bool) {
    let state = if is_up { State::Joined } else { State::Alone };
    status.send_modify(|status| status.state = state);
}

impl Content {
    fn now(&self) -> StoreTime {
        StoreTime(EPOCH) + self.origin.elapsed()
    }

    fn get(&self, key: Key) -> Option<&(Value, Instant)> {
        self.values
            .get(&key)
            .filter(|(_, until)| Instant::now() < *until)
    }

    fn record(&self, key: Key) -> Option<Vec<u8>> {
        match self.get(key) {
            Some((Value::Record(record), _)) => Some(record.clone()),
            _ => None,
        }
    }

    fn set(&mut self, key: Key, value: Value, lifetime: Duration) {
        self.values.insert(key, (value, Instant::now() + lifetime));
    }

    fn notify(&self, identity: Name) {
        if !self.drops_pushes {
            for (fleet, _) in &self.replicas {
                fleet.publish(Output::TokenChanged(identity));
            }
        }
    }

    fn process(&mut self, replica: u32, request: Request) -> Body {
        match request {
            Request::Login {
                identity,
                secret,
                attempt,
                lifetime,
                forced,
            } => Body::Login {
                outcome: self.login(identity, secret, (replica, attempt, lifetime), forced),
                token: self.record(Key::Token(identity)),
            },
            Request::Finish {
                identity,
                attempt,
                result,
            } => self.finish(identity, (replica, attempt), result),
            Request::Publish {
                identity,
                known,
                record,
                lifetime,
            } => {
                if self.record(Key::Token(identity)) != known {
                    return Body::Overtaken;
                }
                self.set(Key::Token(identity), Value::Record(record), lifetime);
                self.notify(identity);
                Body::Done
            }
            Request::Get(fact) => Body::Value(self.record(key_of(fact))),
            Request::Set {
                fact,
                value,
                lifetime,
            } => {
                self.set(key_of(fact), Value::Record(value), lifetime);
                Body::Written(true)
            }
            Request::Mark { fact, lifetime } => {
                let is_new = self.get(key_of(fact)).is_none();
                if is_new {
                    self.set(key_of(fact), Value::Mark, lifetime);
                }
                Body::Written(is_new)
            }
            Request::Members(_) => unreachable!("no test lists replicas"),
        }
    }

    fn login(
        &mut self,
        identity: Name,
        secret: Name,
        (replica, attempt, lifetime): (u32, u64, Duration),
        forced: Option<Duration>,
    ) -> LoginOutcome {
        if let Some((_, until)) = self.get(Key::Throttled(identity)) {
            return LoginOutcome::Throttled(*until - Instant::now());
        }
        if let Some(verdict) = self.record(Key::Verdict(identity, secret)) {
            return LoginOutcome::Rejected(verdict);
        }
        if self.get(Key::Lock(identity)).is_some() {
            return LoginOutcome::Held;
        }
        if forced.is_some()
            && let Some((_, permitted)) = self.get(Key::Forced(identity))
        {
            return LoginOutcome::Recent(*permitted - Instant::now());
        }
        let lock = Value::Lock(replica, attempt);
        self.set(Key::Lock(identity), lock, lifetime);
        if let Some(interval) = forced {
            self.set(Key::Forced(identity), Value::Mark, interval);
        }
        LoginOutcome::Mine
    }

    fn finish(
        &mut self,
        identity: Name,
        (replica, attempt): (u32, u64),
        result: LoginResult,
    ) -> Body {
        if let Some((Value::Lock(by, number), _)) = self.get(Key::Lock(identity))
            && (*by, *number) != (replica, attempt)
        {
            return Body::Overtaken;
        }
        self.values.remove(&Key::Lock(identity));
        match result {
            LoginResult::Token {
                record,
                lifetime,
                secret,
            } => {
                self.set(Key::Token(identity), Value::Record(record), lifetime);
                self.values.remove(&Key::Verdict(identity, secret));
            }
            LoginResult::Rejected {
                secret,
                record,
                lifetime,
            } => self.set(
                Key::Verdict(identity, secret),
                Value::Record(record),
                lifetime,
            ),
            LoginResult::Throttled { wait } => {
                let known = self.get(Key::Throttled(identity));
                let left = known.map(|(_, until)| *until - Instant::now());
                let wait = left.map_or(wait, |left| left.max(wait));
                self.set(Key::Throttled(identity), Value::Mark, wait);
            }
            LoginResult::Failed => {
                self.values.remove(&Key::Forced(identity));
            }
            LoginResult::Unneeded => {
                self.values.remove(&Key::Forced(identity));
                return Body::Done;
            }
        }
        self.notify(identity);
        Body::Done
    }
}

fn key_of(fact: Fact) -> Key {
    match fact {
        Fact::Token(identity) => Key::Token(identity),
        Fact::Site(customer) => Key::Site(customer),
        Fact::Activation(customer) => Key::Activation(customer),
        Fact::Regions(customer) => Key::Regions(customer),
        Fact::Member(_) => unreachable!("no test describes replicas"),
    }
}
