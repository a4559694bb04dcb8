//! The composition root: a checked configuration becomes a running gateway, and another takes its place.

mod control;
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
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::level_filters::LevelFilter;

use crate::admin::{self, Admin};
use crate::app::worker::{Worker, WorkerThread};
use crate::callers::login::{LoginEndpoints, LoginEndpointsError};
use crate::config::{BindAddress, Boot, Changes, Config, ConfigFingerprint, ListenAddress};
use crate::inbound::connection_count::ConnectionCount;
use crate::inbound::listener::{self, BindError, BoundSocket};
use crate::inbound::passed_sockets::{PassedSocketError, PassedSockets, Role};
use crate::inbound::shortage::Shortage;
use crate::inbound::tls::{CertificateReloader, InboundTls};
use crate::limit::gate::Gates;
use crate::observe::metrics::Metrics;
use crate::observe::spans::Spans;
use crate::observe::telemetry::LogHandle;
use crate::site::regions::Regions;
use crate::state::Shared;
use crate::state::lifecycle::{Heartbeats, Lifecycle, Phase};
use crate::state::published::Published;
use crate::system::clock::Clock;
use crate::tls::TlsError;
use crate::token::rejections::Rejections;
use crate::upstream::control_plane::SharedControlClient;
use crate::upstream::dial::DialConfig;
use crate::upstream::origin::InvalidServerName;
use crate::upstream::tls::UpstreamTls;
use control::Control;

