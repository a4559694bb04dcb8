//! The composition root: a checked configuration becomes a running gateway.

use std::convert::Infallible;
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
use tracing_appender::non_blocking::ErrorCounter;

use crate::admin::{self, Admin};
use crate::clock::Clock;
use crate::config::{BindAddress, Boot, Config, Credential, Live};
use crate::dial::Way;
use crate::http_client::Client;
use crate::inbound::listener::{self, BindError, Bound};
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::Metrics;
use crate::proxy::Shared;
use crate::proxy::accept::{ConnectionCount, Shortage};
use crate::proxy::queue::Gates;
use crate::proxy::send::Refusals;
use crate::regions::Regions;
use crate::site;
use crate::site::agent::Agent;
use crate::site::api::HttpApi;
use crate::snapshot::Published;
use crate::spans::Spans;
use crate::tls::{self, InboundTls, Reloader, TlsError};
use crate::token::cache::Cache;
use crate::token::issuer::HttpIssuer;
use crate::token::keeper::Keeper;
use crate::token::signals::Signals;
use crate::token::slot::Slot;
use crate::upstream::origin::BadHost;
use crate::worker::{Work, WorkerThread};

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
    /// The address of `[admin]`.
    #[error("cannot listen on {0} for the admin side: {1}")]
    Admin(SocketAddr, #[source] io::Error),
    /// Certificates or roots.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An upstream no certificate can be for.
    #[error(transparent)]
    Upstream(#[from] BadHost),
    /// A metric registered twice: a mistake of ours.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// Threads or descriptors.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
}

/// A running gateway.
pub struct App {
    addresses: Addresses,
    lifecycle: Lifecycle,
    shared: Arc<Shared>,
    inbound_tls: Option<InboundTls>,
    workers: Vec<WorkerThread>,
    control: JoinSet<Infallible>,
    admin: JoinSet<()>,
    /// Held so that a unix socket's file goes when the gateway does.
    bound: Vec<Bound>,
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
        lost_log_lines: Option<ErrorCounter>,
    ) -> Result<Self, StartError> {
        let Config { boot, live, .. } = config;
        let bound = bind(&boot)?;
        let admin_listener = listener::bind_tcp(boot.admin.address)
            .and_then(TcpListener::from_std)
            .map_err(|error| StartError::Admin(boot.admin.address, error))?;
        let addresses = addresses(&boot, &bound, &admin_listener)?;
        let way = Way::new(tls::upstream_config(&live.upstream)?, live.upstream.egress.clone());

        let metrics = Metrics::new(boot.workers.get())?;
        let reloader = reloader(&boot, &metrics, clock)?;
        let inbound_tls = reloader.as_ref().map(Reloader::tls);
        let slots: Vec<Arc<Slot>> = live.credentials.iter().map(|_| Arc::new(Slot::new())).collect();
        let sites: Vec<Arc<site::slot::Slot>> = live.credentials.iter().map(|_| Arc::default()).collect();
        let keepers = keepers(&live, &slots, &way, clock, &metrics)?;
        let agents = agents(&live, &slots, &sites, &way, clock);
        let spans = Spans::start(&metrics, way.tls(), clock)?;
        let shared = Arc::new(Shared {
            published: ArcSwap::from_pointee(Published::new(live, slots, sites)?),
            metrics,
            in_flight: Arc::default(),
            batches: Arc::default(),
            connections: ConnectionCount::new(boot.workers.get()),
            shortage: Shortage::default(),
            refusals: Refusals::default(),
            regions: Regions::default(),
            gates: Gates::default(),
            clock,
            spans,
        });
        let lifecycle = Lifecycle::default();
        let workers = start_workers(&boot, &bound, &shared, inbound_tls.as_ref(), &way, &lifecycle).await?;

        let mut control = JoinSet::new();
        for keeper in keepers {
            control.spawn(keeper.keep());
        }
        for agent in agents {
            control.spawn(agent.serve());
        }
        if let Some(proxy) = way.egress().proxy() {
            tracing::info!(%proxy, "connections to Citrix leave through the egress proxy");
        }
        control.spawn(way.keep());
        if let Some(reloader) = reloader {
            control.spawn(reloader.keep());
        }
        let answers = Admin {
            shared: Arc::clone(&shared),
            lifecycle: lifecycle.clone(),
            settings: boot.admin,
            lost_log_lines,
        };
        let mut admin = JoinSet::new();
        let mut phases = lifecycle.watch();
        admin.spawn(async move {
            admin::serve(admin_listener, Arc::new(answers), phases.reached(Phase::Stopping)).await;
        });
        Ok(Self { addresses, lifecycle, shared, inbound_tls, workers, control, admin, bound })
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

    /// A handle that can cut a drain short.
    pub fn lifecycle(&self) -> Lifecycle {
        self.lifecycle.clone()
    }

    /// Returns when a part of the gateway ended that never should: it panicked.
    pub async fn failed(&mut self) -> String {
        let workers = select_all(self.workers.iter_mut().map(|worker| &mut worker.done));
        tokio::select! {
            (_, index, _) = workers => format!("worker {index} ended"),
            Some(ended) = self.control.join_next() => match ended {
                Err(error) => format!("a token keeper, a site agent, or who watches certificates or the egress proxy ended: {error}"),
                Ok(never) => match never {},
            },
            _ = self.admin.join_next() => "the admin listener ended".to_owned(),
        }
    }

    /// Takes no more connections, lets those in flight finish for `limit`, and ends everything. The admin side
    /// answers until the end. Moving the lifecycle on to `Stopping` cuts it short.
    pub async fn drain(self, limit: Duration) -> Drained {
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
        let flush = if self.lifecycle.phase() < Phase::Stopping { FLUSH } else { LATE_FLUSH };
        self.lifecycle.advance(Phase::Stopping);
        self.shared.spans.flush(flush).await;
        self.admin.join_all().await;
        Drained { cut }
    }
}

fn bind(boot: &Boot) -> Result<Vec<Bound>, BindError> {
    boot.listeners.iter().map(|listener| Bound::bind(&listener.address, boot.unix_mode)).collect()
}

fn addresses(boot: &Boot, bound: &[Bound], admin: &TcpListener) -> Result<Addresses, StartError> {
    let mut listeners = Vec::with_capacity(bound.len());
    for (listener, bound) in boot.listeners.iter().zip(bound) {
        listeners.push((bound.address()?, listener.tls));
    }
    Ok(Addresses { listeners, admin: admin.local_addr()? })
}

fn keepers(
    live: &Live,
    slots: &[Arc<Slot>],
    way: &Way,
    clock: Clock,
    metrics: &Metrics,
) -> Result<Vec<Keeper<HttpIssuer>>, StartError> {
    let client = Client::new(way.clone(), live.token.request_timeout);
    let issuer = HttpIssuer::new(client, clock);
    let signals = Signals::register(metrics.registry())?;
    let cache = live.token_cache.as_ref().map(Cache::new);
    let keeper = |(credential, slot): (&Credential, &Arc<Slot>)| {
        let signals = signals.customer(credential.customer());
        let keeper =
            Keeper::new(credential.clone(), live.token, Arc::clone(slot), issuer.clone(), clock, signals);
        match &cache {
            Some(cache) => keeper.remembering(cache.clone()),
            None => keeper,
        }
    };
    Ok(live.credentials.iter().zip(slots).map(keeper).collect())
}

fn agents(
    live: &Live,
    slots: &[Arc<Slot>],
    sites: &[Arc<site::slot::Slot>],
    way: &Way,
    clock: Clock,
) -> Vec<Agent<HttpApi>> {
    let timeout = live.token.request_timeout;
    let api = HttpApi(Client::new(way.clone(), timeout));
    let agent = |((credential, token), site): ((&Credential, &Arc<Slot>), &Arc<site::slot::Slot>)| {
        Agent::new(credential, Arc::clone(site), Arc::clone(token), api.clone(), clock, timeout)
    };
    live.credentials.iter().zip(slots).zip(sites).map(agent).collect()
}

fn reloader(boot: &Boot, metrics: &Metrics, clock: Clock) -> Result<Option<Reloader>, StartError> {
    let Some(files) = &boot.certificate else { return Ok(None) };
    Ok(Some(Reloader::new(files.clone(), metrics.certificate_expiry()?, clock)?))
}

async fn start_workers(
    boot: &Boot,
    bound: &[Bound],
    shared: &Arc<Shared>,
    inbound_tls: Option<&InboundTls>,
    way: &Way,
    lifecycle: &Lifecycle,
) -> Result<Vec<WorkerThread>, StartError> {
    let (outboxes, inboxes): (Vec<_>, Vec<_>) =
        (0..boot.workers.get()).map(|_| mpsc::channel(HANDED_OVER)).unzip();
    let colleagues: Arc<[_]> = outboxes.into();
    let mut workers = Vec::with_capacity(boot.workers.get());
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let mut listeners = Vec::with_capacity(bound.len());
        for (listener, bound) in boot.listeners.iter().zip(bound) {
            let tls = inbound_tls.filter(|_| listener.tls).cloned();
            listeners.push((bound.handle()?, tls));
        }
        let work = Work {
            index,
            shared: Arc::clone(shared),
            listeners,
            way: way.clone(),
            phases: lifecycle.watch(),
            inbox,
            colleagues: Arc::clone(&colleagues),
        };
        workers.push(work.start().await?);
    }
    Ok(workers)
}
