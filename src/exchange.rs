//! The record of one exchange: begun when a request's head is complete, closed exactly once, when the answer's
//! body ends or is given up.

mod access_log;
mod audit;
pub mod body;
mod response_body;
mod trace;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use tokio::time::Instant;

use crate::callers::PeerIdentity;
use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::exchange::body::ForwardedBody;
use crate::inbound::body::BodyProgress;
use crate::inbound::connection::Connection;
use crate::limit::permits::Permit;
use crate::limit::{QueueKey, QueuePermit};
use crate::observe::metrics::{NONE, QueueMetrics, RouteMetrics};
use crate::observe::spans::{Recording, Spans};
use crate::observe::summary::{End, ExchangeSummary, RequestFacts};
use crate::state::snapshot::Snapshot;
use citrix_wire::citrix::headers::{CITRIX_TRANSACTION_ID, TRANSACTION_IDS};
use citrix_wire::forwarded;
use citrix_wire::trace_context::TraceParent;
use citrix_wire::transaction_id::{self, X_PROXY_REQUEST_ID};
use response_body::Source;

pub use response_body::CallerResponseBody;

/// What nginx logs when a caller leaves before he is answered.
const CALLER_LEFT: u16 = 499;

/// What is known of an exchange.
pub struct Exchange {
    snapshot: Rc<Snapshot>,
    connection: Rc<Connection>,
    peer: Option<SocketAddr>,
    /// Whom the peer says it forwards for, if that is believed; for the log.
    forwarded_for: Option<String>,
    began: Instant,
    method: Method,
    target: Option<PathAndQuery>,
    version: Version,
    /// What the caller said of the trace it is part of.
    trace: Option<TraceParent>,
    /// What becomes spans, where they are exported.
    recording: Option<Box<Recording>>,
    /// On every answer, and in the log.
    request_id: HeaderValue,
    /// Sent to Citrix: the caller's, else a fresh one.
    pub transaction_id: HeaderValue,
    /// The caller's place in the configuration, once it is known; never any when nobody is configured.
    pub caller: Option<usize>,
    /// Whether a secret was shown that lets nobody in.
    pub bad_secret: bool,
    /// The customer's id, once it is known.
    pub customer: Option<HeaderValue>,
    /// The index of the route, once one is picked.
    pub route: Option<usize>,
    /// The family of retired addresses the request's was of.
    pub retired: Option<&'static str>,
    /// The request's body, once it is bound.
    pub upload: Option<Rc<BodyProgress>>,
    /// The place among the requests in flight, once there is one.
    pub place: Option<Permit>,
    /// The place among its caller's requests, where the caller may have so many.
    pub caller_place: Option<Permit>,
    /// The turn, where Citrix lets few in at a time; it lasts until the answer was read.
    pub turn: Option<QueuePermit>,
    /// Waiting that is nobody's work: for a token, for a turn, for the end of what a 429 asked for.
    pub waited: Duration,
    /// From sending to the head of Citrix's answer, over all attempts.
    upstream_time: Duration,
    /// Since when Citrix is being waited for.
    upstream_since: Option<Instant>,
    /// How often the request was sent.
    pub attempts: u32,
    status: Option<StatusCode>,
    reason: Option<Reason>,
    /// What the caller is told with it.
    detail: Cow<'static, str>,
    cause: String,
    citrix_ids: [Option<HeaderValue>; 3],
    answered_after: Duration,
    response_bytes: u64,
    /// Whether the audit log has the refusal.
    refusal_told: bool,
    closed: bool,
}

impl Exchange {
    /// Begins the record of a request.
    pub fn begin<B>(
        snapshot: Rc<Snapshot>,
        spans: &Spans,
        connection: Rc<Connection>,
        peer: Option<SocketAddr>,
        request: &http::Request<B>,
    ) -> Box<Self> {
        connection.exchange_began();
        let trace = TraceParent::from_headers(request.headers());
        let recording = spans.record(trace);
        // One id for both where the caller brought none: whichever of them somebody quotes, it is found.
        let request_id = transaction_id::generate();
        Box::new(Self {
            connection,
            peer,
            forwarded_for: forwarded_for(&snapshot.live, peer, request.headers()),
            began: Instant::now(),
            method: request.method().clone(),
            target: request.uri().path_and_query().cloned(),
            version: request.version(),
            transaction_id: transaction_id::from_caller(request.headers())
                .unwrap_or_else(|| request_id.clone()),
            trace,
            recording,
            request_id,
            caller: None,
            bad_secret: false,
            customer: None,
            route: None,
            retired: None,
            upload: None,
            place: None,
            caller_place: None,
            turn: None,
            waited: Duration::ZERO,
            upstream_time: Duration::ZERO,
            upstream_since: None,
            attempts: 0,
            status: None,
            reason: None,
            detail: Cow::Borrowed(""),
            cause: String::new(),
            citrix_ids: [None, None, None],
            answered_after: Duration::ZERO,
            response_bytes: 0,
            refusal_told: false,
            closed: false,
            snapshot,
        })
    }

