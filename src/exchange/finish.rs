//! The end of an exchange: its response, and the record that is counted, logged and kept.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::ForwardedBody;
use super::permits::Permits;
use super::response_body::{BodySource, CallerResponseBody};
use super::{Exchange, Fault};
use crate::error::{Failure, Reason};
use crate::observe::metrics::NONE;
use crate::observe::summary::{End, ExchangeSummary};
use citrix_wire::citrix::headers::{
    CITRIX_TRANSACTION_ID, retain_response_trailers, transaction_ids,
};
use citrix_wire::transaction_id::X_PROXY_REQUEST_ID;

/// Status in logs and metrics of an exchange whose caller disconnected before the response, as in
/// nginx.
const CALLER_LEFT: u16 = 499;

impl Exchange {
    /// Completes Citrix's response head and attaches the record to its body.
    pub fn forwarded(
        mut self: Box<Self>,
        mut response: Response<ForwardedBody>,
    ) -> Response<CallerResponseBody> {
        // Responses of Citrix's API gateway itself may have an empty id.
        if self.ids.citrix.iter().flatten().all(HeaderValue::is_empty) {
            response
                .headers_mut()
                .insert(CITRIX_TRANSACTION_ID, self.ids.transaction.clone());
        }
        self.finish_head(response.status(), response.headers_mut());
        self.snapshot
            .metrics
            .overhead
            .observe(self.gateway_time().as_secs_f64());
        if !self.collapsed {
            self.route_metrics()
                .upstream()
                .observe(self.timings.upstream.as_secs_f64());
        }
        response.map(|body| CallerResponseBody::new(BodySource::Citrix(body), self))
    }

    /// Returns the response for a failure.
    pub fn failed(mut self: Box<Self>, failure: Failure) -> Response<CallerResponseBody> {
        if matches!(
            failure.reason(),
            Reason::CallerForbidden | Reason::CustomerForbidden
        ) {
            // Rejections by steps after `admit`; those of `admit` are in the audit log already.
            self.audit_rejection(&failure);
        }
        // No response of Citrix is read under the permit any more.
        self.permits.queue = None;
        self.set_failure(&failure);
        let response = failure.into_response(&self.ids.transaction);
        self.generated(response)
    }

    /// Records and counts the failure that the response reports.
    pub fn set_failure(&mut self, failure: &Failure) {
        self.response.fault = Some(Box::new(Fault {
            reason: Some(failure.reason()),
            detail: failure.detail().clone(),
            cause: failure.cause_chain(),
        }));
        self.snapshot.metrics.count_error(failure.reason());
    }

    /// Completes the head of a response that the gateway generated, and attaches the record to its
    /// body.
    pub fn generated(
        mut self: Box<Self>,
        mut response: Response<Bytes>,
    ) -> Response<CallerResponseBody> {
        self.ids.citrix = transaction_ids(response.headers());
        response
            .headers_mut()
            .insert(CITRIX_TRANSACTION_ID, self.ids.transaction.clone());
        self.finish_head(response.status(), response.headers_mut());
        if self.method == Method::HEAD {
            // No body follows; the length remains that of the GET response.
            let length = response.body().len().into();
            response.headers_mut().insert(CONTENT_LENGTH, length);
            return response.map(|_| CallerResponseBody::new(BodySource::Generated(None), self));
        }
        response.map(|body| CallerResponseBody::new(BodySource::Generated(Some(body)), self))
    }

    /// Returns the response that accepts a CONNECT request; it has no content (RFC 9110 section
    /// 9.3.6).
    pub fn connected(mut self: Box<Self>) -> Response<CallerResponseBody> {
        let mut response = Response::new(());
        self.finish_head(StatusCode::OK, response.headers_mut());
        response.map(|()| CallerResponseBody::new(BodySource::Generated(None), self))
    }

    /// Applies the rules for Citrix's header fields to its trailers.
    pub(super) fn filter_trailers(&self, trailers: &mut HeaderMap) {
        if self.drops_trailers {
            // No trailer has to be forwarded (RFC 9110 section 6.5.1).
            trailers.clear();
        }
        retain_response_trailers(trailers);
        if let Some(token) = &self.sent_token {
            token.remove_echoes(trailers);
        }
    }

    fn finish_head(&mut self, status: StatusCode, headers: &mut HeaderMap) {
        headers.insert(X_PROXY_REQUEST_ID, self.ids.request.clone());
        self.response.status = Some(status);
        self.timings.response_head = self.timings.began.elapsed();
    }

    /// Returns the gateway's own part of the time to the response head.
    fn gateway_time(&self) -> Duration {
        self.timings
            .response_head
            .saturating_sub(self.timings.upstream)
            .saturating_sub(self.timings.waited)
    }

    /// Counts, logs and records the exchange, and releases its permits. Only the first call has an
    /// effect.
    pub(super) fn close(&mut self, end: End) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.end_upstream_time();
        let summary = self.summary(end);
        let metrics = self.route_metrics();
        metrics.count(self.caller, &self.method, summary.status);
        metrics.duration().observe(summary.total.as_secs_f64());
        if self.snapshot.live.access_log && !self.in_flood {
            self.snapshot.logs.access.record(&summary);
        }
        let caller_activity = self.snapshot.caller_activity(self.caller);
        self.snapshot
            .metrics
            .recent
            .record(&summary, caller_activity);
        if let Some((spans, recording)) = &self.recording {
            spans.export(recording, &summary);
        }
        self.permits = Permits::default();
        self.connection.exchange_ended();
    }

    /// Returns the value of `via` in the access log.
    fn via(&self) -> Option<&'static str> {
        let intercepted = self.intercepted.is_some() || self.connect_target.is_some();
        intercepted.then_some("intercept")
    }

    fn summary(&self, end: End) -> ExchangeSummary<'_> {
        let route = self.route.and_then(|index| self.snapshot.routes.get(index));
        let status = self.response.status;
        let fault = self.response.fault.as_deref();
        ExchangeSummary {
            request: self.request_facts(),
            is_named: self.caller.is_some(),
            forwarded_for: self.forwarded_for.as_deref(),
            version: self.version,
            secure: self.is_secure(),
            via: self.via(),
            trace_id: self.trace_id(),
            route: route.map_or(NONE, |route| route.config.name()),
            retired: self.retired,
            customer: self.customer.as_ref(),
            response_status: status,
            status: status.unwrap_or_else(|| status_without_response(end)),
            reason: fault.and_then(|fault| fault.reason),
            detail: fault.map_or("", |fault| &fault.detail),
            cause: fault.map_or("", |fault| &fault.cause),
            end,
            citrix_ids: &self.ids.citrix,
            request_bytes: self.upload.as_ref().map_or(0, |upload| upload.bytes.get()),
            response_bytes: self.response.bytes,
            began: self.timings.began,
            total: self.timings.began.elapsed(),
            upstream: self.timings.upstream,
            waited: self.timings.waited,
            gateway: self.gateway_time(),
            attempts: self.attempts,
            collapsed: self.collapsed,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.closed && self.caller_time().is_some_and(|time| time.is_revoked()) {
            let cause = "permit revoked; caller too slow while others queued";
            self.response.set_cause(cause.to_owned());
        }
        self.close(if self.connection.is_stopped() {
            End::Stopped
        } else {
            End::CallerDisconnected
        });
    }
}

/// Returns the status that logs and metrics use for an exchange without a response.
fn status_without_response(end: End) -> StatusCode {
    match end {
        End::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::from_u16(CALLER_LEFT).unwrap_or_default(),
    }
}
