//! The composition root: starts a gateway from a valid configuration, reloads it and stops it.

mod control;
mod members;
pub mod reload;
pub mod worker;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::{join_all, select_all};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::level_filters::LevelFilter;

use crate::admin::{self, Admin};
use crate::app::worker::{Worker, WorkerThread};
use crate::callers::login::{LoginEndpoints, LoginEndpointsError};
use crate::config::{
    BindAddress, Boot, Changes, Config, ConfigFingerprint, ConfigProblem, Limits, ListenAddress,
    Live,
};
use crate::fleet::metrics::FleetMetrics;
use crate::fleet::{FleetThread, Source, TlsFiles};
use crate::inbound::connection::Evictions;
use crate::inbound::connection_count::ConnectionCount;
use crate::inbound::descriptor_budget::DescriptorBudget;
use crate::inbound::intercept_metrics::InterceptMetrics;
use crate::inbound::listener::{self, BindError, BoundSocket, ListenerMode};
use crate::inbound::passed_sockets::{PassedSocketError, PassedSockets, Role};
use crate::inbound::shortage::Shortage;
use crate::inbound::tls::{
    CertificateReloader, HandshakeFailures, InboundTls, InterceptTls, read_authority,
};
use crate::limit::owner::{Resource, ResourceKind};
use crate::observe::RequestLogs;
use crate::observe::metrics::Metrics;
use crate::observe::spans::Spans;
use crate::observe::telemetry::LogHandle;
use crate::site::regions::Regions;
use crate::state::Shared;
use crate::state::lifecycle::{Heartbeats, Lifecycle, Phase};
use crate::state::published::Published;
use crate::system::clock::Clock;
use crate::system::descriptors;
use crate::system::files::FileReader;
use crate::system::memory_limit;
use crate::tls::TlsError;
use crate::token::rejections::Rejections;
use crate::upstream::connections::ConnectionTable;
use crate::upstream::control_plane::SharedControlClient;
use crate::upstream::dial::DialConfig;
use crate::upstream::tls::UpstreamTls;
use control::Control;
use members::Announcement;

/// Connections queued for another worker.
const MAX_TRANSFERS: usize = 256;
/// Timeout for exporting the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// The same when the drain exceeded its limit.
const LATE_FLUSH_TIMEOUT: Duration = Duration::from_millis(300);

