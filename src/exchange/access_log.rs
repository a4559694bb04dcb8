//! The access log: one line for each exchange, written when it ends.

use std::time::Duration;

use http::HeaderValue;

use crate::error::Reason;
use crate::observe::summary::{ExchangeSummary, client_text};

/// Writes the line of an exchange. It contains no query, credentials or body. The field names are a
/// contract, also where the code uses other terms.
pub(super) fn log(summary: &ExchangeSummary<'_>) {
    let request = &summary.request;
    let [citrix_id, cws_id, cc_id] = summary.citrix_ids;
    let (mut method, mut path) = (request.method.as_str(), request.path);
    if !summary.is_named && summary.reason.is_some() {
        (method, path) = (client_text(method), client_text(path));
    }
    tracing::info!(
        target: "access",
        caller = request.caller,
        peer = request.peer.map(tracing::field::display),
        forwarded_for = summary.forwarded_for,
        method,
        path,
        via = summary.via,
        version = ?summary.version,
        route = summary.route,
        retired = summary.retired,
        status = summary.status.as_u16(),
        reason = summary.reason.map(Reason::as_str),
        cause = (!summary.cause.is_empty()).then_some(summary.cause),
        end = summary.end.as_str(),
        request_bytes = summary.request_bytes,
        answer_bytes = summary.response_bytes,
        total_ms = milliseconds(summary.total),
        upstream_ms = milliseconds(summary.upstream),
        waited_ms = milliseconds(summary.waited),
        ours_ms = milliseconds(summary.gateway),
        attempts = summary.attempts,
        collapsed = summary.collapsed.then_some(true),
        request_id = request.request_id.to_str().unwrap_or_default(),
        transaction_id = request.transaction_id.to_str().unwrap_or_default(),
        trace_id = summary.trace_id.map(tracing::field::display),
        citrix_transaction_id = text(citrix_id),
        x_cws_transaction_id = text(cws_id),
        cc_transaction_id = text(cc_id),
    );
}

/// Returns milliseconds, rounded to whole microseconds.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn text(value: &Option<HeaderValue>) -> Option<&str> {
    value.as_ref().and_then(|value| value.to_str().ok())
}