/// Connections on their way from one worker to another.
const HANDED_OVER: usize = 256;
/// How long the end may wait for a collector to accept the last spans, and how long when it is overdue.
const FLUSH: Duration = Duration::from_secs(3);
const LATE_FLUSH: Duration = Duration::from_millis(300);

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address of `[listen]`.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// What a service manager passed.
    #[error(transparent)]
    Passed(#[from] PassedSocketError),
    /// The address of `[admin]`.
    #[error("cannot listen on {0} for the admin side (admin.address): {1}{hint}", hint = listener::hint(.1))]
    Admin(SocketAddr, #[source] io::Error),
    /// Certificates or roots.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An upstream no certificate can be for.
    #[error(transparent)]
    Upstream(#[from] InvalidServerName),
    /// The gateway's own token endpoints.
    #[error(transparent)]
    Logins(#[from] LoginEndpointsError),
    /// A metric registered twice: a mistake of ours.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// Threads or descriptors.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
}

/// A configuration that may take the place of the one in force.
pub struct NewConfig {
    /// Without a mistake in it.
    pub config: Config,
    /// What it says of TLS towards Citrix, with the roots as they are now.
    pub tls: UpstreamTls,
}

/// Why a configuration without mistakes cannot be used all the same.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// An upstream no certificate can be for.
    #[error(transparent)]
    Upstream(#[from] InvalidServerName),
}

/// A running gateway.
pub struct App {
    addresses: Addresses,
    lifecycle: Lifecycle,
    shared: Arc<Shared>,
    inbound_tls: Option<InboundTls>,
    workers: Vec<WorkerThread>,
    control: Control,
    client: SharedControlClient,
    upstream_tls: UpstreamTls,
    dial_config: DialConfig,
    log: Option<LogHandle>,
    /// As it was last configured; an operator may have set another.
    log_level: LevelFilter,
    /// The configuration's text at the start, and now.
    fingerprints: [ConfigFingerprint; 2],
    admin: JoinSet<()>,
    /// Held so that a unix socket's file goes when the gateway does.
    bound: Vec<BoundSocket>,
}

/// Where a gateway was bound: the real ports where 0 was asked for.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// For callers, and whether they speak TLS there.
    pub listeners: Vec<(BindAddress, bool)>,
    /// For operators.
    pub admin: SocketAddr,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections with work in flight that were cut off.
    pub cut: usize,
}

impl App {
    /// Binds every socket, then starts workers, keepers and the admin side. Callers are served from here on,
    /// also before there is a token.
    ///
    /// # Errors
    /// When a socket, a file or a thread cannot be had; nothing is left running then.
    pub async fn start(
        config: Config,
        clock: Clock,
        log: Option<LogHandle>,
    ) -> Result<Self, StartError> {
        Self::start_with(config, clock, log, PassedSockets::none()).await
    }

    /// As [`App::start`], with the sockets that a service manager passed in the place of those it would bind.
    ///
    /// # Errors
    /// As [`App::start`], and when a socket fits nothing that is configured.
    pub async fn start_with(
        config: Config,
        clock: Clock,
        log: Option<LogHandle>,
        mut passed: PassedSockets,
    ) -> Result<Self, StartError> {
        let Config {
            boot,
            live,
            fingerprint,
            ..
        } = config;
        let log_level = boot.log.level;
        let bound = bind(&boot, &mut passed)?;
        let admin_listener = bind_admin(&boot, &mut passed)?;
        passed.finish()?;
        let addresses = addresses(&boot, &bound, &admin_listener)?;
        let upstream_tls = UpstreamTls::new(&live.upstream)?;
        let dial_config = DialConfig::new(
            Arc::clone(&upstream_tls.config),
            live.upstream.egress.clone(),
        );

        let metrics = Metrics::new(boot.workers.get())?;
        let login_endpoints = LoginEndpoints::new(metrics.registry())?;
        let reloader = reloader(&boot, &metrics, clock)?;
        let inbound_tls = reloader.as_ref().map(CertificateReloader::tls);
        let client = SharedControlClient::from(control::client(&live, &dial_config));
        let mut control = Control::new(&metrics, client.clone(), clock)?;
        let spans = Spans::start(&metrics, dial_config.tls(), clock)?;
        let shared = Arc::new(Shared {
            published: ArcSwap::from_pointee(Published::first(live, &dial_config)?),
            metrics,
            in_flight: Arc::default(),
            batch_bytes: Arc::default(),
            connections: ConnectionCount::new(boot.workers.get()),
            heartbeats: Heartbeats::new(boot.workers.get()),
            shortage: Shortage::default(),
            rejections: Rejections::default(),
            regions: Regions::default(),
            gates: Gates::default(),
            login_endpoints,
            clock,
            spans,
        });
        let lifecycle = Lifecycle::default();
        let workers =
            start_workers(&boot, &bound, &shared, inbound_tls.as_ref(), &lifecycle).await?;

        control.follow(&shared.published.load());
        control.follow_egress(&dial_config);
        if let Some(reloader) = reloader {
            control.run(reloader);
        }
        let answers = Admin::new(
            Arc::clone(&shared),
            lifecycle.clone(),
            boot.admin,
            log.clone(),
        );
        let mut admin = JoinSet::new();
        let mut phases = lifecycle.watch();
        admin.spawn(async move {
            admin::serve(
                admin_listener,
                Arc::new(answers),
                phases.reached(Phase::Stopping),
            )
            .await;
        });
        shared.metrics.reloads.loaded(clock.now());
        Ok(Self {
            addresses,
            lifecycle,
            shared,
            inbound_tls,
            workers,
            control,
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

    /// Puts another configuration in force, as far as it may change while the program runs. Requests in flight keep
    /// the one they began with.
    ///
    /// # Errors
    /// When it cannot be used; nothing has changed then.
    pub fn reload(&mut self, new: NewConfig) -> Result<Changes, ReloadError> {
        let NewConfig { config, tls } = new;
        let [at_start, now] = &self.fingerprints;
        let changes = Changes::between(at_start, now, &config.fingerprint);
        let same_tls = self.upstream_tls.is_equivalent(&tls);
        let egress = &config.live.upstream.egress;
        let dial_config = if same_tls && self.dial_config.matches(egress) {
            self.dial_config.clone()
        } else {
            DialConfig::new(Arc::clone(&tls.config), egress.clone())
        };
        let published = self
            .shared
            .published
            .load()
            .succeed(config.live, &dial_config)?;
        self.client
            .replace(control::client(&published.live, &dial_config));
        // Before anybody waits for its first token.
        self.control.follow(&published);
        let published = Arc::new(published);
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
        self.fingerprints[1] = config.fingerprint;
        Ok(changes)
    }

    /// The level of the log as it was last configured.
    pub fn log_level(&self) -> LevelFilter {
        self.log_level
    }

    /// Has the log follow the configuration, unless that says what it said before: an operator may have set another
    /// level since. Apart from [`App::reload`], so that a line about it can be written at the more talkative level.
    pub fn set_log_level(&mut self, level: LevelFilter) {
        let before = std::mem::replace(&mut self.log_level, level);
        if let Some(log) = self.log.as_ref().filter(|_| level != before) {
            log.levels.set(level);
        }
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What workers share, for those who look in from outside.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// TLS towards callers, if it is spoken.
    pub fn inbound_tls(&self) -> Option<&InboundTls> {
        self.inbound_tls.as_ref()
    }

    /// The counts of callers' connections.
    pub fn connections(&self) -> &ConnectionCount {
        &self.shared.connections
    }

    /// A handle that can cut a drain short.
    pub fn lifecycle(&self) -> Lifecycle {
        self.lifecycle.clone()
    }

    /// Returns when a part of the gateway ended that never should: it panicked.
    pub async fn failed(&mut self) -> String {
        let workers = select_all(self.workers.iter_mut().map(|worker| &mut worker.done));
        tokio::select! {
            (_, index, _) = workers => format!("worker {index} ended"),
            error = self.control.failed() => {
                format!(
                    "a token keeper, a site agent, or who watches certificates or the egress proxy ended: {error}"
                )
            }
            _ = self.admin.join_next() => "the admin listener ended".to_owned(),
        }
    }

    /// Takes no more connections, lets those in flight finish for `limit`, and ends everything. The admin side
    /// answers until the end. Moving the lifecycle on to `Stopping` cuts it short.
    pub async fn drain(self, limit: Duration) -> Drained {
        self.bound.iter().for_each(BoundSocket::stop_accepting);
        self.lifecycle.advance(Phase::Draining);
        // The workers close theirs when nobody is left at the door. With ours open, the kernel would go on taking
        // connections that nobody accepts.
        drop(self.bound);
        let finished = join_all(self.workers.into_iter().map(|worker| worker.done));
        let out_of_patience = async {
            sleep(limit).await;
            // Workers answer at once now; `finished` tells how many connections they cut.
            self.lifecycle.advance(Phase::Stopping);
            pending().await
        };
        let cut = tokio::select! {
            // A worker that panicked cut nothing that could be counted.
            cuts = finished => cuts.into_iter().map(Result::unwrap_or_default).sum(),
            () = out_of_patience => 0,
        };
        // Whoever had to cut it short has no patience left.
        let flush = if self.lifecycle.phase() < Phase::Stopping {
            FLUSH
        } else {
            LATE_FLUSH
        };
        self.lifecycle.advance(Phase::Stopping);
        self.shared.spans.flush(flush).await;
        self.admin.join_all().await;
        Drained { cut }
    }
}

fn bind(boot: &Boot, passed: &mut PassedSockets) -> Result<Vec<BoundSocket>, StartError> {
    let some_plain = boot.listeners.iter().any(|listener| !listener.tls);
    let bind = |listener: &ListenAddress| {
        let role = if listener.tls && some_plain {
            Role::Tls
        } else {
            Role::Proxy
        };
        match passed.take(role, &listener.address)? {
            Some(passed) => Ok(passed),
            None => Ok(BoundSocket::bind(&listener.address, boot.unix_mode)?),
        }
    };
    boot.listeners.iter().map(bind).collect()
}

fn bind_admin(boot: &Boot, passed: &mut PassedSockets) -> Result<TcpListener, StartError> {
    let address = boot.admin.address;
    let listener = match passed.take(Role::Admin, &BindAddress::Tcp(address))? {
        Some(BoundSocket::Tcp(listener) | BoundSocket::Passed(listener)) => Ok(listener),
        // It fits by its name alone.
        Some(BoundSocket::Unix { .. }) => Err(io::Error::other(
            "the socket that was passed for it is none of TCP",
        )),
        None => listener::bind_tcp(address),
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
    Ok(Addresses {
        listeners,
        admin: admin.local_addr()?,
    })
}

fn reloader(
    boot: &Boot,
    metrics: &Metrics,
    clock: Clock,
) -> Result<Option<CertificateReloader>, StartError> {
    let Some(files) = &boot.certificate else {
        return Ok(None);
    };
    Ok(Some(CertificateReloader::new(
        files.clone(),
        metrics.certificate_expiry()?,
        &metrics.file_read_failures,
        clock,
    )?))
}

async fn start_workers(
    boot: &Boot,
    bound: &[BoundSocket],
    shared: &Arc<Shared>,
    inbound_tls: Option<&InboundTls>,
    lifecycle: &Lifecycle,
) -> Result<Vec<WorkerThread>, StartError> {
    let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..boot.workers.get())
        .map(|_| mpsc::channel(HANDED_OVER))
        .unzip();
    let outboxes: Arc<[_]> = outboxes.into();
    let mut workers = Vec::with_capacity(boot.workers.get());
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let mut listeners = Vec::with_capacity(bound.len());
        for (listener, bound) in boot.listeners.iter().zip(bound) {
            let tls = inbound_tls.filter(|_| listener.tls).cloned();
            listeners.push((bound.handle()?, tls));
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