/// Reasons why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Binding an address of `[listen]`.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// A socket passed by a service manager.
    #[error(transparent)]
    Passed(#[from] PassedSocketError),
    /// Binding the address of `[admin]`.
    #[error("cannot listen on {0} (admin.address): {1}{hint}", hint = listener::hint(.1))]
    Admin(SocketAddr, #[source] io::Error),
    /// Certificate, key or root files that cannot be used.
    #[error("{}", ConfigProblem::lines(.0))]
    Config(Vec<ConfigProblem>),
    /// The gateway's own token endpoints.
    #[error(transparent)]
    Logins(#[from] LoginEndpointsError),
    /// A metric that is registered twice, which is a bug.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// Out of threads or file descriptors.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
    /// The same for the fleet's thread.
    #[error("cannot start the fleet's thread: {0}")]
    Fleet(#[source] io::Error),
}

/// A valid configuration for [`App::reload`].
pub struct NewConfig {
    pub config: Config,
    /// Its TLS configuration for upstreams, with the roots read at the same time.
    pub tls: UpstreamTls,
}

pub struct App {
    addresses: Addresses,
    lifecycle: Lifecycle,
    shared: Arc<Shared>,
    inbound_tls: Option<InboundTls>,
    workers: Vec<WorkerThread>,
    control: Control,
    /// With a store that replicas share.
    fleet: Option<FleetThread>,
    announcement: Announcement,
    files: FileReader,
    client: SharedControlClient,
    upstream_tls: UpstreamTls,
    dial_config: DialConfig,
    log: Option<LogHandle>,
    /// The configured level; an operator may have set another.
    log_level: LevelFilter,
    /// Of the configuration at start, and of the present one.
    fingerprints: [ConfigFingerprint; 2],
    admin: JoinSet<()>,
    /// Kept so that the files of unix sockets are removed at the end.
    bound: Vec<BoundSocket>,
}

/// The bound addresses, with the actual port in place of 0.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The listeners for callers; `true` with TLS.
    pub listeners: Vec<(BindAddress, bool)>,
    /// The listeners of `[intercept]`.
    pub intercept: Vec<BindAddress>,
    pub admin: SocketAddr,
}

impl Addresses {
    /// Returns the TCP addresses for callers.
    fn of_callers(&self) -> Vec<SocketAddr> {
        let listeners = self.listeners.iter().map(|(address, _)| address);
        let of_tcp = |address: &BindAddress| match address {
            BindAddress::Tcp(address) => Some(*address),
            BindAddress::Unix(_) => None,
        };
        listeners
            .chain(&self.intercept)
            .filter_map(of_tcp)
            .collect()
    }
}

/// The outcome of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were closed with requests in flight.
    pub aborted: usize,
}

struct Sockets {
    addresses: Addresses,
    callers: Vec<BoundSocket>,
    admin: TcpListener,
}

impl App {
    /// Binds all sockets, then starts workers, token keepers and the admin listener. Requests are
    /// served from here on, before the first token is available.
    ///
    /// # Errors
    /// When a socket, file or thread is not available. No task is left running.
    pub async fn start(
        config: Config,
        clock: Clock,
        log: Option<LogHandle>,
    ) -> Result<Self, StartError> {
        Self::start_with(config, clock, log, PassedSockets::none()).await
    }

    /// Starts a gateway like [`App::start`], with sockets passed by a service manager.
    ///
    /// # Errors
    /// As [`App::start`], and when a socket matches no configured address.
    pub async fn start_with(
        config: Config,
        clock: Clock,
        log: Option<LogHandle>,
        passed: PassedSockets,
    ) -> Result<Self, StartError> {
        let Config {
            boot,
            live,
            fingerprint,
            ..
        } = config;
        let log_level = boot.log.level;
        let metrics = Metrics::new(boot.workers.get())?;
        metrics.runtimes.add(Handle::current().metrics());
        let files = FileReader::register(metrics.registry())?;
        let StartFiles {
            reloader,
            intercept,
            upstream: upstream_tls,
        } = StartFiles::read(&boot, &live, &metrics, &files, clock)?;
        let Sockets {
            addresses,
            callers: bound,
            admin: admin_listener,
        } = Sockets::bind(&boot, passed)?;
        let dial_config = DialConfig::of(upstream_tls.configs.clone(), &live.upstream)
            .with_own_addresses(addresses.of_callers());
        let inbound_tls = reloader.as_ref().map(CertificateReloader::tls);
        let client = SharedControlClient::from(control::client(&live, &dial_config));
        let fleet = start_fleet(&boot, &live, &upstream_tls, &metrics)?;
        let handle = fleet.as_ref().map(|thread| Arc::clone(thread.fleet()));
        let mut control = Control::new(&metrics, client.clone(), files.clone(), clock)?;
        control.share_logins(handle.clone());
        let logs = request_logs(log.as_ref());
        let published = Published::initial(live, &dial_config, handle);
        let shared = shared(&boot, published, &dial_config, metrics, logs, clock)?;
        let shared = Arc::new(shared);
        warn_of_low_limits(&shared, &shared.published.load().live.limits);
        let lifecycle = Lifecycle::default();
        let modes = listener_modes(&boot, inbound_tls.as_ref(), intercept.as_ref());
        let workers = start_workers(&boot, &bound, &shared, &modes, &lifecycle).await?;
        control.apply(&shared.published.load());
        control.follow_egress(&dial_config);
        let announcement = Announcement::start(&boot.replica, &fingerprint, &shared, &mut control);
        control.share_regions(&shared);
        if let Some(reloader) = reloader {
            control.run(reloader);
        }
        let admin = start_admin(&shared, &lifecycle, boot, log.clone(), admin_listener);
        shared.metrics.reloads.loaded(clock.now());
        Ok(Self {
            addresses,
            lifecycle,
            shared,
            inbound_tls,
            workers,
            control,
            fleet,
            announcement,
            files,
            client,
            upstream_tls,
            dial_config,
            log,
            log_level,
            fingerprints: [fingerprint.clone(), fingerprint],
            admin,
            bound,
        })
    }

    /// Applies the settings of another configuration that may change at run time. Requests in
    /// flight keep the previous one. It cannot fail halfway: all checks are those of [`NewConfig`].
    pub fn reload(&mut self, new: NewConfig) -> Changes {
        let NewConfig { config, tls } = new;
        let [at_start, now] = &self.fingerprints;
        let changes = Changes::between(at_start, now, &config.fingerprint);
        let same_tls = self.upstream_tls.is_equivalent(&tls);
        let upstream = &config.live.upstream;
        let dial_config = if same_tls && self.dial_config.matches(upstream) {
            self.dial_config.clone()
        } else {
            DialConfig::of(tls.configs.clone(), upstream)
                .with_own_addresses(self.addresses.of_callers())
        };
        // Before the limits are named by its key.
        if let (Some(fleet), Some(settings)) = (&self.fleet, &config.live.fleet) {
            let upstream = &config.live.upstream;
            fleet.fleet().configure(settings, upstream, tls.roots());
        }
        let published = self
            .shared
            .published
            .load()
            .successor(config.live, &dial_config);
        self.client
            .replace(control::client(&published.live, &dial_config));
        // Before requests wait for the first token of a new customer.
        self.control.apply(&published);
        let published = Arc::new(published);
        if self.shared.published.load().live.limits != published.live.limits {
            warn_of_low_limits(&self.shared, &published.live.limits);
        }
        self.shared.published.store(Arc::clone(&published));
        let routes: Vec<&str> = published
            .live
            .routes
            .iter()
            .map(|route| route.name())
            .collect();
        let callers: Vec<&str> = published
            .live
            .callers
            .iter()
            .map(|caller| caller.name.as_str())
            .collect();
        self.shared.metrics.retain_series(&routes, &callers);
        if !self.dial_config.same_as(&dial_config) {
            self.control.follow_egress(&dial_config);
            (self.upstream_tls, self.dial_config) = (tls, dial_config);
        }
        self.announcement.reloaded(&config.fingerprint);
        self.fingerprints[1] = config.fingerprint;
        changes
    }

    /// Returns the configured log level.
    pub fn log_level(&self) -> LevelFilter {
        self.log_level
    }

    /// Sets the log level if the configured one has changed; otherwise a level set by an operator
    /// remains. Separate from [`App::reload`], so that the caller can log the reload at the more
    /// verbose level.
    pub fn set_log_level(&mut self, level: LevelFilter) {
        let before = std::mem::replace(&mut self.log_level, level);
        if let Some(log) = self.log.as_ref().filter(|_| level != before) {
            log.levels.set(level);
        }
    }

    /// Returns the bound addresses.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns the state shared by all workers.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the reader of all watched files.
    pub fn file_reader(&self) -> &FileReader {
        &self.files
    }

    /// Returns the TLS configuration for callers, if `[listen.tls]` is set.
    pub fn inbound_tls(&self) -> Option<&InboundTls> {
        self.inbound_tls.as_ref()
    }

    /// Returns the number of connections of callers.
    pub fn connections(&self) -> &ConnectionCount {
        &self.shared.connections
    }

    /// Returns the lifecycle, which can end a drain early.
    pub fn lifecycle(&self) -> Lifecycle {
        self.lifecycle.clone()
    }

    /// Waits until a part of the gateway has panicked, and describes it.
    pub async fn failed(&mut self) -> String {
        let workers = select_all(self.workers.iter_mut().map(|worker| &mut worker.done));
        let fleet = async {
            match &mut self.fleet {
                Some(fleet) => drop((&mut fleet.done).await),
                None => pending().await,
            }
        };
        tokio::select! {
            (_, index, _) = workers => format!("worker {index} ended"),
            error = self.control.failed() => {
                format!("a background task (token, site, certificate or egress proxy) ended: {error}")
            }
            _ = self.admin.join_next() => "the admin listener ended".to_owned(),
            () = fleet => "the fleet's thread ended".to_owned(),
        }
    }

    /// Stops accepting connections, waits up to `limit` for requests in flight, and stops
    /// everything. The admin listener responds until the end. Advancing the lifecycle to `Stopping`
    /// ends the drain early.
    pub async fn drain(self, limit: Duration) -> Drained {
        self.bound.iter().for_each(BoundSocket::stop_accepting);
        self.lifecycle.advance(Phase::Draining);
        self.announcement.draining();
        // Workers close their handles once they have accepted what the kernel had queued. With this
        // one open, the kernel would continue to queue connections.
        drop(self.bound);
        let finished = join_all(self.workers.into_iter().map(|worker| worker.done));
        let limit_exceeded = async {
            sleep(limit).await;
            // Workers close all connections, and `finished` returns their number.
            self.lifecycle.advance(Phase::Stopping);
            pending().await
        };
        let aborted = tokio::select! {
            // The connections of a worker that panicked cannot be counted.
            counts = finished => counts.into_iter().map(Result::unwrap_or_default).sum(),
            () = limit_exceeded => 0,
        };
        let flush_timeout = if self.lifecycle.phase() < Phase::Stopping {
            FLUSH_TIMEOUT
        } else {
            LATE_FLUSH_TIMEOUT
        };
        self.lifecycle.advance(Phase::Stopping);
        if let Some(fleet) = self.fleet {
            fleet.end().await;
        }
        self.shared.spans.flush(flush_timeout).await;
        self.admin.join_all().await;
        Drained { aborted }
    }
}

impl Sockets {
    fn bind(boot: &Boot, mut passed: PassedSockets) -> Result<Self, StartError> {
        let callers = bind(boot, &mut passed)?;
        let admin = bind_admin(boot, &mut passed)?;
        passed.finish()?;
        Ok(Self {
            addresses: addresses(boot, &callers, &admin)?,
            callers,
            admin,
        })
    }
}

fn bind(boot: &Boot, passed: &mut PassedSockets) -> Result<Vec<BoundSocket>, StartError> {
    let some_plain = boot.listeners.iter().any(|listener| !listener.tls);
    let role = |listener: &ListenAddress| {
        if listener.tls && some_plain {
            Role::Tls
        } else {
            Role::Proxy
        }
    };
    let callers = boot.listeners.iter();
    let callers = callers.map(|listener| (role(listener), &listener.address));
    let intercept = intercept_addresses(boot).map(|address| (Role::Intercept, address));
    let mut bound = Vec::new();
    for (role, address) in callers.chain(intercept) {
        bound.push(match passed.take(role, address)? {
            Some(passed) => passed,
            None => BoundSocket::bind(address, boot.unix_mode, boot.is_ipv6_only(address))?,
        });
    }
    Ok(bound)
}

fn intercept_addresses(boot: &Boot) -> impl Iterator<Item = &BindAddress> {
    boot.intercept.iter().flat_map(|it| &it.addresses)
}

/// Returns the protocol of each socket that [`bind`] returns.
fn listener_modes(
    boot: &Boot,
    inbound_tls: Option<&InboundTls>,
    intercept: Option<&InterceptTls>,
) -> Vec<ListenerMode> {
    let callers = boot.listeners.iter().map(|listener| {
        let tls = inbound_tls.filter(|_| listener.tls);
        tls.map_or(ListenerMode::Plain, |tls| ListenerMode::Tls(tls.clone()))
    });
    let intercept = intercept_addresses(boot).zip(intercept.into_iter().cycle());
    let intercept = intercept.map(|(_, tls)| ListenerMode::Intercept(tls.clone()));
    callers.chain(intercept).collect()
}

fn bind_admin(boot: &Boot, passed: &mut PassedSockets) -> Result<TcpListener, StartError> {
    let address = boot.admin.address;
    let listener = match passed.take(Role::Admin, &BindAddress::Tcp(address))? {
        Some(BoundSocket::Tcp(listener) | BoundSocket::Passed(listener)) => Ok(listener),
        // Matched by its name.
        Some(BoundSocket::Unix { .. }) => Err(io::Error::other(
            "the socket passed by the service manager is not a TCP socket",
        )),
        None => listener::bind_tcp(address, boot.is_ipv6_only(&BindAddress::Tcp(address))),
    };
    listener
        .and_then(TcpListener::from_std)
        .map_err(|error| StartError::Admin(address, error))
}

fn addresses(
    boot: &Boot,
    bound: &[BoundSocket],
    admin: &TcpListener,
) -> Result<Addresses, StartError> {
    let mut listeners = Vec::with_capacity(bound.len());
    for (listener, bound) in boot.listeners.iter().zip(bound) {
        listeners.push((bound.address()?, listener.tls));
    }
    let intercept = bound.iter().skip(listeners.len());
    let intercept = intercept
        .map(BoundSocket::address)
        .collect::<Result<_, _>>()?;
    Ok(Addresses {
        listeners,
        intercept,
        admin: admin.local_addr()?,
    })
}

/// Logs which limits of the system are too low for those of the configuration.
fn warn_of_low_limits(shared: &Shared, limits: &Limits) {
    shared.descriptors.warn_if_too_low(limits);
    memory_limit::warn_if_too_low(limits.max_connections);
}

fn shared(
    boot: &Boot,
    published: Published,
    dial_config: &DialConfig,
    metrics: Arc<Metrics>,
    logs: RequestLogs,
    clock: Clock,
) -> Result<Shared, StartError> {
    let fleet = published.fleet().cloned();
    Ok(Shared {
        published: ArcSwap::from_pointee(published),
        in_flight: Resource::new(ResourceKind::InFlight),
        body_bytes: Resource::new(ResourceKind::BodyBytes),
        head_bytes: Resource::new(ResourceKind::HeadBytes),
        stream_bytes: Resource::new(ResourceKind::StreamBytes),
        connections: ConnectionCount::new(boot.workers.get()),
        descriptors: DescriptorBudget::new(descriptors::limit(), boot.workers.get()),
        upstream_connections: ConnectionTable::new(boot.workers.get()),
        heartbeats: Heartbeats::new(boot.workers.get()),
        evictions: Evictions::register(metrics.registry())?,
        handshake_failures: HandshakeFailures::register(metrics.registry())?,
        intercepted: InterceptMetrics::register(metrics.registry())?,
        shortage: Shortage::default(),
        rejections: Rejections::default(),
        regions: Regions::default(),
        groups: Arc::default(),
        windows: Arc::default(),
        gates: fleet
            .as_ref()
            .map(|fleet| Arc::clone(fleet.gates()))
            .unwrap_or_default(),
        fleet,
        login_endpoints: LoginEndpoints::new(metrics.registry())?,
        logs,
        clock,
        spans: Spans::start(&metrics, dial_config.tls(), clock)?,
        metrics,
    })
}

fn start_admin(
    shared: &Arc<Shared>,
    lifecycle: &Lifecycle,
    boot: Boot,
    log: Option<LogHandle>,
    listener: TcpListener,
) -> JoinSet<()> {
    let admin = Admin::new(
        Arc::clone(shared),
        lifecycle.clone(),
        boot.admin,
        boot.replica,
        log,
    );
    let mut tasks = JoinSet::new();
    let mut phases = lifecycle.watch();
    tasks.spawn(async move {
        admin::serve(listener, Arc::new(admin), phases.reached(Phase::Stopping)).await;
    });
    tasks
}

fn request_logs(log: Option<&LogHandle>) -> RequestLogs {
    log.map_or_else(RequestLogs::embedded, |log| log.requests.clone())
}

/// Starts the thread of the fleet, if replicas share a store.
fn start_fleet(
    boot: &Boot,
    live: &Live,
    tls: &UpstreamTls,
    metrics: &Metrics,
) -> Result<Option<FleetThread>, StartError> {
    let (Some(store), Some(fleet)) = (&boot.fleet_store, &live.fleet) else {
        return Ok(None);
    };
    let source = Source {
        store,
        fleet,
        upstream: &live.upstream,
        roots: tls.roots(),
    };
    FleetThread::start(source, FleetMetrics::register(metrics.registry())?)
        .map(Some)
        .map_err(StartError::Fleet)
}

/// The contents of certificate, key and root files at start.
struct StartFiles {
    /// With `[listen.tls]`.
    reloader: Option<CertificateReloader>,
    /// With `[intercept]`.
    intercept: Option<InterceptTls>,
    upstream: UpstreamTls,
}

impl StartFiles {
    /// Reads the files, and logs warnings about them.
    fn read(
        boot: &Boot,
        live: &Live,
        metrics: &Metrics,
        files: &FileReader,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let reloader = match &boot.certificate {
            None => Ok(None),
            Some(certificate) => {
                let expiry = metrics.certificate_expiry()?;
                CertificateReloader::new(certificate.clone(), expiry, files, clock).map(Some)
            }
        };
        let authority = boot.intercept.as_ref().map(|it| &it.authority);
        let authority = authority
            .map(|files| read_authority(files, clock))
            .transpose();
        let upstream = UpstreamTls::new(&live.upstream);
        let inbound = TlsError::both(reloader, authority);
        let (reloader, authority, upstream) = match (inbound, upstream) {
            (Ok((reloader, authority)), Ok(upstream)) => (reloader, authority, upstream),
            (inbound, upstream) => {
                let mut problems = inbound.err().unwrap_or_default();
                problems.extend(upstream.err().map(|error| error.config_problem()));
                return Err(StartError::Config(problems));
            }
        };
        let store = boot
            .fleet_store
            .as_ref()
            .and_then(|store| store.tls.clone());
        if let Some(files) = store {
            let roots = Arc::clone(upstream.roots());
            // Read again for each connection.
            let unused = TlsFiles { roots, files }.client_config();
            unused.map_err(|error| StartError::Config(vec![error.config_problem()]))?;
        }
        let (intercept, warnings) = authority.unzip();
        let warnings = warnings.into_iter().flatten();
        for warning in warnings.chain(upstream.warning.clone()) {
            tracing::warn!("{warning}");
        }
        Ok(Self {
            reloader,
            intercept,
            upstream,
        })
    }
}

async fn start_workers(
    boot: &Boot,
    bound: &[BoundSocket],
    shared: &Arc<Shared>,
    modes: &[ListenerMode],
    lifecycle: &Lifecycle,
) -> Result<Vec<WorkerThread>, StartError> {
    let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..boot.workers.get())
        .map(|_| mpsc::channel(MAX_TRANSFERS))
        .unzip();
    let outboxes: Arc<[_]> = outboxes.into();
    let mut workers = Vec::with_capacity(boot.workers.get());
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let mut listeners = Vec::with_capacity(bound.len());
        for (bound, mode) in bound.iter().zip(modes) {
            listeners.push((bound.handle()?, mode.clone()));
        }
        let work = Worker {
            index,
            shared: Arc::clone(shared),
            listeners,
            phases: lifecycle.watch(),
            inbox,
            workers: Arc::clone(&outboxes),
        };
        workers.push(work.start().await?);
    }
    Ok(workers)
}
