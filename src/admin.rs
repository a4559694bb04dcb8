//! The admin listener: probes, metrics, the status page and operator requests. It never proxies,
//! and it runs in the control plane, so that a scrape delays no request.
//!
//! - `/livez`: the process responds. Independent of Citrix, since a restart does not fix an outage
//!   there.
//! - `/readyz`: state of every customer's token.
//! - `/metrics`: Prometheus text.
//! - `/status.json`: state of the gateway; `/` shows it as a page.
//! - `/history.json`: the last hour by the minute.
//! - `/docs/runbooks.md`: the runbooks, to which alerts on the page link.
//! - `/transactions/{id}`: a recent exchange by any of its ids; `/transactions`: a search.
//! - `/fleet`: the replicas that share a store, and the holders of permits.
//! - `/regions`: cached redirects to other regions.
//! - `/log-level`: the log level; `PUT` changes it.
//! - `/callers`: callers and the last use of their secrets.
//! - `/callers/{name}/suggestion`: rules that permit the requests of an observed caller.
//! - `/tokens/{customer}/events`: the history of a customer's token.
//! - `POST /tokens/{customer}/refresh`: requests a new token.
//! - `POST /quitquitquit`: stops the gateway.

mod audit;
mod callers;
mod connections;
mod fleet;
mod history;
mod last_hour;
mod log_level;
mod page;
mod quit;
mod readiness;
mod refresh;
mod regions;
mod runbooks;
mod secret;
mod status;
mod suggestion;
mod times;
mod token_events;
mod transactions;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus::IntCounter;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::callers::browser_guard;
use crate::config::{self, AllowedHosts};
use crate::error::{Failure, Reason};
use crate::observe::telemetry::LogHandle;
use crate::state::Shared;
use crate::state::lifecycle::Lifecycle;
use crate::system::log_limit::LogLimit;
use audit::AuditedRequest;
use citrix_wire::host;
use citrix_wire::known_fields::KnownFields;
use connections::Connections;
use history::History;
use last_hour::LastHour;

pub use callers::CallerList;
pub use suggestion::Suggestion;

/// Pause after a failed `accept`: without file descriptors the next call would fail at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(10);

const UNKNOWN_PATH: &str = "unknown path; available: /, /livez, /readyz, /metrics, /status.json, /history.json, /docs/runbooks.md, \
                            /transactions, /transactions/{id}, /fleet, /regions, /log-level, \
                            /callers, /callers/{name}/suggestion, /tokens/{customer}/events, POST /tokens/{customer}/refresh and POST /quitquitquit\n";
/// Version of `/status.json` and `/transactions/{id}`. Incremented when a name is removed or
/// changes its meaning.
const FORMAT: u32 = 1;

/// State of the admin listener.
pub struct Admin {
    shared: Arc<Shared>,
    lifecycle: Lifecycle,
    settings: config::AdminSettings,
    /// The name of this replica.
    replica: String,
    /// `None` if the program that embeds the gateway owns the log.
    log: Option<LogHandle>,
    started: Instant,
    history: History,
    last_hour: LastHour,
    /// One scrape at a time: those of a flood wait, and what is ready runs between two of them.
    scrape: Semaphore,
    /// One list of replicas at a time.
    members: Semaphore,
}

type FullResponse = Response<Full<Bytes>>;

/// Serves connections until `stop` completes.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    let mut connections = Connections::default();
    let mut samples = interval(history::INTERVAL);
    samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweeps = interval(connections::SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let accept_failures = LogLimit::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return,
            _ = samples.tick() => {
                admin.sample();
                continue;
            }
            _ = sweeps.tick(), if !connections.is_empty() => {
                let limits = admin.shared.published.load().live.limits;
                connections.sweep(limits.header_read_timeout);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                connections.serve(socket, peer, Arc::clone(&admin));
                // A request that has arrived is served before further connections evict its own.
                yield_now().await;
            }
            // The client disconnected first.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if let Some(suppressed) = accept_failures.permit(()) {
                    tracing::error!(%error, suppressed, "failed to accept admin connections; check the limit of open files");
                }
                // Frees a file descriptor.
                connections.evict();
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

impl Admin {
    /// Creates the state at the start of the program.
    pub fn new(
        shared: Arc<Shared>,
        lifecycle: Lifecycle,
        settings: config::AdminSettings,
        replica: String,
        log: Option<LogHandle>,
    ) -> Self {
        let started = Instant::now();
        Self {
            shared,
            lifecycle,
            settings,
            replica,
            log,
            started,
            history: History::new(started),
            last_hour: LastHour::new(started),
            scrape: Semaphore::new(1),
            members: Semaphore::new(1),
        }
    }

    /// Records the current counts for rates and charts.
    fn sample(&self) {
        let (now, metrics) = (Instant::now(), &self.shared.metrics);
        let totals = Arc::new(metrics.totals());
        self.last_hour.add(now, &totals, &metrics.recent);
        self.history.add(now, totals);
    }

    async fn respond(&self, request: Request<Incoming>, peer: SocketAddr) -> FullResponse {
        if let Err(failure) = self.check_browser(&request) {
            let audited = AuditedRequest::new(&request, peer, &self.shared);
            audited.log_rejected(&failure);
            return failure
                .into_response(&audited.transaction_id)
                .map(Full::new);
        }
        match request.uri().path() {
            "/livez" | "/readyz" | "/metrics" if !is_read(&request) => {
                method_not_allowed("GET, HEAD")
            }
            "/livez" => closing(text(StatusCode::OK, "alive\n")),
            "/readyz" => closing(readiness::respond(self)),
            "/metrics" => self.scrape().await,
            _ => self.respond_to_operator(request, peer).await,
        }
    }

