//! The spans of an exchange, by OpenTelemetry's semantic conventions for HTTP spans. They contain
//! no query, header field or body.

use std::time::SystemTime;

use http::uri::Scheme;
use http::{HeaderValue, Method, StatusCode, Version};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tokio::time::Instant;

use super::Recording;
use super::recording::Attempt;
use crate::error::Reason;
use crate::observe::metrics::NONE;
use crate::observe::summary::{End, ExchangeSummary};
use citrix_wire::trace_context;

/// Returns the server span of the exchange and its children, the client spans of the attempts.
/// `now` is the time of `summary.ended()`.
pub(super) fn of<'a>(
    recording: &'a Recording,
    summary: &'a ExchangeSummary<'_>,
    now: SystemTime,
) -> impl Iterator<Item = SpanData> + 'a {
    let wall = move |moment: Instant| {
        now.checked_sub(summary.ended().saturating_duration_since(moment))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let trace = recording.trace_id();
    let server = SpanData {
        parent_span_id: recording.parent.map_or(SpanId::INVALID, id),
        parent_span_is_remote: recording.parent.is_some(),
        start_time: wall(summary.began),
        end_time: now,
        attributes: about_exchange(summary),
        status: status(failure_of_exchange(summary)),
        ..span(trace, recording.span, SpanKind::Server, name(summary))
    };
    let attempts = recording
        .attempts
        .iter()
        .enumerate()
        .map(move |(index, attempt)| {
            // A cancelled attempt ended with the exchange.
            let ended = attempt.end.map_or(summary.ended(), |(ended, _)| ended);
            SpanData {
                parent_span_id: id(recording.span),
                start_time: wall(attempt.began),
                end_time: wall(ended),
                attributes: about_attempt(summary, attempt, index),
                status: status(failure_of_attempt(summary, attempt)),
                ..span(
                    trace,
                    attempt.span,
                    SpanKind::Client,
                    method(summary.request.method).to_owned(),
                )
            }
        });
    std::iter::once(server).chain(attempts)
}

fn span(
    trace: trace_context::TraceId,
    own: trace_context::SpanId,
    kind: SpanKind,
    name: String,
) -> SpanData {
    let trace = TraceId::from(trace.get());
    SpanData {
        span_context: SpanContext::new(
            trace,
            id(own),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: kind,
        name: name.into(),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::UNIX_EPOCH,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("citrix-auth-proxy")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn id(id: trace_context::SpanId) -> SpanId {
    SpanId::from(id.get())
}

/// Returns method and route, since span names must be a closed set.
fn name(summary: &ExchangeSummary<'_>) -> String {
    match route(summary) {
        Some(route) => format!("{} {route}", method(summary.request.method)),
        None => method(summary.request.method).to_owned(),
    }
}

/// Returns the method for span names: `HTTP` for a non-standard one.
fn method(method: &Method) -> &str {
    if is_standard(method) {
        method.as_str()
    } else {
        "HTTP"
    }
}

fn is_standard(method: &Method) -> bool {
    const STANDARD: [Method; 9] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
        Method::TRACE,
        Method::CONNECT,
    ];
    STANDARD.contains(method)
}

fn about_exchange(summary: &ExchangeSummary<'_>) -> Vec<KeyValue> {
    let citrix_id = summary.citrix_ids.iter().flatten().next();
    let mut about = vec![
        method_attribute(summary.request.method),
        KeyValue::new("url.path", summary.request.path.to_owned()),
        KeyValue::new("url.scheme", if summary.secure { "https" } else { "http" }),
        KeyValue::new("network.protocol.version", version(summary.version)),
        KeyValue::new("http.request.body.size", size(summary.request_bytes)),
        KeyValue::new("http.response.body.size", size(summary.response_bytes)),
        KeyValue::new(
            "citrix_auth_proxy.caller",
            summary.request.caller.to_owned(),
        ),
        KeyValue::new(
            "citrix_auth_proxy.request_id",
            text(summary.request.request_id),
        ),
        KeyValue::new(
            "citrix_auth_proxy.waited_seconds",
            summary.waited.as_secs_f64(),
        ),
        KeyValue::new(
            "citrix.transaction_id",
            text(citrix_id.unwrap_or(summary.request.transaction_id)),
        ),
    ];
    if let Some(route) = route(summary) {
        about.push(KeyValue::new("http.route", route.to_owned()));
    }
    if let Some(peer) = summary.request.peer {
        about.push(KeyValue::new("client.address", peer.ip().to_string()));
    }
    if let Some(status) = summary.response_status {
        about.push(status_attribute(status));
    }
    if let Some(reason) = summary.reason {
        about.push(KeyValue::new("citrix_auth_proxy.reason", reason.as_str()));
    }
    about.extend(failure_of_exchange(summary).map(failure_attribute));
    about
}

fn about_attempt(summary: &ExchangeSummary<'_>, attempt: &Attempt, index: usize) -> Vec<KeyValue> {
    let default_port = if attempt.scheme == Scheme::HTTPS {
        443
    } else {
        80
    };
    let port = attempt.authority.port_u16().unwrap_or(default_port);
    let url = format!(
        "{}://{}{}",
        attempt.scheme,
        attempt.authority,
        attempt.target.path()
    );
    let mut about = vec![
        method_attribute(summary.request.method),
        KeyValue::new("url.full", url),
        KeyValue::new("server.address", attempt.authority.host().to_owned()),
        KeyValue::new("server.port", i64::from(port)),
        KeyValue::new(
            "citrix.transaction_id",
            text(summary.request.transaction_id),
        ),
    ];
    if index > 0 {
        about.push(KeyValue::new(
            "http.request.resend_count",
            i64::try_from(index).unwrap_or(i64::MAX),
        ));
    }
    if let Some((_, Ok(status))) = attempt.end {
        about.push(status_attribute(status));
    }
    about.extend(failure_of_attempt(summary, attempt).map(failure_attribute));
    about
}

/// Returns the route's name, if one was picked.
fn route<'a>(summary: &ExchangeSummary<'a>) -> Option<&'a str> {
    (summary.route != NONE).then_some(summary.route)
}

