//! `GET /status.json`: the state of the gateway, for the status page and for scripts.
//! `docs/admin.md` documents the format; [`FORMAT`] is its version. It contains no secrets.

mod alerts;
mod in_effect;
mod tokens;
mod traffic;

use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use super::callers::{CallerList, CallerView};
use super::fleet::state_name;
use super::times::Times;
use super::transactions::{ExchangeView, views};
use super::{Admin, FORMAT, FullResponse, json};
use crate::config::InstanceId;
use crate::fleet::State;
use crate::observe::metrics::commit;
use crate::observe::recent::Repeats;
use crate::state::lifecycle::Phase;
use crate::state::published::Published;
use alerts::Alert;
use in_effect::InEffect;
use tokens::TokenView;
use traffic::{LoadView, QueueView, RetiredView, RouteView, Traffic};

/// Maximum number of failures, and of rejections.
const MAX_EXCHANGES: usize = 50;

#[derive(Serialize)]
struct StatusDocument<'a> {
    format: u32,
    now: String,
    /// `/readyz` returns 200.
    ready: bool,
    alerts: Vec<Alert>,
    program: ProgramView<'a>,
    tokens: Vec<TokenView>,
    customers: Vec<CustomerView<'a>>,
    routes: Vec<RouteView<'a>>,
    callers: Vec<CallerView>,
    queues: Vec<QueueView<'a>>,
    load: LoadView,
    failures: Vec<ExchangeView<'a>>,
    refusals: Vec<ExchangeView<'a>>,
    repeated_failures: Vec<RepeatsView<'a>>,
    repeated_refusals: Vec<RepeatsView<'a>>,
    retired: Vec<RetiredView>,
    certificates: Vec<CertificateView>,
    in_effect: InEffect,
    /// Absent without `[fleet]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<FleetView<'a>>,
}

/// Responds to `GET /callers`.
pub(super) fn respond_with_callers(admin: &Admin) -> FullResponse {
    let times = Times::now(&admin.shared);
    let callers = Traffic::now(admin, &times).callers(&admin.shared.published.load(), &times);
    let list = CallerList {
        format: FORMAT,
        callers,
    };
    json(StatusCode::OK, &list)
}

pub(super) fn respond(admin: &Admin) -> FullResponse {
    let published = admin.shared.published.load();
    let times = Times::now(&admin.shared);
    let phase = admin.lifecycle.phase();
    let metrics = &admin.shared.metrics;
    let traffic = Traffic::now(admin, &times);
    let (failures, rejections) = (
        metrics.recent.failures(MAX_EXCHANGES),
        metrics.recent.rejections(MAX_EXCHANGES),
    );
    let mut status = StatusDocument {
        format: FORMAT,
        now: times.precise(times.instant),
        ready: false,
        alerts: Vec::new(),
        program: ProgramView::new(admin, &published, &times, phase),
        tokens: tokens::list(&published, &times),
        customers: customers(admin, &published, times.instant),
        routes: traffic.routes(&published),
        callers: traffic.callers(&published, &times),
        queues: traffic.queues(),
        load: LoadView::now(admin, &published),
        failures: views(&failures, &times),
        refusals: views(&rejections, &times),
        repeated_failures: repeats(&traffic.failures, &times),
        repeated_refusals: repeats(&traffic.rejections, &times),
        retired: traffic::retired(admin, &published, &times),
        certificates: certificates(admin, &times),
        in_effect: InEffect::new(admin, &published),
        fleet: FleetView::new(admin, &published),
    };
    status.ready = phase == Phase::Running && status.tokens.iter().all(TokenView::is_usable);
    status.alerts = alerts::alerts(&status);
    json(StatusCode::OK, &status)
}

/// Failures or rejections of one kind.
#[derive(Serialize)]
struct RepeatsView<'a> {
    count: u64,
    first_at: Option<String>,
    last: ExchangeView<'a>,
}

fn repeats<'a>(known: &'a [Repeats], times: &Times) -> Vec<RepeatsView<'a>> {
    let newest = known.iter().take(MAX_EXCHANGES);
    newest
        .map(|one| RepeatsView {
            count: one.count,
            first_at: one.first.map(|first| times.precise(first)),
            last: ExchangeView::new(&one.last, times),
        })
        .collect()
}

#[derive(Serialize)]
struct ProgramView<'a> {
    name: &'static str,
    version: &'static str,
    commit: &'static str,
    phase: &'static str,
    started_at: String,
    uptime_s: u64,
    config_loaded_at: String,
    workers: usize,
    /// `None` if the program that embeds the gateway owns the log.
    log_level: Option<String>,
    log_lines_lost: u64,
    public_url: Option<&'a str>,
}

