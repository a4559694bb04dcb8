//! The link to the store: drives the state machine of a replica with a connection and timers.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::machine::{CommandId, Settings};
use fleet_protocol::{Event, Keys, Machine, Output, Reply, State, Time};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use redis::PushKind;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::connection::{Connection, message_of};
use super::diagnosis::Diagnosis;
use super::dial::Address;
use super::error::StoreError;
use super::metrics::FleetMetrics;
use super::sentinels;
use super::target::Target;
use crate::config::HostPort;

/// Backoff after the first failed attempt, from its start; doubles, ±50 %.
const MIN_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// The failed attempt that is logged; then one a minute.
const LOGGED_ATTEMPT: u32 = 3;
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// The ways to find the primary.
#[derive(Clone, Debug)]
pub enum Route {
    /// One address.
    Direct(Address),
    /// Sentinels, with the parameters of connections to them.
    Sentinels {
        addresses: Vec<HostPort>,
        master: String,
        target: Target,
    },
}

/// The store of a fleet.
#[derive(Clone, Debug)]
pub struct Store {
    pub route: Route,
    pub target: Target,
    pub keys: Keys,
}

/// The settings that a reload may change.
#[derive(Clone, Debug)]
pub struct Setup {
    pub store: Store,
    /// The replica and the seed never change.
    pub settings: Settings,
}

/// The state of the link.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    pub state: State,
    /// When the state began.
    pub since: Instant,
    /// The number of replicas that the store last counted; zero before.
    pub replicas: u32,
    /// Whether replicas have different keys.
    pub keys_differ: bool,
    /// The primary that the link is connected to.
    pub store: Option<Address>,
}

type Replies = FuturesUnordered<
    Pin<Box<dyn Future<Output = (CommandId, Instant, Result<Reply, StoreError>)> + Send>>,
>;
pub(super) type Connecting =
    Pin<Box<dyn Future<Output = Result<(Address, Connection), StoreError>> + Send>>;
/// Opens a connection, to the node of a cluster if one is named, after a number of failures.
pub(super) type Open = Arc<dyn Fn(Setup, Option<Address>, u32) -> Connecting + Send + Sync>;

/// The link of one replica.
pub struct Link {
    setup: watch::Receiver<Setup>,
    status: watch::Sender<LinkStatus>,
    origin: Instant,
    machine: Machine,
    open: Open,
    connection: Option<Connection>,
    connecting: Option<Connecting>,
    /// When the last attempt to connect begins or began.
    attempt: Instant,
    /// The node of a cluster to connect to next, in place of the configured address.
    moved: Option<Address>,
    replies: Replies,
    failures: u32,
    logged: Option<Instant>,
    metrics: Option<FleetMetrics>,
    /// The process ends.
    ends: bool,
}

impl Link {
    /// Returns a link without a connection.
    pub fn new(mut setup: watch::Receiver<Setup>) -> Self {
        let settings = setup.borrow_and_update().settings;
        let status = LinkStatus {
            state: State::Away,
            since: Instant::now(),
            replicas: 0,
            keys_differ: false,
            store: None,
        };
        Self {
            setup,
            status: watch::Sender::new(status),
            origin: Instant::now(),
            machine: Machine::new(settings, Time::default()),
            open: Arc::new(|setup, moved, failures| Box::pin(open(setup, moved, failures))),
            connection: None,
            connecting: None,
            attempt: Instant::now(),
            moved: None,
            replies: FuturesUnordered::new(),
            failures: 0,
            logged: None,
            metrics: None,
            ends: false,
        }
    }

    /// Returns the sender of the state, for a link that does not run.
    #[cfg(test)]
    pub(super) fn into_status(self) -> watch::Sender<LinkStatus> {
        self.status
    }

    /// Replaces the way to the store.
    #[cfg(test)]
    pub(super) fn with_open(mut self, open: Open) -> Self {
        self.open = open;
        self
    }

    /// Measures the duration of commands.
    #[must_use]
    pub fn with_metrics(mut self, metrics: FleetMetrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    fn now(&self) -> Time {
        Time::new(self.origin.elapsed())
    }

    /// Returns the moment from which times in events count.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// Returns the state, which follows that of the link.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.subscribe()
    }

