//! Spans as a collector gets them.

use citrix_wire::trace_context::TraceParent;

use serde_json::Value;

use super::collector::{CLIENT, SERVER, Span, collector, spans};
use super::{PARENT, TRACE, logged, sent};
use crate::gateway::{Gateway, asked};
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Message, wait_until};

const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

async fn exporting(upstream: &Upstream, collector: &Upstream, more: &[(&str, &str)]) -> Gateway {
    let endpoint = collector.url();
    let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    variables.extend(more);
    Gateway::in_front_of(upstream, &variables).await
}

/// What Citrix was told of the trace.
fn told(request: &Message) -> Option<TraceParent> {
    request
        .field("traceparent")
        .map(|value| TraceParent::parse(value.as_bytes()).unwrap())
}

fn about<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    span.attributes.get(name).map(String::as_str)
}

#[tokio::test]
async fn a_callers_trace_goes_on_through_the_gateway_to_citrix() {
    let (upstream, collector) = (Upstream::responding(OK).await, collector().await);
    let gateway = exporting(&upstream, &collector, &[]).await;
    let response = sent(
        &gateway,
        &format!("traceparent: {PARENT}\r\ntracestate: a=1\r\n"),
    )
    .await;
    let request = upstream.request().await;
    // What waits to be sent is sent before the program ends.
    gateway.program.signal("TERM");
    let ended = gateway.end().await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(logged(&ended), [Some(TRACE.to_owned())]);

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
    assert!(
        server.began <= client.began
            && client.began <= client.ended
            && client.ended <= server.ended
    );
    let told = told(&request).unwrap();
    assert_eq!(
        (
            told.trace_id.to_string().as_str(),
            &told.span_id.to_string()
        ),
        (TRACE, &client.id)
    );
    assert_eq!(request.field("tracestate").as_deref(), Some("a=1"));

    assert_eq!(
        (server.name.as_str(), client.name.as_str()),
        ("GET /", "GET")
    );
    for span in &spans {
        assert_eq!(about(span, "http.response.status_code"), Some("200"));
        assert_eq!(span.resource["service.name"], "citrix-auth-proxy");
        assert!(!span.failed);
    }
    assert_eq!(
        (about(server, "url.path"), about(server, "http.route")),
        (Some("/x"), Some("/"))
    );
    assert_eq!(
        about(server, "citrix.transaction_id"),
        response.field("citrix-transactionid").as_deref()
    );
    assert_eq!(
        about(client, "url.full"),
        Some(format!("{}/x", upstream.url()).as_str())
    );
}

#[tokio::test]
async fn a_trace_of_ours_is_not_told_to_citrix() {
    let (upstream, collector) = (Upstream::responding(OK).await, collector().await);
    let gateway = exporting(&upstream, &collector, &[("OTEL_SERVICE_NAME", "citrix-eu")]).await;
    sent(&gateway, "").await;
    assert_eq!(told(&upstream.request().await), None);
    gateway.program.signal("TERM");
    let ended = gateway.end().await;
    let spans = spans(&collector).await;
    let [server, client] = &spans[..] else {
        panic!("{spans:#?}")
    };
    assert_eq!(logged(&ended), [Some(server.trace.clone())]);
    assert_eq!((server.parent.as_str(), &client.parent), ("", &server.id));
    assert_eq!(server.resource["service.name"], "citrix-eu");
}

#[tokio::test]
async fn what_a_caller_does_not_record_passes_as_it_came() {
    let (upstream, collector) = (Upstream::responding(OK).await, collector().await);
    let gateway = exporting(&upstream, &collector, &[]).await;
    let unsampled = PARENT.replace("-01", "-00");
    sent(&gateway, &format!("traceparent: {unsampled}\r\n")).await;
    assert_eq!(
        upstream.request().await.field("traceparent"),
        Some(unsampled)
    );
    gateway.program.signal("TERM");
    assert_eq!(logged(&gateway.end().await), [Some(TRACE.to_owned())]);
    assert_eq!(spans(&collector).await.len(), 0);
}

#[tokio::test]
async fn the_sampler_is_the_environments() {
    let (upstream, collector) = (Upstream::responding(OK).await, collector().await);
    let sampler = [
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0"),
    ];
    let gateway = exporting(&upstream, &collector, &sampler).await;
    sent(&gateway, "").await;
    sent(&gateway, &format!("traceparent: {PARENT}\r\n")).await;
    gateway.program.signal("TERM");
    assert_eq!(logged(&gateway.end().await), [None, Some(TRACE.to_owned())]);
    let spans = spans(&collector).await;
    assert!(
        spans.len() == 2 && spans.iter().all(|span| span.trace == TRACE),
        "{spans:#?}"
    );
}

