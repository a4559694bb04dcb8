//! Spans that a collector receives.

use citrix_wire::trace_context::TraceParent;
use serde_json::Value;

use super::collector::{CLIENT, SERVER, Span, collector, spans};
use super::{PARENT, TRACE, logged_trace_ids, send};
use crate::gateway::{Gateway, get};
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Message, wait_until};

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

/// Starts a gateway that exports its spans to `collector`.
async fn exporting_gateway(
    upstream: &Upstream,
    collector: &Upstream,
    more: &[(&str, &str)],
) -> Gateway {
    let endpoint = collector.url();
    let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    variables.extend(more);
    Gateway::in_front_of(upstream, &variables).await
}

/// Returns the trace context of a request to Citrix.
fn trace_parent(request: &Message) -> Option<TraceParent> {
    request
        .field("traceparent")
        .map(|value| TraceParent::parse(value.as_bytes()).unwrap())
}

fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    span.attributes.get(name).map(String::as_str)
}

#[tokio::test]
async fn trace_of_a_caller_continues_through_the_gateway_to_citrix() {
    let (upstream, collector) = (Upstream::responding(OK).await, collector().await);
    let gateway = exporting_gateway(&upstream, &collector, &[]).await;
    let response = send(
        &gateway,
        &format!("traceparent: {PARENT}\r\ntracestate: a=1\r\n"),
    )
    .await;
    let request = upstream.request().await;
    // Shutdown flushes the queued spans.
    gateway.program.signal("TERM");
    let exit = gateway.wait().await;
    assert_eq!(exit.code, Some(0));
    assert_eq!(logged_trace_ids(&exit), [Some(TRACE.to_owned())]);

    let spans = spans(&collector).await;
    let [server, client] = &spans[..] else {
        panic!("{spans:#?}")
    };
    assert_eq!(
        (server.trace.as_str(), client.trace.as_str()),
        (TRACE, TRACE)
    );
    assert_eq!(
        (server.kind, server.parent.as_str()),
        (SERVER, "b7ad6b7169203331")
    );
    assert_eq!((client.kind, &client.parent), (CLIENT, &server.id));
    assert!(server.start <= client.start && client.start <= client.end && client.end <= server.end);
    let forwarded = trace_parent(&request).unwrap();
    assert_eq!(
        (
            forwarded.trace_id.to_string().as_str(),
            &forwarded.span_id.to_string()
        ),
        (TRACE, &client.id)
    );
    assert_eq!(request.field("tracestate").as_deref(), Some("a=1"));

    assert_eq!(
        (server.name.as_str(), client.name.as_str()),
        ("GET /", "GET")
    );
    for span in &spans {
        assert_eq!(attribute(span, "http.response.status_code"), Some("200"));
        assert_eq!(span.resource["service.name"], "citrix-auth-proxy");
        assert!(!span.failed);
    }
    assert_eq!(
        (
            attribute(server, "url.path"),
            attribute(server, "http.route")
        ),
        (Some("/x"), Some("/"))
    );
    assert_eq!(
        attribute(server, "citrix.transaction_id"),
        response.field("citrix-transactionid").as_deref()
    );
    assert_eq!(
        attribute(client, "url.full"),
        Some(format!("{}/x", upstream.url()).as_str())
    );
}

#[tokio::test]
async fn trace_of_the_gateway_is_not_forwarded_to_citrix() {
    let (upstream, collector) = (Upstream::responding(OK).await, collector().await);
    let gateway =
        exporting_gateway(&upstream, &collector, &[("OTEL_SERVICE_NAME", "citrix-eu")]).await;
    send(&gateway, "").await;
    assert_eq!(trace_parent(&upstream.request().await), None);
    gateway.program.signal("TERM");
    let exit = gateway.wait().await;
    let spans = spans(&collector).await;
    let [server, client] = &spans[..] else {
        panic!("{spans:#?}")
    };
    assert_eq!(logged_trace_ids(&exit), [Some(server.trace.clone())]);
    assert_eq!((server.parent.as_str(), &client.parent), ("", &server.id));
    assert_eq!(server.resource["service.name"], "citrix-eu");
}

#[tokio::test]
async fn unsampled_trace_passes_unchanged_and_exports_nothing() {
    let (upstream, collector) = (Upstream::responding(OK).await, collector().await);
    let gateway = exporting_gateway(&upstream, &collector, &[]).await;
    let unsampled = PARENT.replace("-01", "-00");
    send(&gateway, &format!("traceparent: {unsampled}\r\n")).await;
    assert_eq!(
        upstream.request().await.field("traceparent"),
        Some(unsampled)
    );
    gateway.program.signal("TERM");
    assert_eq!(
        logged_trace_ids(&gateway.wait().await),
        [Some(TRACE.to_owned())]
    );
    assert_eq!(spans(&collector).await.len(), 0);
}

#[tokio::test]
async fn sampler_of_the_environment_applies() {
    let (upstream, collector) = (Upstream::responding(OK).await, collector().await);
    let sampler = [
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0"),
    ];
    let gateway = exporting_gateway(&upstream, &collector, &sampler).await;
    send(&gateway, "").await;
    send(&gateway, &format!("traceparent: {PARENT}\r\n")).await;
    gateway.program.signal("TERM");
    assert_eq!(
        logged_trace_ids(&gateway.wait().await),
        [None, Some(TRACE.to_owned())]
    );
    let spans = spans(&collector).await;
    assert!(
        spans.len() == 2 && spans.iter().all(|span| span.trace == TRACE),
        "{spans:#?}"
    );
}