    /// Runs until [`Event::Bye`] has been processed, or the sender of events is dropped. Outputs
    /// other than commands and connections go to `publish`, which must not block. An event that it
    /// returns is processed next.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut publish: impl FnMut(Output) -> Option<Event>,
    ) {
        self.connecting = Some(self.connect(Duration::ZERO));
        let (mut due, mut out) = (VecDeque::new(), Vec::new());
        while let Some(event) = self.next_event(&mut events).await {
            due.push_back(event);
            while let Some(event) = due.pop_front() {
                self.ends |= matches!(event, Event::Bye);
                self.machine.handle(self.now(), event, &mut out);
                for output in out.drain(..) {
                    if matches!(output, Output::Disconnect) && self.ends {
                        return;
                    }
                    due.extend(self.process(output).and_then(&mut publish));
                }
            }
        }
    }

    /// Waits for the next event; `None` at the end.
    async fn next_event(&mut self, events: &mut mpsc::Receiver<Event>) -> Option<Event> {
        loop {
            let wake = self
                .machine
                .wake_at()
                .map(|at| self.origin + at.since_origin());
            let wake = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            let setup = &mut self.setup;
            let settings = async {
                match setup.changed().await {
                    Ok(()) => setup.borrow_and_update().settings,
                    // Never changes again.
                    Err(_) => pending().await,
                }
            };
            let connecting = async {
                match &mut self.connecting {
                    Some(connecting) => connecting.await,
                    None => pending().await,
                }
            };
            let push = async {
                match &mut self.connection {
                    Some(connection) => connection.pushes.recv().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                connected = connecting => {
                    self.connecting = None;
                    if let Some(event) = self.connected(connected) {
                        return Some(event);
                    }
                }
                Some((id, began, reply)) = self.replies.next() => {
                    return Some(self.replied(id, began, reply));
                }
                push = push => match push {
                    Some(push) if push.kind != PushKind::Disconnection => {
                        if let Some(push) = message_of(&push) {
                            return Some(Event::Push(push));
                        }
                    }
                    _ => {
                        self.disconnect();
                        return Some(Event::Disconnected);
                    }
                },
                event = events.recv() => return event,
                settings = settings => return Some(Event::Settings(settings)),
                () = wake => return Some(Event::Timer),
            }
        }
    }

    fn replied(
        &mut self,
        id: CommandId,
        began: Instant,
        reply: Result<Reply, StoreError>,
    ) -> Event {
        match reply {
            Ok(reply) => {
                if let Some(metrics) = &self.metrics {
                    metrics.add_command(began.elapsed());
                }
                Event::Reply { id, reply }
            }
            Err(error) => {
                self.moved = error.moved_to().map(Address::Tcp);
                if let Some(node) = &self.moved {
                    info!(%node, "fleet's keys are on another node; connecting to it");
                } else if self.failures == 0 || self.is_log_due() {
                    let Diagnosis { cause, advice } = error.diagnosis();
                    warn!(
                        cause,
                        advice, "fleet store failed a command; connecting again"
                    );
                }
                self.disconnect();
                Event::Disconnected
            }
        }
    }

    fn connected(&mut self, connected: Result<(Address, Connection), StoreError>) -> Option<Event> {
        match connected {
            Ok((address, connection)) => {
                let (run, now) = (connection.run, connection.now);
                self.connection = Some(connection);
                self.status
                    .send_modify(|status| status.store = Some(address));
                Some(Event::Connected { run, now })
            }
            Err(error) => {
                self.failures += 1;
                self.log_failure(&error);
                // An attempt that timed out has waited: a network that loses everything may be back.
                let wait = backoff(self.failures).saturating_sub(self.attempt.elapsed());
                self.connecting = Some(self.connect(wait));
                None
            }
        }
    }

    /// Returns `true` once a minute while the store is away.
    fn is_log_due(&mut self) -> bool {
        let due = self
            .logged
            .is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL);
        if due {
            self.logged = Some(Instant::now());
        }
        due
    }

    fn log_failure(&mut self, error: &StoreError) {
        if self.failures >= LOGGED_ATTEMPT && self.is_log_due() {
            let failures = self.failures;
            let Diagnosis { cause, advice } = error.diagnosis();
            warn!(
                cause,
                advice, failures, "fleet store unavailable; limits are not shared"
            );
        }
    }

    /// Processes what concerns the connection; returns other outputs.
    fn process(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Send { id, command } => {
                if let Some(connection) = &self.connection {
                    let setup = self.setup.borrow();
                    let (keys, timing) = (&setup.store.keys, &setup.settings.timing);
                    let reply = connection.primary.send(&command, keys, timing);
                    let began = Instant::now();
                    self.replies
                        .push(Box::pin(async move { (id, began, reply.await) }));
                }
                None
            }
            Output::Disconnect => {
                self.disconnect();
                None
            }
            Output::Members {
                replicas,
                keys_differ,
            } => {
                self.status.send_if_modified(|status| {
                    let before = (status.replicas, status.keys_differ);
                    (status.replicas, status.keys_differ) = (replicas, keys_differ);
                    before != (replicas, keys_differ)
                });
                Some(output)
            }
            Output::State(state) => {
                self.status.send_modify(|status| {
                    (status.state, status.since) = (state, Instant::now());
                });
                if state == State::Joined {
                    (self.failures, self.logged) = (0, None);
                    info!("joined the fleet");
                }
                Some(output)
            }
            output => Some(output),
        }
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.status.send_modify(|status| status.store = None);
        self.replies = FuturesUnordered::new();
        let wait = if self.failures == 0 {
            Duration::ZERO
        } else {
            backoff(self.failures)
        };
        self.failures += 1;
        self.connecting = Some(self.connect(wait));
    }

    /// Connects after a wait.
    fn connect(&mut self, wait: Duration) -> Connecting {
        let (setup, failures) = (self.setup.clone(), self.failures);
        let (open, moved) = (Arc::clone(&self.open), self.moved.take());
        self.attempt = Instant::now() + wait;
        Box::pin(async move {
            sleep(wait).await;
            // As it is by now.
            let setup = setup.borrow().clone();
            open(setup, moved, failures).await
        })
    }
}

