//! One replica: the keeper of a credential, a limit, gates and suppressed scopes, as the gateway
//! composes them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use citrix_wire::citrix::clouds::Cloud as CitrixCloud;
use citrix_wire::citrix::{AuthorizationScheme, TokenDialect};
use http::HeaderValue;
use http::uri::{Authority, Scheme};
use prometheus::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::clocks::CLOCKS;
use super::cloud::{Cloud, REQUEST_TIMEOUT, TokenService};
use super::fairness::Fairness;
use super::pause::{Pausable, Pause};
use super::plan::Plan;
use super::trace::Trace;
use crate::config::{
    Credential, InstanceId, Quota, SecretSource, TokenSettings, UpstreamEndpoint, UpstreamUrl,
};
use crate::fleet::Fleet;
use crate::fleet::simulated::SimulatedStore;
use crate::limit::gate::Gates;
use crate::limit::owner::OwnerKey;
use crate::limit::scope::Scope;
use crate::limit::{Asker, Limit};
use crate::system::clock::Clock;
use crate::system::files::FileReader;
use crate::token::keeper::{Keeper, KeeperContext, KeeperSettings};
use crate::token::metrics::TokenMetrics;
use crate::token::rejections::Rejections;
use crate::token::slot::TokenSlot;

/// The longest wait that a 429 of the service asks for, with jitter.
const MAX_GATE: Duration = Duration::from_secs(46);
pub(super) const STARTUP_WAIT: Duration = Duration::from_secs(5);
/// `token.min_forced_interval`.
pub(super) const FORCED_INTERVAL: Duration = Duration::from_secs(10);

/// Everything outside of a replica.
pub(super) struct Outside {
    pub(super) trace: Arc<Trace>,
    pub(super) cloud: Arc<Cloud>,
    /// The store of several replicas.
    pub(super) store: Option<SimulatedStore>,
}

/// The tasks of a process, which end with it.
#[derive(Default)]
pub(super) struct Tasks {
    pub(super) keeper: JoinSet<()>,
    pub(super) link: JoinSet<()>,
    pub(super) callers: JoinSet<()>,
}

/// A replica. Dropping it ends its process.
pub(super) struct Gateway {
    pub(super) plan: Plan,
    pub(super) trace: Arc<Trace>,
    pub(super) cloud: Arc<Cloud>,
    pub(super) clock: Clock,
    pub(super) slot: Arc<TokenSlot>,
    pub(super) limit: Limit,
    pub(super) gates: Arc<Gates>,
    pub(super) fleet: Option<Arc<Fleet>>,
    pub(super) rejections: Rejections,
    pub(super) pause: Arc<Pause>,
    pub(super) fairness: Fairness,
    /// When each gate opens by the responses that closed it.
    closed: Mutex<BTreeMap<u128, Instant>>,
    settings: watch::Sender<KeeperSettings>,
}

impl Gateway {
    /// Starts a replica with a client secret. Its keeper runs in `tasks`.
    pub(super) fn start(
        index: usize,
        secret: u64,
        plan: &Plan,
        outside: &Outside,
        tasks: &mut Tasks,
    ) -> Arc<Self> {
        let Outside {
            trace,
            cloud,
            store,
        } = outside;
        let pause = Arc::<Pause>::default();
        let clock = CLOCKS[index];
        let registry = Registry::new();
        let credential = credential(secret);
        let (settings, new_settings) =
            watch::channel(KeeperSettings::new(&credential, token_settings(0.75), None));
        let slot = Arc::new(TokenSlot::new());
        let fleet = store.as_ref().map(|store| {
            let (fleet, link) = store.join(index, &registry);
            tasks.link.spawn(Pausable::new(link, &pause));
            fleet
        });
        let metrics = TokenMetrics::register(&registry).unwrap();
        let keeper = Keeper::new(
            Arc::new(credential),
            new_settings,
            Arc::clone(&slot),
            TokenService {
                cloud: Arc::clone(cloud),
                replica: index,
            },
            metrics.customer("acme"),
            KeeperContext {
                clock,
                files: FileReader::register(&registry).unwrap(),
                logins: Arc::default(),
                fleet: fleet.clone(),
            },
        );
        let running = Pausable::new(keeper.run(), &pause);
        tasks.keeper.spawn(async move { match running.await {} });
        let quota = Quota::AtOnce(NonZeroUsize::new(plan.permits).unwrap());
        let limit = match &fleet {
            None => Limit::new(quota),
            Some(fleet) => {
                let sharing =
                    fleet.sharing("acme", ["monitorodata", "at once"], plan.queue_timeout);
                Limit::shared(quota, sharing.unwrap())
            }
        };
        Arc::new(Self {
            plan: plan.clone(),
            trace: Arc::clone(trace),
            cloud: Arc::clone(cloud),
            clock,
            slot,
            limit,
            gates: fleet
                .as_ref()
                .map_or_else(Arc::default, |fleet| Arc::clone(fleet.gates())),
            fleet,
            rejections: Rejections::default(),
            pause,
            fairness: Fairness::default(),
            closed: Mutex::default(),
            settings,
        })
    }