/// Returns the error type of the server span: by the conventions only 5xx and interrupted responses
/// are errors.
fn failure_of_exchange<'a>(summary: &'a ExchangeSummary<'_>) -> Option<&'a str> {
    let status = summary
        .response_status
        .as_ref()
        .filter(|status| status.is_server_error());
    interruption(summary)
        .or_else(|| status.map(|status| reason(summary).unwrap_or(status.as_str())))
}

fn interruption(summary: &ExchangeSummary<'_>) -> Option<&'static str> {
    (summary.end != End::Complete).then(|| summary.end.as_str())
}

fn reason(summary: &ExchangeSummary<'_>) -> Option<&'static str> {
    summary.reason.map(Reason::as_str)
}

/// Returns the error type of a client span: a status of 400 or above is an error. A cancelled
/// attempt failed for the reason of the exchange.
fn failure_of_attempt<'a>(
    summary: &'a ExchangeSummary<'_>,
    attempt: &'a Attempt,
) -> Option<&'a str> {
    match &attempt.end {
        Some((_, Ok(status))) if status.is_client_error() || status.is_server_error() => {
            Some(status.as_str())
        }
        Some((_, Ok(_))) => None,
        Some((_, Err(failure))) => Some(failure),
        None => reason(summary).or(interruption(summary)),
    }
}

fn method_attribute(method: &Method) -> KeyValue {
    // Callers choose non-standard methods freely.
    let known = if is_standard(method) {
        method.as_str().to_owned()
    } else {
        "_OTHER".to_owned()
    };
    KeyValue::new("http.request.method", known)
}

fn status_attribute(status: StatusCode) -> KeyValue {
    KeyValue::new("http.response.status_code", i64::from(status.as_u16()))
}

fn failure_attribute(failure: &str) -> KeyValue {
    KeyValue::new("error.type", failure.to_owned())
}

