//! The admin listener: probes and metrics. It never proxies, and it runs on the control side, so that a scrape
//! delays no request.
//!
//! - `/livez`: the process answers. Never depends on Citrix: restarting us would not mend the cloud.
//! - `/readyz`: 200 when every credential has a usable token and nothing is being drained; says how each is.
//! - `/metrics`: Prometheus text.
//! - `/regions`: which customers' requests go to another region than their routes say.
//! - `/log-level`: which lines the log has; `PUT` changes it.
//! - `/status.json`: how things are; `/` shows it as a page.
//! - `/transactions/{id}`: a recent exchange by any of its ids.
//! - `/callers/{name}/suggestion`: rules that would allow what an observed caller does.
//! - `POST /tokens/{customer}/refresh`: a new token now.

mod audit;
mod history;
mod log_level;
mod page;
mod readiness;
mod refresh;
mod regions;
mod status;
mod suggestion;
mod times;
mod transactions;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::callers::browser_guard;
use crate::config::{self, AllowedHosts};
use crate::error::{Failure, Reason};
use crate::observe::telemetry::LogHandle;
use crate::state::Shared;
use crate::state::lifecycle::Lifecycle;
use crate::system::digest::Sha256;
use audit::Asked;
use citrix_wire::basic_auth::BasicCredentials;
use citrix_wire::host;
use history::History;

pub use suggestion::Suggestion;

/// Connections at a time; probes and scrapers need a handful.
const MAX_CONNECTIONS: usize = 64;
/// For a request's head, and between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

const THERE_ARE: &str = "there are /, /livez, /readyz, /metrics, /status.json, /transactions/{id}, /regions, \
                         /log-level, /callers/{name}/suggestion and POST /tokens/{customer}/refresh\n";
/// The number of the shape of `/status.json` and `/transactions/{id}`: it goes up when a name goes or changes its
/// meaning, not when one is added.
const FORMAT: u32 = 1;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What the admin side answers from.
pub struct Admin {
    /// Snapshot, metrics, clock.
    pub shared: Arc<Shared>,
    /// The phase the program is in.
    pub lifecycle: Lifecycle,
    /// Who may see more than probes and metrics.
    pub settings: config::AdminSettings,
    /// The log; none when the process does not log by itself.
    pub log: Option<LogHandle>,
    started: Instant,
    history: History,
}

type Answer = Response<Full<Bytes>>;

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut notes = interval(history::INTERVAL);
    notes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return,
            _ = notes.tick() => {
                admin.history.note(Instant::now(), admin.shared.metrics.totals());
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (Ok((socket, peer)), Ok(place)) = (accepted, Arc::clone(&places).try_acquire_owned())
        else {
            // Out of descriptors or of places: a probe comes again.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let admin = Arc::clone(&admin);
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.answer(request, peer).await) }
            });
            let served = Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "an admin connection ended badly");
            }
            drop(place);
        });
    }
}