    /// Reloads the configuration with a client secret.
    pub(super) fn reload(&self, secret: u64, refresh_at: f64) {
        let settings = KeeperSettings::new(&credential(secret), token_settings(refresh_at), None);
        self.settings.send_replace(settings);
    }

    /// Records that a response closed a gate.
    pub(super) fn closed(&self, scope: Scope, until: Instant) {
        let mut closed = self.closed.lock().unwrap();
        let opens = closed.entry(scope.0).or_insert(until);
        *opens = until.max(*opens);
    }

    /// Runs a task of this process.
    pub(super) fn run<F: Future<Output = ()>>(&self, task: F) -> Pausable<F> {
        Pausable::new(task, &self.pause)
    }

    /// Checks that nothing waits and nothing is held.
    pub(super) fn check_idle(&self) {
        let waiting = self.slot.waiting().in_use();
        self.trace.check(waiting == 0 && self.limit.is_idle(), || {
            format!("{waiting} requests wait for a token, {:?}", self.limit)
        });
    }

    /// Checks what holds whenever no task is due.
    pub(super) fn check(&self) {
        for (scope, until) in &*self.closed.lock().unwrap() {
            let expected = Some(*until).filter(|until| *until > Instant::now());
            let opens = self.gates.opens(Scope(*scope));
            // Another replica may have closed it for longer.
            let holds = opens == expected || (self.fleet.is_some() && opens >= expected);
            let wait = opens.map(|opens| opens - Instant::now());
            let is_bounded = wait.is_none_or(|wait| wait <= MAX_GATE);
            self.trace.check(holds && is_bounded, || {
                format!("a gate opens at {opens:?}, not {expected:?}")
            });
        }
    }

    /// Returns a caller as the limit sees it.
    pub(super) fn asker(&self, number: usize) -> Asker {
        let key = OwnerKey::Caller(number as u64);
        let fleet = self.fleet.as_ref();
        Asker {
            key,
            name: fleet.map(|fleet| fleet.caller(key, &format!("caller {number}"))),
        }
    }

    /// Returns the scope of a gate.
    pub(super) fn gate_scope(&self, route: &str, path: &str) -> Scope {
        let shared = self.fleet.as_ref();
        let shared = shared.and_then(|fleet| fleet.gate(b"acme", route, path));
        shared.unwrap_or_else(|| self.gates.scope(b"acme", route, path))
    }
}

fn token_settings(refresh_at: f64) -> TokenSettings {
    TokenSettings {
        refresh_at,
        startup_wait: STARTUP_WAIT,
        request_timeout: REQUEST_TIMEOUT,
        min_forced_interval: FORCED_INTERVAL,
    }
}

fn credential(secret: u64) -> Credential {
    let authority = Authority::from_static("api.example");
    let url = UpstreamUrl::new(Scheme::HTTPS, authority, String::new()).unwrap();
    Credential {
        cloud: CitrixCloud::Commercial,
        customer_id: HeaderValue::from_static("acme"),
        api: UpstreamEndpoint {
            url,
            authorization: AuthorizationScheme::Cws,
        },
        client_id: "client-id".to_owned(),
        client_secret: SecretSource::Plain(format!("secret-{secret}").into()),
        client_secret_next: None,
        instance_id: InstanceId::None,
        token_url: "https://api.example/cctrustoauth2/acme/tokens/clients"
            .parse()
            .unwrap(),
        token_dialect: TokenDialect::Oauth2,
    }
}