    async fn scrape(&self) -> FullResponse {
        // Never closed.
        let _permit = self.scrape.acquire().await.ok();
        let response = self.metrics();
        // The runtime polls sockets, those of probes too, before it continues with the next.
        yield_now().await;
        response
    }

    /// Responds to requests that require the admin secret, if one is configured.
    async fn respond_to_operator(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> FullResponse {
        let audited = AuditedRequest::new(&request, peer, &self.shared);
        if let Err(rejection) =
            secret::check(self.settings.secret_sha256.as_ref(), request.headers())
        {
            return rejection.into_response(&audited);
        }
        if let Err(failure) = audited.log_admitted().await {
            return failure
                .into_response(&audited.transaction_id)
                .map(Full::new);
        }
        let path = request.uri().path();
        match path {
            "/log-level" => return log_level::respond(self, request).await,
            "/quitquitquit" => return quit::respond(self, request.method(), peer),
            _ => {}
        }
        if let Some(customer) = refresh::customer_of(path) {
            return match *request.method() {
                Method::POST => refresh::respond(self, customer).await,
                _ => method_not_allowed("POST"),
            };
        }
        match ReadOnly::at(path) {
            None => text(StatusCode::NOT_FOUND, UNKNOWN_PATH),
            Some(_) if !is_read(&request) => method_not_allowed("GET, HEAD"),
            Some(ReadOnly::Callers) => status::respond_with_callers(self),
            Some(ReadOnly::History) => last_hour::respond(self),
            Some(ReadOnly::Fleet) => fleet::respond(self).await,
            Some(ReadOnly::Regions) => regions::respond(self),
            Some(ReadOnly::Status) => status::respond(self),
            Some(ReadOnly::Suggestion(caller)) => suggestion::respond(self, caller),
            Some(ReadOnly::Transaction(id)) => transactions::respond(self, &id).await,
            Some(ReadOnly::Transactions) => {
                transactions::respond_to_search(self, request.uri().query().unwrap_or_default())
            }
            Some(ReadOnly::TokenEvents(customer)) => token_events::respond(self, customer),
            Some(ReadOnly::File(file)) => file,
        }
    }

    /// Rejects requests of web pages.
    fn check_browser<B>(&self, request: &Request<B>) -> Result<(), Failure> {
        let live = &self.shared.published.load().live;
        let authority = host::authority(request.version(), request.uri(), request.headers())
            .map_err(|error| Failure::new(Reason::BadRequest, error.to_string()))?;
        // `*` applies to callers only: they authenticate, which the admin listener may not require.
        let public_host = || {
            let url: Uri = live.public_url.as_ref()?.parse().ok()?;
            url.host().map(str::to_owned)
        };
        let public_only = AllowedHosts::Only(public_host().into_iter().collect());
        let hosts = if live.hosts == AllowedHosts::Any {
            &public_only
        } else {
            &live.hosts
        };
        browser_guard::check_host(hosts, authority.as_ref())?;
        let fields = KnownFields::of(request.headers());
        browser_guard::check_site(authority.as_ref(), request.headers(), fields)
    }

    fn metrics(&self) -> FullResponse {
        let metrics = &self.shared.metrics;
        metrics
            .in_flight
            .set(i64::try_from(self.shared.in_flight.in_use()).unwrap_or(i64::MAX));
        metrics
            .connections
            .set(i64::try_from(self.shared.connections.total()).unwrap_or(i64::MAX));
        metrics.runtimes.count();
        let audit = &self.shared.logs.audit;
        metrics
            .audit_queue_bytes
            .set(i64::try_from(audit.queued_bytes()).unwrap_or(i64::MAX));
        raise(
            &metrics.rejections_summarized,
            audit.summarized_rejections(),
        );
        if let Some(log) = &self.log {
            raise(&metrics.log_lines_lost, log.lost.count());
        }
        match metrics.render() {
            Ok(body) => {
                let mut response = Response::new(Full::from(body));
                let prometheus_text =
                    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, prometheus_text);
                response
            }
            Err(error) => {
                tracing::error!(%error, "failed to render metrics");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "failed to render metrics\n",
                )
            }
        }
    }
}

/// A resource for operators that supports only GET and HEAD.
enum ReadOnly<'a> {
    Callers,
    Fleet,
    History,
    Regions,
    Status,
    /// By the caller's name.
    Suggestion(&'a str),
    /// By the customer.
    TokenEvents(&'a str),
    /// By one of its ids.
    Transaction(String),
    Transactions,
    /// A file of the status page.
    File(FullResponse),
}

impl<'a> ReadOnly<'a> {
    fn at(path: &'a str) -> Option<Self> {
        match path {
            "/callers" => Some(Self::Callers),
            "/fleet" => Some(Self::Fleet),
            "/history.json" => Some(Self::History),
            "/regions" => Some(Self::Regions),
            "/status.json" => Some(Self::Status),
            "/transactions" => Some(Self::Transactions),
            _ => suggestion::caller_of(path)
                .map(Self::Suggestion)
                .or_else(|| token_events::customer_of(path).map(Self::TokenEvents))
                .or_else(|| transactions::id_of(path).map(Self::Transaction))
                .or_else(|| page::file(path).map(Self::File)),
        }
    }
}

/// Raises a counter to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Closes the connection after a probe: the next one comes seconds later.
fn closing(mut response: FullResponse) -> FullResponse {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

fn is_read<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

fn method_not_allowed(allowed: &'static str) -> FullResponse {
    let body = format!("method not allowed; allowed: {allowed}\n");
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, body);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> FullResponse {
    // Structs of strings and numbers always serialize.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    json_body(status, body)
}

fn json_body(status: StatusCode, body: Vec<u8>) -> FullResponse {
    let mut response = text(status, body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> FullResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let plain_text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, plain_text);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
