//! The handle of the fleet for all threads.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use citrix_wire::transaction_id::IdGenerator;
use fleet_protocol::machine::{Request, Settings, gate_jitter};
use fleet_protocol::{Event, Keys, Name, Output, Replica, State, Timing};
use rustls::RootCertStore;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::changes::Changes;
use super::dial::Address;
use super::keys::{FleetKeys, NameKind};
use super::link::{Link, LinkStatus, Route, Setup, Store};
use super::metrics::{FleetMetrics, GateOrigin};
use super::requests::{Requests, Response};
use super::target::{Target, TlsFiles};
use crate::config::{self, FleetStore, StoreAddress, UpstreamSettings};
use crate::limit::gate::Gates;
use crate::limit::owner::OwnerKey;
use crate::limit::scope::{Scope, first_segment};
use crate::limit::shared::queue::SharedQueue;
use crate::limit::shared::{SharedLimits, Sharing};
use crate::system::sealing::ShortSecret;

/// Events that await processing. Beyond it a gated request is rejected and a hint is dropped.
const MAX_EVENTS: usize = 1 << 16;
/// Names of callers that are kept, so that few are hashed again.
const MAX_CALLERS: usize = 4096;
/// Maximum time to open a connection to the store: below the 2 s within which a replica joins again.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// The configuration that the fleet's settings are taken from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The store, as at start.
    pub store: &'a FleetStore,
    pub fleet: &'a config::Fleet,
    pub upstream: &'a UpstreamSettings,
    /// The roots of `[upstream]`.
    pub roots: &'a Arc<RootCertStore>,
}

/// A fleet that shares a store, for all threads. No function blocks.
pub struct Fleet {
    store: FleetStore,
    replica: Replica,
    keys: ArcSwap<FleetKeys>,
    events: mpsc::Sender<Event>,
    setup: watch::Sender<Setup>,
    status: watch::Receiver<LinkStatus>,
    requests: Requests,
    changes: Changes,
    limits: Arc<SharedLimits>,
    gates: Arc<Gates>,
    callers: Mutex<HashMap<OwnerKey, Name>>,
    metrics: FleetMetrics,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fleet").field(&self.replica).finish()
    }
}

impl Fleet {
    /// Creates a fleet and its link, which must run.
    ///
    /// # Errors
    /// If a key is too short.
    pub(super) fn new(
        source: Source<'_>,
        metrics: FleetMetrics,
    ) -> Result<(Arc<Self>, Link, mpsc::Receiver<Event>), ShortSecret> {
        let replica = Replica(fastrand::u32(..));
        let keys = source.keys()?;
        let (setup, setups) = watch::channel(source.setup(replica, &keys));
        let (events, receiver) = mpsc::channel(MAX_EVENTS);
        let link = Link::new(setups).with_metrics(metrics.clone());
        let limits = SharedLimits::new(events.clone(), link.origin());
        let fleet = Self {
            store: source.store.clone(),
            replica,
            keys: ArcSwap::from_pointee(keys),
            events,
            setup,
            status: link.status(),
            requests: Requests::default(),
            changes: Changes::default(),
            limits,
            gates: Arc::default(),
            callers: Mutex::default(),
            metrics,
        };
        Ok((Arc::new(fleet), link, receiver))
    }

    /// Applies reloaded settings. The password applies from the next connection on.
    pub fn configure(
        &self,
        fleet: &config::Fleet,
        upstream: &UpstreamSettings,
        roots: &Arc<RootCertStore>,
    ) {
        let source = Source {
            store: &self.store,
            fleet,
            upstream,
            roots,
        };
        // The check of the configuration rejects short keys.
        let Ok(keys) = source.keys() else { return };
        self.setup.send_replace(source.setup(self.replica, &keys));
        self.keys.store(Arc::new(keys));
        self.lock_callers().clear();
    }

    /// Returns `true` if logins and tokens are shared.
    pub fn shares_tokens(&self) -> bool {
        self.store.tokens
    }