#[tokio::test]
async fn each_attempt_has_its_own_span() {
    let upstream =
        Upstream::scripted(|number| if number == 1 { UNAUTHORIZED } else { OK }.into()).await;
    let collector = collector().await;
    let gateway = exporting_gateway(&upstream, &collector, &[]).await;
    let response = send(&gateway, &format!("traceparent: {PARENT}\r\n")).await;
    assert_eq!(response.status(), 200);
    let forwarded = [
        trace_parent(&upstream.request().await),
        trace_parent(&upstream.request().await),
    ];
    let forwarded = forwarded.map(|parent| parent.unwrap().span_id.to_string());
    gateway.program.signal("TERM");
    gateway.wait().await;
    let spans = spans(&collector).await;
    let [_, rejected, accepted] = &spans[..] else {
        panic!("{spans:#?}")
    };
    assert_eq!([&rejected.id, &accepted.id], [&forwarded[0], &forwarded[1]]);
    assert_eq!(
        (attribute(rejected, "error.type"), rejected.failed),
        (Some("401"), true)
    );
    assert_eq!(
        (attribute(accepted, "error.type"), accepted.failed),
        (None, false)
    );
    assert_eq!(attribute(accepted, "http.request.resend_count"), Some("1"));
}

#[tokio::test]
async fn unreachable_upstream_is_a_failed_span() {
    let (upstream, collector) = (Upstream::refusing(), collector().await);
    let gateway = exporting_gateway(&upstream, &collector, &[]).await;
    assert_eq!(send(&gateway, "").await.status(), 502);
    gateway.program.signal("TERM");
    gateway.wait().await;
    let spans = spans(&collector).await;
    let [server, client] = &spans[..] else {
        panic!("{spans:#?}")
    };
    for span in [server, client] {
        assert_eq!(
            (attribute(span, "error.type"), span.failed),
            (Some("upstream_connect"), true)
        );
    }
}

#[tokio::test]
async fn unreachable_collector_delays_neither_requests_nor_exit() {
    let (upstream, collector) = (Upstream::responding(OK).await, Upstream::refusing());
    let settings = [
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "50"),
    ];
    let gateway = exporting_gateway(&upstream, &collector, &settings).await;
    assert_eq!(send(&gateway, "").await.status(), 200);
    wait_until("the export of the spans failed", || async {
        let metrics = get(gateway.admin, "/metrics").await.text();
        metrics.contains(r#"citrix_auth_proxy_spans_total{outcome="failed"} 2"#)
    })
    .await;
    gateway.program.signal("TERM");
    let exit = gateway.wait().await;
    assert_eq!(exit.code, Some(0));
    let log = exit.log();
    let is_failure = |line: &&Value| {
        line["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("failed to export spans"))
    };
    let failures: Vec<_> = log.iter().filter(is_failure).collect();
    let [failure] = failures[..] else {
        panic!("{failures:#?}")
    };
    assert!(
        failure["cause"].as_str().unwrap().contains("refused"),
        "{failure}"
    );
}

#[tokio::test]
async fn spans_beyond_the_queue_are_dropped_and_counted() {
    // The collector reads a batch and never responds.
    let (upstream, collector) = (Upstream::responding(OK).await, Upstream::manual().await);
    let settings = [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2"),
    ];
    let gateway = exporting_gateway(&upstream, &collector, &settings).await;
    send(&gateway, "").await;
    let mut wire = collector.connection().await;
    wire.request().await;
    for _ in 0..4 {
        assert_eq!(send(&gateway, "").await.status(), 200);
    }
    let metrics = get(gateway.admin, "/metrics").await.text();
    assert!(
        metrics.contains(r#"citrix_auth_proxy_spans_total{outcome="queue_full"} 4"#),
        "{metrics}"
    );
    gateway.program.signal("TERM");
    assert_eq!(gateway.wait().await.code, Some(0));
}

#[tokio::test]
async fn invalid_otel_variables_are_logged_without_passwords_and_requests_succeed() {
    let upstream = Upstream::responding(OK).await;
    for (name, value, expected) in [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://me:c4nary@127.0.0.1:9",
            "failed to start the export of spans",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://[nonsense?c4nary",
            "failed to start the export of spans",
        ),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "environment variable not supported",
        ),
        (
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "gzip",
            "environment variable not supported",
        ),
        (
            "OTEL_TRACES_SAMPLER",
            "jaeger_remote",
            "environment variable invalid",
        ),
        (
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "many",
            "environment variable out of range",
        ),
    ] {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
        let timeout = ("OTEL_EXPORTER_OTLP_TIMEOUT", "50");
        let gateway = Gateway::in_front_of(&upstream, &[endpoint, timeout, (name, value)]).await;
        assert_eq!(send(&gateway, "").await.status(), 200);
        gateway.program.signal("TERM");
        let exit = gateway.wait().await;
        let log = exit.log();
        let is_expected = |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            // Lines about the endpoint have no field `variable`.
            message.starts_with(expected)
                && (name.ends_with("ENDPOINT") || line["variable"] == name)
        };
        assert!(log.iter().any(is_expected), "{name}: {log:#?}");
        assert!(!exit.stderr.contains("c4nary"), "{}", exit.stderr);
    }
}