#[tokio::test]
async fn each_attempt_is_a_span_of_its_own() {
    let upstream = Upstream::scripted(|number| if number == 1 { REFUSED } else { OK }.into()).await;
    let collector = collector().await;
    let gateway = exporting(&upstream, &collector, &[]).await;
    let response = sent(&gateway, &format!("traceparent: {PARENT}\r\n")).await;
    assert_eq!(response.status(), 200);
    let seen = [
        told(&upstream.request().await),
        told(&upstream.request().await),
    ];
    let seen = seen.map(|told| told.unwrap().span_id.to_string());
    gateway.program.signal("TERM");
    gateway.end().await;
    let spans = spans(&collector).await;
    let [_, refused, accepted] = &spans[..] else {
        panic!("{spans:#?}")
    };
    assert_eq!([&refused.id, &accepted.id], [&seen[0], &seen[1]]);
    assert_eq!(
        (about(refused, "error.type"), refused.failed),
        (Some("401"), true)
    );
    assert_eq!(
        (about(accepted, "error.type"), accepted.failed),
        (None, false)
    );
    assert_eq!(about(accepted, "http.request.resend_count"), Some("1"));
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_failed_attempt() {
    let (upstream, collector) = (Upstream::refusing(), collector().await);
    let gateway = exporting(&upstream, &collector, &[]).await;
    assert_eq!(sent(&gateway, "").await.status(), 502);
    gateway.program.signal("TERM");
    gateway.end().await;
    let spans = spans(&collector).await;
    let [server, client] = &spans[..] else {
        panic!("{spans:#?}")
    };
    for span in [server, client] {
        assert_eq!(
            (about(span, "error.type"), span.failed),
            (Some("upstream_connect"), true)
        );
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_delays_neither_requests_nor_the_end_for_long() {
    let (upstream, collector) = (Upstream::responding(OK).await, Upstream::refusing());
    let quickly = [
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "50"),
    ];
    let gateway = exporting(&upstream, &collector, &quickly).await;
    assert_eq!(sent(&gateway, "").await.status(), 200);
    wait_until("the spans are given up", || async {
        let metrics = asked(gateway.admin, "/metrics").await.text();
        metrics.contains(r#"citrix_auth_proxy_spans_total{outcome="failed"} 2"#)
    })
    .await;
    gateway.program.signal("TERM");
    let ended = gateway.end().await;
    assert_eq!(ended.code, Some(0));
    let log = ended.log();
    let lost = |line: &&Value| {
        line["message"]
            .as_str()
            .is_some_and(|told| told.starts_with("failed to export spans"))
    };
    let told: Vec<_> = log.iter().filter(lost).collect();
    let [told] = told[..] else {
        panic!("{told:#?}")
    };
    assert!(
        told["cause"].as_str().unwrap().contains("refused"),
        "{told}"
    );
}

#[tokio::test]
async fn spans_that_find_no_room_are_lost_and_counted() {
    // It takes a batch and never says that it did.
    let (upstream, collector) = (Upstream::responding(OK).await, Upstream::manual().await);
    let few = [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2"),
    ];
    let gateway = exporting(&upstream, &collector, &few).await;
    sent(&gateway, "").await;
    let mut wire = collector.connection().await;
    wire.request().await;
    for _ in 0..4 {
        assert_eq!(sent(&gateway, "").await.status(), 200);
    }
    let metrics = asked(gateway.admin, "/metrics").await.text();
    assert!(
        metrics.contains(r#"citrix_auth_proxy_spans_total{outcome="queue_full"} 4"#),
        "{metrics}"
    );
    gateway.program.signal("TERM");
    assert_eq!(gateway.end().await.code, Some(0));
}

#[tokio::test]
async fn what_is_wrong_with_the_settings_is_told_without_passwords_and_nothing_else_changes() {
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
        let briefly = ("OTEL_EXPORTER_OTLP_TIMEOUT", "50");
        let gateway = Gateway::in_front_of(&upstream, &[endpoint, briefly, (name, value)]).await;
        assert_eq!(sent(&gateway, "").await.status(), 200);
        gateway.program.signal("TERM");
        let ended = gateway.end().await;
        let log = ended.log();
        let is_expected = |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            // Lines about an endpoint name the variable in `error`, if at all.
            message.starts_with(expected)
                && (name.ends_with("ENDPOINT") || line["variable"] == name)
        };
        assert!(log.iter().any(is_expected), "{name}: {log:#?}");
        assert!(!ended.stderr.contains("c4nary"), "{}", ended.stderr);
    }
}