    fn lock_callers(&self) -> MutexGuard<'_, HashMap<OwnerKey, Name>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the limits that replicas share; `None` if they share none.
    pub fn limits(&self) -> Option<&Arc<SharedLimits>> {
        self.store.limits.then_some(&self.limits)
    }

    /// Returns how a customer's limit is shared; `None` if it is not. `kind` names the service and
    /// the quota.
    pub fn sharing(
        &self,
        customer: &str,
        kind: [&str; 2],
        timeout: Duration,
    ) -> Option<Sharing<'_>> {
        let limits = self.limits()?;
        // Equal ids may differ in case.
        let customer = customer.to_ascii_lowercase();
        let [service, quota] = kind.map(str::as_bytes);
        let name = self
            .keys()
            .name(NameKind::Limit, &[customer.as_bytes(), service, quota]);
        Some(Sharing {
            limits,
            name,
            timeout,
        })
    }

    /// Returns the name of a caller in the store: of a configured one by its `name`, else of the
    /// client host.
    pub fn caller(&self, key: OwnerKey, name: &str) -> Name {
        let mut callers = self.lock_callers();
        if let Some(known) = callers.get(&key) {
            return *known;
        }
        let host = match key {
            OwnerKey::Caller(_) => None,
            OwnerKey::Address(address) => Some(address.to_string()),
            OwnerKey::Unix => Some("unix".to_owned()),
        };
        let parts: [&[u8]; 2] = match &host {
            None => [b"caller", name.as_bytes()],
            Some(host) => [b"host", host.as_bytes()],
        };
        let hashed = self.keys().name(NameKind::Caller, &parts);
        if callers.len() >= MAX_CALLERS {
            callers.clear();
        }
        callers.insert(key, hashed);
        hashed
    }

    /// Returns the gates that the fleet closes.
    pub fn gates(&self) -> &Arc<Gates> {
        &self.gates
    }

    /// Returns the scope of a gate that replicas share; `None` if they share none.
    pub fn gate(&self, customer: &[u8], route: &str, path: &str) -> Option<Scope> {
        self.limits()?;
        let segment = first_segment(path).unwrap_or_default();
        let parts = [customer, route.as_bytes(), segment.as_bytes()];
        Some(self.keys().name(NameKind::Gate, &parts).into())
    }

    /// Closes a gate of [`Fleet::gate`] in the other replicas. Returns the jitter that this one adds.
    pub fn close_gate(&self, scope: Scope, wait: Duration) -> Duration {
        if !self.store.limits {
            return Duration::ZERO;
        }
        self.metrics.count_gate(GateOrigin::Here);
        let place = scope.into();
        // Without room for it, the others learn it from Citrix.
        let _ = self.events.try_send(Event::GateClosed { place, wait });
        gate_jitter(wait, fastrand::f64())
    }

    /// Returns the number of this process in the store.
    pub fn replica(&self) -> Replica {
        self.replica
    }

    /// Returns the generator of ids that name this replica.
    pub fn ids(&self) -> IdGenerator {
        IdGenerator::of_replica(self.replica.0)
    }

    /// Returns the names and seals of the present key. A reload may replace it.
    pub fn keys(&self) -> Guard<Arc<FleetKeys>> {
        self.keys.load()
    }

    /// Returns the counters.
    pub fn metrics(&self) -> &FleetMetrics {
        &self.metrics
    }

    /// Returns the state of the link.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    /// Follows changes of the token, verdict or lock of an identity. A notification may be
    /// spurious: after each connection one is due, since pushes may have been missed.
    pub fn token_changes(&self, identity: Name) -> watch::Receiver<()> {
        self.changes.follow(identity)
    }

    /// Sends a request to the store and returns its response; `None` without a store.
    pub async fn request(&self, request: Request) -> Option<Response> {
        let (id, response) = self.requests.add()?;
        if self
            .events
            .try_send(Event::Request { id, request })
            .is_err()
        {
            self.requests.finish(id, None);
        }
        // The link responds before; its thread may have ended.
        timeout(self.store.lease, response).await.ok()?.ok()?
    }

    /// Returns queues of which this replica holds permits, by their names in the store.
    pub(super) fn held_queues(&self) -> Vec<(Name, Arc<SharedQueue>)> {
        self.limits.held()
    }

    /// Passes on what this replica holds, and ends the link.
    pub(super) async fn bye(&self) {
        let _ = self.events.send(Event::Bye).await;
    }

    /// Processes an output of the link. Returns an event that is due because of it.
    pub(super) fn publish(&self, output: Output) -> Option<Event> {
        self.count(&output);
        match output {
            Output::Response { id, body, now } => {
                self.requests
                    .finish(id, body.map(|body| Response { body, now }));
            }
            Output::Granted {
                queue,
                caller,
                permit,
                by,
            } => return self.limits.granted(queue, caller, permit, by),
            Output::GateClosed { place, wait } => {
                let scope = place.into();
                // Another announcement of the same gate only extends the wait.
                if self.gates.opens(scope).is_none() {
                    self.metrics.count_gate(GateOrigin::There);
                }
                self.gates.close(scope, Instant::now() + wait);
            }
            Output::Reserved { limit, slot } => self.limits.reserved(limit, slot),
            Output::TokenChanged(identity) => self.changes.notify(identity),
            Output::State(State::Joined) => self.changes.notify_all(),
            _ => {}
        }
        None
    }
}