fn status(failure: Option<&str>) -> Status {
    match failure {
        // `error.type` names the failure.
        Some(_) => Status::error(""),
        None => Status::Unset,
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn text(value: &HeaderValue) -> String {
    value.to_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::uri::{Authority, PathAndQuery};

    use super::*;
    use crate::observe::summary::RequestFacts;
    use citrix_wire::field_list::FieldList;
    use citrix_wire::trace_context::TraceParent;

    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn summary(method: &Method) -> ExchangeSummary<'_> {
        let sample = ExchangeSummary::sample();
        ExchangeSummary {
            request: RequestFacts {
                method,
                ..sample.request
            },
            ..sample
        }
    }

    /// Returns the recording of an exchange whose attempts have these outcomes.
    fn recording(attempts: &[Option<Result<StatusCode, &'static str>>]) -> Recording {
        let caller = TraceParent::parse(CALLER.as_bytes()).unwrap();
        let mut recording = Recording::new(caller.trace_id, Some(caller));
        for end in attempts {
            let to = (&Scheme::HTTPS, &Authority::from_static("api.cloud.com"));
            let target = PathAndQuery::from_static("/cvad/manage/me?secret=CANARY");
            recording.begin_attempt(to, &target, &mut FieldList::default());
            if let Some(outcome) = end {
                recording.end_attempt(*outcome);
            }
        }
        recording
    }

    fn spans(recording: &Recording, summary: &ExchangeSummary<'_>) -> Vec<SpanData> {
        of(
            recording,
            summary,
            SystemTime::UNIX_EPOCH + Duration::from_secs(1000),
        )
        .collect()
    }

    fn attribute(span: &SpanData, name: &str) -> Option<String> {
        let found = span
            .attributes
            .iter()
            .find(|attribute| attribute.key.as_str() == name);
        found.map(|attribute| attribute.value.as_str().into_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn attempt_is_a_child_of_the_exchange_which_is_a_child_of_the_caller() {
        let recording = recording(&[Some(Ok(StatusCode::OK))]);
        let spans = spans(&recording, &summary(&Method::GET));
        let [server, client] = &spans[..] else {
            panic!("{spans:?}")
        };
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for span in &spans {
            assert_eq!(span.span_context.trace_id().to_string(), trace);
            assert_eq!(span.status, Status::Unset);
            assert!(!format!("{span:?}").contains("CANARY"), "{span:?}");
        }
        assert_eq!(
            (server.name.as_ref(), client.name.as_ref()),
            ("GET /cvad/manage", "GET")
        );
        assert_eq!(
            (&server.span_kind, &client.span_kind),
            (&SpanKind::Server, &SpanKind::Client)
        );
        assert_eq!(server.parent_span_id.to_string(), "b7ad6b7169203331");
        assert!(server.parent_span_is_remote);
        assert_eq!(client.parent_span_id, server.span_context.span_id());
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs()
        };
        assert_eq!(
            (seconds(server.start_time), seconds(server.end_time)),
            (998, 1000)
        );
        assert_eq!(
            attribute(client, "url.full").as_deref(),
            Some("https://api.cloud.com/cvad/manage/me")
        );
        assert_eq!(attribute(client, "server.port").as_deref(), Some("443"));
    }

    #[test]
    fn server_span_is_an_error_on_5xx_or_interruption() {
        let ok = StatusCode::OK;
        // Response status, reason, end; expected error type.
        let cases = [
            (Some(ok), None, End::Complete, None),
            (Some(StatusCode::NOT_FOUND), None, End::Complete, None),
            (
                Some(StatusCode::UNAUTHORIZED),
                Some(Reason::CallerUnknown),
                End::Complete,
                None,
            ),
            (
                Some(StatusCode::BAD_GATEWAY),
                Some(Reason::UpstreamConnect),
                End::Complete,
                Some("upstream_connect"),
            ),
            (
                Some(StatusCode::SERVICE_UNAVAILABLE),
                None,
                End::Complete,
                Some("503"),
            ),
            (Some(ok), None, End::Truncated, Some("cut_off")),
            (None, None, End::CallerDisconnected, Some("caller_left")),
        ];
        for (response_status, reason, end, expected) in cases {
            let summary = ExchangeSummary {
                response_status,
                reason,
                end,
                ..summary(&Method::GET)
            };
            let spans = spans(&recording(&[]), &summary);
            assert_eq!(
                attribute(&spans[0], "error.type").as_deref(),
                expected,
                "{summary:?}"
            );
            assert_eq!(
                matches!(spans[0].status, Status::Error { .. }),
                expected.is_some(),
                "{summary:?}"
            );
        }
    }

    #[test]
    fn client_span_has_the_outcome_of_its_attempt() {
        let recording = recording(&[
            Some(Err("upstream_broken")),
            Some(Ok(StatusCode::UNAUTHORIZED)),
            Some(Ok(StatusCode::OK)),
            None,
        ]);
        let summary = ExchangeSummary {
            response_status: Some(StatusCode::GATEWAY_TIMEOUT),
            reason: Some(Reason::UpstreamTimeout),
            ..summary(&Method::GET)
        };
        let spans = spans(&recording, &summary);
        let attributes = |name| {
            spans[1..]
                .iter()
                .map(|span| attribute(span, name))
                .collect::<Vec<_>>()
        };
        let some = |value: &str| Some(value.to_owned());
        let failures = [
            some("upstream_broken"),
            some("401"),
            None,
            some("upstream_timeout"),
        ];
        assert_eq!(attributes("error.type"), failures);
        assert_eq!(
            attributes("http.response.status_code"),
            [None, some("401"), some("200"), None]
        );
        assert_eq!(
            attributes("http.request.resend_count"),
            [None, some("1"), some("2"), some("3")]
        );
    }

    #[test]
    fn non_standard_method_is_http_in_names_and_other_in_attributes() {
        let method = Method::from_bytes(b"BREW").unwrap();
        let summary = ExchangeSummary {
            route: NONE,
            ..summary(&method)
        };
        let spans = spans(&recording(&[None]), &summary);
        for span in &spans {
            assert_eq!(span.name, "HTTP");
            assert_eq!(
                attribute(span, "http.request.method").as_deref(),
                Some("_OTHER")
            );
        }
    }
}