    /// Ends the connection of somebody who is waited for in vain; `false` when there is none.
    pub fn evict_stalled(&self) -> bool {
        self.connection.evict_stalled()
    }

    /// Where the request comes from.
    pub fn peer_identity(&self) -> PeerIdentity<'_> {
        PeerIdentity {
            address: self.address(),
            certificate: self.connection.certificate(),
        }
    }

    /// The address a request comes from; none on a unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip())
    }

    /// Whether the request comes from this machine: from a loopback address, also of what a balancer told, or over a
    /// unix socket.
    pub fn is_local(&self) -> bool {
        self.peer.is_none_or(|peer| peer.ip().is_loopback())
    }

    /// Who it is that waits, where callers take turns.
    pub fn queue_key(&self) -> QueueKey {
        match self.caller {
            Some(number) => QueueKey::Configured(number),
            None => QueueKey::at(self.address()),
        }
    }

    /// Begins a wait for what Citrix allows; it is counted when the guard is dropped, however it ended.
    pub fn begin_wait(&mut self) -> Wait<'_> {
        let metrics = self.route_metrics().queue().clone();
        metrics.depth.inc();
        Wait {
            exchange: self,
            began: Instant::now(),
            metrics,
        }
    }

    /// Begins time that is Citrix's. It ends with [`Exchange::upstream_ends`], or with the exchange.
    pub fn upstream_begins(&mut self) {
        self.upstream_since = Some(Instant::now());
    }

    /// Ends it.
    pub fn upstream_ends(&mut self) {
        if let Some(since) = self.upstream_since.take() {
            self.upstream_time += since.elapsed();
        }
    }

    /// The answer Citrix gave, with our ids on it.
    pub fn answered(
        mut self: Box<Self>,
        mut response: Response<ForwardedBody>,
    ) -> Response<CallerResponseBody> {
        let headers = response.headers();
        self.citrix_ids = TRANSACTION_IDS.map(|name| headers.get(name).cloned());
        // Answers of the API gateway's own may have an empty one.
        let given = |name| headers.get(name).is_some_and(|id| !id.is_empty());
        if !TRANSACTION_IDS.iter().any(given) {
            response
                .headers_mut()
                .insert(CITRIX_TRANSACTION_ID, self.transaction_id.clone());
        }
        self.finish_head(response.status(), response.headers_mut());
        self.snapshot
            .metrics
            .overhead
            .observe(self.gateway_time().as_secs_f64());
        self.route_metrics()
            .upstream()
            .observe(self.upstream_time.as_secs_f64());
        response.map(|body| CallerResponseBody::new(Source::Citrix(body), self))
    }

    /// The answer we give ourselves.
    pub fn failed(mut self: Box<Self>, failure: Failure) -> Response<CallerResponseBody> {
        if matches!(
            failure.reason(),
            Reason::CallerForbidden | Reason::CustomerForbidden
        ) {
            // What was found out after the door; what was refused there was told there.
            self.audit_refusal(&failure);
        }
        // Nothing of Citrix's is left to read.
        self.turn = None;
        self.refused(&failure);
        let response = failure.into_response(&self.transaction_id);
        self.answered_here(response)
    }

    /// Notes why the answer is a refusal of ours.
    pub fn refused(&mut self, failure: &Failure) {
        self.reason = Some(failure.reason());
        self.detail = failure.detail().clone();
        self.cause = failure.cause_chain();
        self.snapshot.metrics.error(failure.reason());
    }

    /// An answer that did not come from Citrix, with our ids on it.
    pub fn answered_here(
        mut self: Box<Self>,
        mut response: Response<Bytes>,
    ) -> Response<CallerResponseBody> {
        self.citrix_ids = TRANSACTION_IDS.map(|name| response.headers().get(name).cloned());
        response
            .headers_mut()
            .insert(CITRIX_TRANSACTION_ID, self.transaction_id.clone());
        self.finish_head(response.status(), response.headers_mut());
        if self.method == Method::HEAD {
            // No body follows; the length stays what GET's would be.
            let length = response.body().len().into();
            response.headers_mut().insert(CONTENT_LENGTH, length);
            return response.map(|_| CallerResponseBody::new(Source::Own(None), self));
        }
        response.map(|body| CallerResponseBody::new(Source::Own(Some(body)), self))
    }

    /// Whether the caller came over TLS.
    pub fn is_secure(&self) -> bool {
        self.connection.is_secure()
    }

    fn finish_head(&mut self, status: StatusCode, headers: &mut HeaderMap) {
        headers.insert(X_PROXY_REQUEST_ID, self.request_id.clone());
        self.status = Some(status);
        self.answered_after = self.began.elapsed();
    }

    fn route_metrics(&self) -> &RouteMetrics {
        self.route
            .and_then(|index| self.snapshot.routes.get(index))
            .map_or(&self.snapshot.unrouted, |route| &route.metrics)
    }

    /// The caller's name in metrics and logs.
    fn caller_name(&self) -> &str {
        self.route_metrics().caller(self.caller)
    }

    /// The gateway's own part of the time to the answer's head.
    fn gateway_time(&self) -> Duration {
        self.answered_after
            .saturating_sub(self.upstream_time)
            .saturating_sub(self.waited)
    }

    /// Counts, logs and records the exchange, and releases its permits. Only the first call has an effect.
    fn close(&mut self, end: End) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.upstream_ends();
        let summary = self.summary(end);
        let metrics = self.route_metrics();
        metrics.count(self.caller, &self.method, summary.status);
        metrics.duration().observe(summary.total.as_secs_f64());
        if self.snapshot.live.access_log {
            access_log::log(&summary);
        }
        let caller_use = self.snapshot.caller_use(self.caller);
        self.snapshot.metrics.recent.record(&summary, caller_use);
        if let Some(recording) = &self.recording {
            recording.close(&summary);
        }
        self.place = None;
        self.caller_place = None;
        self.turn = None;
        self.connection.exchange_ended();
    }

    fn request_facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            caller: self.caller_name(),
            peer: self.peer,
            method: &self.method,
            path: self.target.as_ref().map_or("", PathAndQuery::path),
            request_id: &self.request_id,
            transaction_id: &self.transaction_id,
        }
    }

    fn summary(&self, end: End) -> ExchangeSummary<'_> {
        let route = self.route.and_then(|index| self.snapshot.routes.get(index));
        ExchangeSummary {
            request: self.request_facts(),
            is_named: self.caller.is_some(),
            forwarded_for: self.forwarded_for.as_deref(),
            version: self.version,
            secure: self.is_secure(),
            trace_id: self.trace_id(),
            route: route.map_or(NONE, |route| route.config.name()),
            retired: self.retired,
            customer: self.customer.as_ref(),
            response_status: self.status,
            status: self.status.unwrap_or_else(|| status_without_response(end)),
            reason: self.reason,
            detail: &self.detail,
            cause: &self.cause,
            end,
            citrix_ids: &self.citrix_ids,
            request_bytes: self.upload.as_ref().map_or(0, |upload| upload.bytes.get()),
            response_bytes: self.response_bytes,
            began: self.began,
            total: self.began.elapsed(),
            upstream: self.upstream_time,
            waited: self.waited,
            gateway: self.gateway_time(),
            attempts: self.attempts,
        }
    }
}

/// Returns the status that logs and metrics use for an exchange without a response.
fn status_without_response(end: End) -> StatusCode {
    match end {
        End::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::from_u16(CALLER_LEFT).unwrap_or_default(),
    }
}

/// Whom a trusted peer says it forwards for. Nothing is decided by it.
fn forwarded_for(live: &Live, peer: Option<SocketAddr>, headers: &HeaderMap) -> Option<String> {
    let trusted =
        live.access_log && peer.is_some_and(|peer| live.trusted_forwarders.contains(peer.ip()));
    if trusted {
        forwarded::forwarded_for(headers)
    } else {
        None
    }
}

/// A wait that has begun.
pub struct Wait<'e> {
    exchange: &'e mut Exchange,
    began: Instant,
    metrics: QueueMetrics,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waited = self.began.elapsed();
        self.exchange.waited += waited;
        self.metrics.wait.observe(waited.as_secs_f64());
        self.metrics.depth.dec();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.close(if self.connection.is_stopped() {
            End::Stopped
        } else {
            End::CallerLeft
        });
    }
}