impl Fleet {
    fn count(&self, output: &Output) {
        match output {
            Output::State(state) => {
                self.metrics.set_state(*state);
                let assumed = self.setup.borrow().settings.replicas;
                if *state != State::Joined && assumed > 0 {
                    self.metrics.set_members(assumed, false);
                }
            }
            Output::Members {
                replicas,
                keys_differ,
            } => self.metrics.set_members(*replicas, *keys_differ),
            Output::Lost(_) => self.metrics.count_lost_lease(),
            _ => {}
        }
    }
}

impl Source<'_> {
    /// Derives the keys.
    ///
    /// # Errors
    /// If one is too short.
    pub fn keys(&self) -> Result<FleetKeys, ShortSecret> {
        let secrets = self.fleet.secrets.as_ref().ok_or(ShortSecret)?;
        FleetKeys::new(
            &self.store.name,
            &secrets.key,
            secrets.key_previous.as_ref(),
        )
    }

    fn setup(&self, replica: Replica, keys: &FleetKeys) -> Setup {
        Setup {
            store: self.link_store(),
            settings: Settings {
                timing: Timing {
                    lease: self.store.lease,
                    timeout: self.fleet.timeout,
                },
                replica,
                key: keys.fingerprint(),
                replicas: self.fleet.replicas.map_or(0, Into::into),
                seed: replica.0.into(),
            },
        }
    }

    /// Returns the parameters of the link.
    pub fn link_store(&self) -> Store {
        let store = self.store;
        let tls = store.tls.clone().map(|files| TlsFiles {
            roots: Arc::clone(self.roots),
            files,
        });
        let secrets = self.fleet.secrets.as_ref();
        let target = Target {
            tls,
            user: store.user.clone(),
            password: secrets.and_then(|secrets| secrets.password.clone()),
            database: store.database,
            timeout: self.upstream.connect_timeout.min(MAX_CONNECT_TIMEOUT),
        };
        let route = match (&store.sentinels, &store.address) {
            (Some(sentinels), _) => Route::Sentinels {
                addresses: sentinels.addresses.clone(),
                master: sentinels.master.clone(),
                target: Target {
                    user: None,
                    password: sentinels.password.clone(),
                    database: 0,
                    ..target.clone()
                },
            },
            (None, StoreAddress::Tcp(address)) => Route::Direct(Address::Tcp(address.clone())),
            (None, StoreAddress::Unix(path)) => Route::Direct(Address::Unix(path.clone())),
        };
        Store {
            route,
            target,
            keys: Keys::new(&store.name),
        }
    }
}
