//! A store on a paused clock for whole replicas: the model of the scripts behind a network with
//! delays, losses and faults. The link and everything above it is the gateway's own.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use fleet_protocol::command::RunId;
use fleet_protocol::{Command, Keys, Push, Replica, Reply, State, StoreTime, Timing};
use prometheus::Registry;
use redis::{PushInfo, PushKind, Value};
use testkit::store::model::Model;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::connection::{Connection, Primary, Replying};
use super::dial::Address;
use super::error::{Step, StoreError};
use super::handle::Fleet;
use super::{owner, scripted};
use crate::config::Config;

/// The default of `fleet.lease`, and of `fleet.timeout`.
const TIMING: Timing = Timing {
    lease: Duration::from_secs(5),
    timeout: Duration::from_millis(500),
};
const MAX_PUSHES: usize = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Milliseconds of the Unix epoch.
const EPOCH: u64 = 1_795_000_000_000;

/// A store, and its connections.
#[derive(Clone)]
pub(crate) struct SimulatedStore(Arc<Mutex<Content>>);

struct Content {
    random: fastrand::Rng,
    began: Instant,
    model: Model,
    /// Milliseconds between the simulated time and its clock.
    clock: i64,
    run: u8,
    /// It accepts commands and runs them from then on.
    stopped_until: Option<Instant>,
    /// It refuses connections until then.
    down_until: Option<Instant>,
    slow: Option<(Instant, Duration)>,
    /// Replicas without a network until then.
    cut_off: BTreeMap<usize, Instant>,
    lost_pushes: f64,
    last_connection: u64,
    connections: BTreeMap<u64, Open>,
}

/// An open connection.
struct Open {
    member: usize,
    replica: Replica,
    pushes: mpsc::Sender<PushInfo>,
    /// Arrival of the last message in each direction: none overtakes another.
    up: Instant,
    down: Instant,
}

/// A connection as a link sees it.
struct Commands {
    store: SimulatedStore,
    connection: u64,
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Commands").field(&self.connection).finish()
    }
}