/// Connects to the primary. Sentinels are queried each time.
async fn open(
    Setup { store, settings }: Setup,
    moved: Option<Address>,
    failures: u32,
) -> Result<(Address, Connection), StoreError> {
    let address = match (moved, &store.route) {
        (Some(node), _) => Ok(node),
        (None, Route::Direct(address)) => Ok(address.clone()),
        (
            None,
            Route::Sentinels {
                addresses,
                master,
                target,
            },
        ) => sentinels::primary(addresses, master, target, failures).await,
    }?;
    let opening = Connection::open(&address, &store.target, &store.keys, settings.replica);
    let connection = opening.await?;
    Ok((address, connection))
}

fn backoff(failures: u32) -> Duration {
    let doubled = MIN_BACKOFF * 2_u32.pow(failures.saturating_sub(1).min(8));
    doubled.min(MAX_BACKOFF).mul_f64(0.5 + fastrand::f64())
}

#[cfg(test)]
mod tests {
    use fleet_protocol::command::KeyFingerprint;
    use fleet_protocol::{Replica, Timing};
    use tokio::time::advance;

    use super::*;

    fn link() -> Link {
        let target = Target {
            tls: None,
            user: None,
            password: None,
            database: 0,
            timeout: Duration::from_secs(1),
        };
        let store = Store {
            route: Route::Direct(Address::Unix("/none".into())),
            target,
            keys: Keys::new("test"),
        };
        let settings = Settings {
            timing: Timing {
                lease: Duration::from_secs(5),
                timeout: Duration::from_millis(500),
            },
            replica: Replica(1),
            key: KeyFingerprint(1),
            replicas: 0,
            seed: 1,
        };
        Link::new(watch::channel(Setup { store, settings }).1)
    }

    #[tokio::test(start_paused = true)]
    async fn attempt_that_took_longer_than_the_backoff_is_repeated_at_once() {
        let mut link = link();
        link.connecting = Some(link.connect(Duration::ZERO));
        advance(MAX_BACKOFF * 2).await;
        link.connected(Err(StoreError::NotPrimary));
        assert_eq!(link.attempt, Instant::now());
        // This one fails in no time.
        link.connected(Err(StoreError::NotPrimary));
        assert!(link.attempt >= Instant::now() + MIN_BACKOFF / 2);
    }
}