impl Admin {
    /// The admin side of a program that begins now.
    pub fn new(
        shared: Arc<Shared>,
        lifecycle: Lifecycle,
        settings: config::AdminSettings,
        log: Option<LogHandle>,
    ) -> Self {
        let started = Instant::now();
        Self {
            shared,
            lifecycle,
            settings,
            log,
            started,
            history: History::new(started),
        }
    }

    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        if let Err(failure) = self.guard(&request) {
            let asked = Asked::of(&request, peer);
            asked.refused(&failure);
            return failed(failure, &asked.id);
        }
        let probes = matches!(*request.method(), Method::GET | Method::HEAD);
        let path = request.uri().path();
        match path {
            "/livez" | "/readyz" | "/metrics" if !probes => only("GET, HEAD"),
            "/livez" => text(StatusCode::OK, "alive\n"),
            "/readyz" => readiness::answer(self),
            "/metrics" => self.metrics(),
            _ => self.answer_operator(request, peer).await,
        }
    }

    /// Answers what needs the secret, where there is one.
    async fn answer_operator(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let asked = Asked::of(&request, peer);
        if !self.knows(request.headers()) {
            asked.unknown();
            return ask_for_the_secret();
        }
        asked.admitted();
        let probes = matches!(*request.method(), Method::GET | Method::HEAD);
        let path = request.uri().path();
        match path {
            "/regions" if !probes => only("GET, HEAD"),
            "/regions" => regions::answer(self),
            "/log-level" => log_level::answer(self, request).await,
            _ => match (refresh::customer_of(path), suggestion::caller_of(path)) {
                (Some(customer), _) if request.method() == Method::POST => {
                    refresh::answer(self, customer).await
                }
                (Some(_), _) => only("POST"),
                (None, Some(_)) if !probes => only("GET, HEAD"),
                (None, Some(caller)) => suggestion::answer(self, caller),
                (None, None) => self.look(path, probes),
            },
        }
    }

    /// The status page and what it is made of; `reads` if that is what the request wants.
    fn look(&self, path: &str, reads: bool) -> Answer {
        let id = transactions::id_of(path);
        let file = page::file(path);
        match path {
            _ if !reads && (path == "/status.json" || id.is_some() || file.is_some()) => {
                only("GET, HEAD")
            }
            "/status.json" => status::answer(self),
            _ => match (id, file) {
                (Some(id), _) => transactions::answer(self, &id),
                (None, Some(file)) => file,
                (None, None) => text(StatusCode::NOT_FOUND, THERE_ARE),
            },
        }
    }

    /// Keeps web pages out.
    fn guard<B>(&self, request: &Request<B>) -> Result<(), Failure> {
        let live = &self.shared.published.load().live;
        let authority = host::authority(request.version(), request.uri(), request.headers())
            .map_err(|error| Failure::new(Reason::BadRequest, error.to_string()))?;
        // `*` is for callers, who may have to show who they are; nobody does here.
        let own_name = || {
            let url: Uri = live.public_url.as_ref()?.parse().ok()?;
            url.host().map(str::to_owned)
        };
        let own = AllowedHosts::Only(own_name().into_iter().collect());
        let hosts = if live.hosts == AllowedHosts::Any {
            &own
        } else {
            &live.hosts
        };
        browser_guard::check_host(hosts, authority.as_ref())?;
        browser_guard::check_site(authority.as_ref(), request.headers())
    }

    fn metrics(&self) -> Answer {
        let metrics = &self.shared.metrics;
        metrics
            .in_flight
            .set(i64::try_from(self.shared.in_flight.in_use()).unwrap_or(i64::MAX));
        metrics
            .connections
            .set(i64::try_from(self.shared.connections.total()).unwrap_or(i64::MAX));
        if let Some(log) = &self.log {
            let new =
                (log.dropped.dropped_lines() as u64).saturating_sub(metrics.log_lines_lost.get());
            metrics.log_lines_lost.inc_by(new);
        }
        match metrics.render() {
            Ok(body) => {
                let mut answer = Response::new(Full::from(body));
                let prometheus_text =
                    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                answer.headers_mut().insert(CONTENT_TYPE, prometheus_text);
                answer
            }
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be rendered");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the metrics cannot be rendered\n",
                )
            }
        }
    }

    /// Whether the request shows the admin secret, where one is configured.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(expected) = &self.settings.secret_sha256 else {
            return true;
        };
        let shown = headers
            .get(X_API_KEY)
            .map(|key| key.as_bytes().to_vec())
            .or_else(|| basic_password(headers));
        shown.is_some_and(|secret| Sha256::of(&secret).matches(expected))
    }
}

/// The password of HTTP Basic (RFC 7617); the name is free.
fn basic_password(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = BasicCredentials::decode(credentials.trim().as_bytes())?;
    Some(credentials.password().to_vec())
}

fn ask_for_the_secret() -> Answer {
    let mut answer = text(StatusCode::UNAUTHORIZED, "the admin secret is needed\n");
    let challenge =
        HeaderValue::from_static("Basic realm=\"citrix-auth-proxy admin\", charset=\"UTF-8\"");
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    answer
}

fn only(methods: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("{methods} only\n"));
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // Structs of strings and numbers always serialize.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    let mut answer = text(status, body);
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn failed(failure: Failure, id: &HeaderValue) -> Answer {
    failure.into_response(id).map(Full::new)
}