impl<'a> ProgramView<'a> {
    fn new(admin: &Admin, published: &'a Published, times: &Times, phase: Phase) -> Self {
        Self {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            phase: match phase {
                Phase::Running => "running",
                Phase::Leaving => "leaving",
                Phase::Draining => "draining",
                Phase::Stopping => "stopping",
            },
            started_at: times.seconds(admin.started),
            uptime_s: times
                .instant
                .saturating_duration_since(admin.started)
                .as_secs(),
            config_loaded_at: times.seconds(published.loaded_at),
            workers: admin.shared.metrics.workers(),
            log_level: admin.log.as_ref().map(|log| log.levels.level().to_string()),
            log_lines_lost: admin.log.as_ref().map_or(0, |log| log.lost.count()),
            public_url: published.live.public_url.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct CustomerView<'a> {
    id: &'a str,
    /// The customer of requests that name none.
    default: bool,
    cloud: &'static str,
    api: String,
    /// `auto`, `fixed` or `none`.
    instance_id_from: &'static str,
    /// `Citrix-InstanceId`, once it is known.
    instance_id: Option<String>,
    /// Cached redirects to another region.
    moves: usize,
}

fn customers<'a>(admin: &Admin, published: &'a Published, now: Instant) -> Vec<CustomerView<'a>> {
    let moves = admin.shared.regions.list();
    let customers = published.customers.iter().map(|customer| {
        let credential = &customer.credential;
        let text = |id: &http::HeaderValue| id.to_str().unwrap_or_default().to_owned();
        let (instance_id_from, instance_id) = match &credential.instance_id {
            InstanceId::Auto => ("auto", customer.site.known().map(text)),
            InstanceId::Fixed(id) => ("fixed", Some(text(id))),
            InstanceId::None => ("none", None),
        };
        let own = moves
            .iter()
            .filter(|moved| moved.customer == credential.customer_id && moved.until > now);
        CustomerView {
            id: credential.customer(),
            default: customer.is_default,
            cloud: credential.cloud.name(),
            api: credential.api.url.to_string(),
            instance_id_from,
            instance_id,
            moves: own.count(),
        }
    });
    customers.collect()
}

/// The fleet of replicas, as this one sees it.
#[derive(Serialize)]
struct FleetView<'a> {
    /// `joined`, `away` or `alone`: this replica cannot ask the others.
    state: &'static str,
    /// The name of this replica.
    replica: &'a str,
    /// The number of replicas that divide Citrix's limits.
    replicas: u32,
    /// The address of the store in use.
    store: Option<String>,
    /// A store is configured and away.
    #[serde(skip)]
    acts_alone: bool,
    /// Replicas have different keys.
    #[serde(skip)]
    keys_differ: bool,
}

impl<'a> FleetView<'a> {
    fn new(admin: &'a Admin, published: &Published) -> Option<Self> {
        let fleet = published.live.fleet.as_ref()?;
        let alone = Self {
            state: "alone",
            replica: &admin.replica,
            replicas: fleet.replicas_alone().get(),
            store: None,
            acts_alone: false,
            keys_differ: false,
        };
        let Some(shared) = &admin.shared.fleet else {
            return Some(alone);
        };
        let status = shared.status().borrow().clone();
        Some(Self {
            state: state_name(status.state),
            acts_alone: status.state == State::Alone,
            keys_differ: status.keys_differ,
            replicas: match (status.state, status.replicas) {
                (State::Joined, counted @ 1..) => counted,
                (_, counted) => fleet.replicas.map_or(counted.max(1), Into::into),
            },
            store: status.store.map(|address| address.to_string()),
            ..alone
        })
    }
}

/// Certificate of a TLS listener.
#[derive(Serialize)]
struct CertificateView {
    of: &'static str,
    expires_at: String,
    /// Negative if it has expired.
    expires_in_s: f64,
}

fn certificates(admin: &Admin, times: &Times) -> Vec<CertificateView> {
    let end = admin.shared.metrics.certificate_expires_at();
    let since_epoch = end.and_then(|end| std::time::Duration::try_from_secs_f64(end).ok());
    let end = since_epoch.and_then(|since| std::time::SystemTime::UNIX_EPOCH.checked_add(since));
    let certificate = end.map(|end| CertificateView {
        of: "listen.tls",
        expires_at: super::times::rfc3339(end),
        expires_in_s: match end.duration_since(times.wall) {
            Ok(left) => left.as_secs_f64().round(),
            Err(expired) => -expired.duration().as_secs_f64().round(),
        },
    });
    certificate.into_iter().collect()
}