impl SimulatedStore {
    /// Returns an empty store.
    pub(crate) fn new(seed: u64, lost_pushes: f64) -> Self {
        Self(Arc::new(Mutex::new(Content {
            random: fastrand::Rng::with_seed(seed),
            began: Instant::now(),
            model: Model::new(TIMING),
            clock: 0,
            run: 1,
            stopped_until: None,
            down_until: None,
            slow: None,
            cut_off: BTreeMap::new(),
            lost_pushes,
            last_connection: 0,
            connections: BTreeMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    /// Creates a replica, and the task that its thread `fleet` runs.
    pub(crate) fn join(
        &self,
        member: usize,
        registry: &Registry,
    ) -> (Arc<Fleet>, impl Future<Output = ()> + Send + use<>) {
        static CONFIG: LazyLock<Config> = LazyLock::new(|| scripted::configuration('k'));
        let (fleet, link, events) = scripted::create(&CONFIG, registry);
        let store = self.clone();
        let link = link.with_open(Arc::new(move |setup, _, _| {
            Box::pin(store.clone().open(member, setup.settings.replica))
        }));
        let task = owner::run(link, events, Arc::clone(&fleet));
        (fleet, task)
    }

    async fn open(
        self,
        member: usize,
        replica: Replica,
    ) -> Result<(Address, Connection), StoreError> {
        let delay = self.lock().delay();
        sleep(delay).await;
        let now = Instant::now();
        let is_stopped = self.lock().is_stopped();
        if is_stopped {
            sleep(CONNECT_TIMEOUT).await;
            return Err(StoreError::Timeout(Step::Command));
        }
        let mut content = self.lock();
        let is_cut_off = content.cut_off.get(&member).is_some_and(|end| now < *end);
        if is_cut_off || content.down_until.is_some_and(|end| now < end) {
            return Err(StoreError::Connect(ErrorKind::ConnectionRefused.into()));
        }
        content.last_connection += 1;
        let connection = content.last_connection;
        let (sender, pushes) = mpsc::channel(MAX_PUSHES);
        let open = Open {
            member,
            replica,
            pushes: sender,
            up: now,
            down: now,
        };
        content.connections.insert(connection, open);
        let opened = Connection {
            primary: Box::new(Commands {
                store: self.clone(),
                connection,
            }),
            pushes,
            run: Some(RunId([content.run; 20])),
            now: StoreTime(content.micros() / 1000),
        };
        drop(content);
        Ok((Address::Unix("/simulated".into()), opened))
    }

    /// All data is lost.
    pub(crate) fn flush(&self) {
        self.lock().model = Model::new(TIMING);
    }

    /// The store stops for a time; commands run when it continues.
    pub(crate) fn stop(&self, length: Duration) {
        self.lock().stopped_until = Some(Instant::now() + length);
    }

    /// The store ends and comes back empty, with another clock after a failover.
    pub(crate) fn restart(&self, length: Duration, clock: i64) {
        let mut content = self.lock();
        content.down_until = Some(Instant::now() + length);
        content.run = content.run.wrapping_add(1);
        content.clock += clock;
        content.model = Model::new(TIMING);
        content.connections.clear();
    }

    /// Sets the store's clock by milliseconds.
    pub(crate) fn set_clock(&self, by: i64) {
        self.lock().clock += by;
    }

    /// Delays all messages for a time.
    pub(crate) fn slow_down(&self, length: Duration, delay: Duration) {
        self.lock().slow = Some((Instant::now() + length, delay));
    }

    /// Ends all connections.
    pub(crate) fn reset(&self) {
        self.lock().connections.clear();
    }

    /// A replica cannot connect for a time.
    pub(crate) fn cut_off(&self, member: usize, length: Duration) {
        let mut content = self.lock();
        content.cut_off.insert(member, Instant::now() + length);
        content.connections.retain(|_, open| open.member != member);
    }

    /// The process of a replica ended.
    pub(crate) fn leave(&self, member: usize) {
        let connections = &mut self.lock().connections;
        connections.retain(|_, open| open.member != member);
    }

    /// Returns `true` if no replica holds a permit or waits for one.
    pub(crate) fn is_idle(&self) -> bool {
        let content = self.lock();
        let now = content.micros() / 1000;
        content.model.queues.values().all(|queue| {
            let is_free = queue.holders.values().all(|end| *end <= now);
            is_free && queue.waiting.is_empty()
        })
    }

    /// A command arrives, and its reply if it has one.
    async fn run(
        self,
        connection: u64,
        command: Command,
        arrival: Instant,
        reply: oneshot::Sender<Reply>,
    ) {
        sleep_until(arrival).await;
        loop {
            let stopped_until = self.lock().stopped_until;
            match stopped_until.filter(|end| Instant::now() < *end) {
                Some(end) => sleep_until(end).await,
                None => break,
            }
        }
        let Some((result, arrival)) = self.lock().execute(connection, &command) else {
            return;
        };
        sleep_until(arrival).await;
        // The connection may have ended.
        let _ = reply.send(result);
    }
}

impl Primary for Commands {
    fn send(&self, command: &Command, _: &Keys, _: &Timing) -> Replying {
        let mut content = self.store.lock();
        let delay = content.delay();
        let open = content.connections.get_mut(&self.connection);
        let arrival = open.map(|open| {
            open.up = (Instant::now() + delay).max(open.up);
            open.up
        });
        let (sender, reply) = oneshot::channel();
        if let Some(arrival) = arrival {
            let (store, command) = (self.store.clone(), command.clone());
            tokio::spawn(store.run(self.connection, command, arrival, sender));
        }
        Box::pin(async move {
            match reply.await {
                Ok(reply) => Ok(reply),
                // The link learns of the end by the end of its pushes.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

impl Content {
    fn micros(&self) -> u64 {
        let elapsed = u64::try_from(self.began.elapsed().as_micros()).unwrap();
        (EPOCH.saturating_add_signed(self.clock) * 1000) + elapsed
    }

    fn is_stopped(&self) -> bool {
        self.stopped_until.is_some_and(|end| Instant::now() < end)
    }

    fn delay(&mut self) -> Duration {
        let usual = Duration::from_millis(self.random.u64(1..3));
        let slow = self.slow.filter(|(end, _)| Instant::now() < *end);
        // Rarely a retransmission.
        let lost = Duration::from_millis(if self.random.u32(..1000) == 0 { 250 } else { 0 });
        usual + lost + slow.map_or(Duration::ZERO, |(_, delay)| delay)
    }

    /// Runs a command, unless it was lost with its connection. Returns the arrival of the reply.
    fn execute(&mut self, connection: u64, command: &Command) -> Option<(Reply, Instant)> {
        let is_down = self.down_until.is_some_and(|end| Instant::now() < end);
        let is_open = self.connections.contains_key(&connection);
        if is_down || !(is_open || self.random.bool()) {
            return None;
        }
        let (reply, pushes) = self.model.run(self.micros(), command);
        for (replica, push) in pushes {
            self.push(replica, &push);
        }
        Some((reply, self.arrival(connection)?))
    }

    fn arrival(&mut self, connection: u64) -> Option<Instant> {
        let delay = self.delay();
        let open = self.connections.get_mut(&connection)?;
        open.down = (Instant::now() + delay).max(open.down + Duration::from_millis(1));
        Some(open.down)
    }

    fn push(&mut self, receiver: Option<Replica>, push: &Push) {
        let open = self.connections.iter();
        let open = open.filter(|(_, open)| receiver.is_none_or(|it| it == open.replica));
        let receivers: Vec<u64> = open.map(|(connection, _)| *connection).collect();
        for connection in receivers {
            if self.random.f64() < self.lost_pushes {
                continue;
            }
            let Some(arrival) = self.arrival(connection) else {
                continue;
            };
            let pushes = self.connections[&connection].pushes.downgrade();
            let push = message(push);
            tokio::spawn(async move {
                sleep_until(arrival).await;
                if let Some(pushes) = pushes.upgrade() {
                    let _ = pushes.try_send(push);
                }
            });
        }
    }
}

/// Returns a message as the store sends it.
fn message(push: &Push) -> PushInfo {
    let text = match push {
        Push::Go { queue, ticket } => format!("go {queue} {ticket}"),
        Push::Gate { place, wait, by } => format!("gate {place} {} {by}", wait.as_millis()),
        Push::Token(identity) => format!("token {identity}"),
    };
    PushInfo {
        kind: PushKind::Message,
        data: vec![Value::Nil, Value::BulkString(text.into_bytes())],
    }
}

/// Ends a replica in order: it passes on what it holds.
pub(crate) async fn bye(fleet: &Fleet) {
    fleet.bye().await;
}

/// Returns `true` if the store decides for a replica.
pub(crate) fn is_joined(fleet: &Fleet) -> bool {
    fleet.status().borrow().state == State::Joined
}
