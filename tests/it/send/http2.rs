//! HTTP/2 towards the upstream: requests that it did not process, stream limits, idle connections
//! and large heads (interface §4.2, §4.4).

use testkit::http2::{
    CANCEL, DATA, END_STREAM, Http2Upstream, Http2Wire, INTERNAL_ERROR, MAX_CONCURRENT_STREAMS,
    NO_ERROR, REFUSED_STREAM, RST_STREAM,
};

use crate::callers::block;
use crate::harness::{Gateway, Plan, Upstream, get, get_with, within_timeout};

const METHODS: [(&str, &str); 6] = [
    ("GET", ""),
    ("POST", ""),
    ("POST", "{\"a\":1}"),
    ("PUT", "x"),
    ("PATCH", "x"),
    ("DELETE", ""),
];

pub fn in_front_of(upstream: &Http2Upstream) -> Plan {
    Gateway::in_front_of(&Upstream::refusing())
        .set("CITRIX_AUTH_PROXY_CITRIX__API_URL", &upstream.url())
        .set("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE", &upstream.ca_file())
}

fn request(method: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Sends a request that the upstream responds to, so that the connection is a used one.
async fn use_connection(gateway: &Gateway, upstream: &Http2Upstream) -> Http2Wire {
    let serve = async {
        let mut wire = upstream.connection().await;
        let (stream, _) = wire.request().await;
        wire.respond(stream, "{}").await;
        wire
    };
    let (response, wire) = tokio::join!(gateway.raw(get("/")), serve);
    assert_eq!(response.status(), 200);
    wire
}

#[tokio::test]
async fn rfc9113_8_7_refused_stream_is_resent_on_another_connection_whatever_the_method() {
    for (method, body) in METHODS {
        for used in [false, true] {
            let upstream = Http2Upstream::start().await;
            let gateway = in_front_of(&upstream).start().await;
            let before = match used {
                true => Some(use_connection(&gateway, &upstream).await),
                false => None,
            };
            let serve = async {
                let mut refusing = match before {
                    Some(wire) => wire,
                    None => upstream.connection().await,
                };
                let (stream, _) = refusing.request().await;
                refusing.reset(stream, REFUSED_STREAM).await;
                let mut wire = upstream.connection().await;
                let (stream, resent) = wire.request().await;
                assert_eq!(resent, body.as_bytes(), "{method}");
                wire.respond(stream, "{}").await;
                (refusing, wire)
            };
            let (response, _wires) = tokio::join!(gateway.raw(request(method, body)), serve);
            assert_eq!(response.status(), 200, "{method} {used}");
            assert_eq!(upstream.connections(), 2);
        }
    }
}

#[tokio::test]
async fn rfc9113_6_8_request_above_the_last_stream_of_goaway_is_resent() {
    for (method, body) in METHODS {
        let upstream = Http2Upstream::start().await;
        let gateway = in_front_of(&upstream).start().await;
        let serve = async {
            let mut leaving = upstream.connection().await;
            let (stream, _) = leaving.request().await;
            leaving.go_away(stream - 1, NO_ERROR).await;
            let mut wire = upstream.connection().await;
            let (stream, resent) = wire.request().await;
            assert_eq!(resent, body.as_bytes(), "{method}");
            wire.respond(stream, "{}").await;
            (leaving, wire)
        };
        let (response, _wires) = tokio::join!(gateway.raw(request(method, body)), serve);
        assert_eq!(response.status(), 200, "{method}");
    }
}

#[tokio::test]
async fn rfc9113_6_8_request_up_to_the_last_stream_of_goaway_completes() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let serve = async {
        let mut leaving = upstream.connection().await;
        let (stream, _) = leaving.request().await;
        leaving.go_away(stream, NO_ERROR).await;
        leaving.respond(stream, "late").await;
        leaving
    };
    let (response, _wire) = tokio::join!(gateway.raw(request("POST", "x")), serve);
    assert_eq!((response.status(), response.text().as_str()), (200, "late"));
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn rfc9113_6_8_accepted_request_of_a_closed_connection_is_not_resent() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let serve = async {
        let mut leaving = upstream.connection().await;
        let (stream, _) = leaving.request().await;
        leaving.go_away(stream, NO_ERROR).await;
    };
    let (response, ()) = tokio::join!(gateway.raw(request("POST", "x")), serve);
    let problem = response.problem(502, "upstream_broken");
    assert!(problem.to_string().contains("may have been processed"));
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn goaway_while_idle_fails_no_request() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    for (method, body) in METHODS {
        // Each iteration uses a new connection, because the last one has said GOAWAY.
        let mut leaving = use_connection(&gateway, &upstream).await;
        leaving.go_away(1, NO_ERROR).await;
        let serve = async {
            let mut wire = upstream.connection().await;
            let (stream, _) = wire.request().await;
            wire.respond(stream, "{}").await;
            wire.go_away(stream, NO_ERROR).await;
            wire
        };
        let (response, _wire) = tokio::join!(gateway.raw(request(method, body)), serve);
        assert_eq!(response.status(), 200, "{method}");
        drop(leaving);
    }
}

#[tokio::test]
async fn refused_request_is_resent_a_bounded_number_of_times() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let serve = async {
        let mut wires = Vec::new();
        for _ in 0..3 {
            let mut wire = upstream.connection().await;
            let (stream, _) = wire.request().await;
            wire.reset(stream, REFUSED_STREAM).await;
            wires.push(wire);
        }
        wires
    };
    let (response, _wires) = tokio::join!(gateway.raw(request("POST", "x")), serve);
    let problem = response.problem(502, "upstream_broken");
    assert!(
        problem.to_string().contains("was not processed"),
        "{problem}"
    );
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn stream_reset_with_another_code_is_not_resent() {
    for code in [NO_ERROR, INTERNAL_ERROR, CANCEL] {
        let upstream = Http2Upstream::start().await;
        let gateway = in_front_of(&upstream).start().await;
        let serve = async {
            let mut wire = upstream.connection().await;
            let (stream, _) = wire.request().await;
            wire.reset(stream, code).await;
            wire
        };
        let (response, _wire) = tokio::join!(gateway.raw(request("POST", "x")), serve);
        let problem = response.problem(502, "upstream_broken");
        assert!(
            problem.to_string().contains("may have been processed"),
            "{problem}"
        );
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn rfc9110_9_2_2_request_whose_stream_is_reset_is_resent_once_if_it_is_idempotent() {
    for (method, body) in METHODS {
        let upstream = Http2Upstream::start().await;
        let gateway = in_front_of(&upstream).start().await;
        let mut wire = use_connection(&gateway, &upstream).await;
        let mut sent = 0;
        let reset_each = async {
            loop {
                let (stream, _) = wire.request().await;
                sent += 1;
                wire.reset(stream, INTERNAL_ERROR).await;
            }
        };
        let response = tokio::select! {
            response = gateway.raw(request(method, body)) => response,
            () = reset_each => unreachable!("it has no end"),
        };
        response.problem(502, "upstream_broken");
        let expected = if matches!(method, "GET" | "DELETE") {
            2
        } else {
            1
        };
        assert_eq!(sent, expected, "{method} {body}");
    }
}

#[tokio::test]
async fn failure_of_a_get_or_head_is_retried_once_over_http2() {
    for (method, last, tries) in [("GET", "200", 2), ("HEAD", "502", 2), ("POST", "502", 1)] {
        let upstream = Http2Upstream::start().await;
        let gateway = in_front_of(&upstream).start().await;
        let serve = async {
            let mut wire = upstream.connection().await;
            for number in 1..=tries {
                let (stream, _) = wire.request().await;
                let status = if number == tries { last } else { "502" };
                wire.write_fields(stream, &[(":status", status)], END_STREAM)
                    .await;
            }
            wire
        };
        let caller = async {
            let mut caller = gateway.connect().await;
            caller.write(request(method, "")).await;
            caller.head().await
        };
        let (head, _wire) = tokio::join!(caller, serve);
        assert_eq!(head.status().to_string(), last, "{method}");
        assert!(!head.has("x-proxy-error"), "{method}");
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn refused_upload_is_resent_once_its_body_has_arrived() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller
        .write("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nfirst")
        .await;
    let mut refusing = upstream.connection().await;
    let stream = refusing.head().await;
    refusing.reset(stream, REFUSED_STREAM).await;
    caller.write("-last").await;
    let mut wire = upstream.connection().await;
    let (stream, body) = wire.request().await;
    assert_eq!(body, b"first-last");
    wire.respond(stream, "{}").await;
    assert_eq!(caller.response().await.status(), 200);
}

#[tokio::test]
async fn refused_upload_above_the_replay_buffer_is_not_resent() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream)
        .with("[limits]\nreplay_buffer_bytes = \"1KiB\"")
        .start()
        .await;
    let body = "x".repeat(2000);
    let serve = async {
        let mut wire = upstream.connection().await;
        let (stream, _) = wire.request().await;
        wire.reset(stream, REFUSED_STREAM).await;
        wire
    };
    let (response, _wire) = tokio::join!(gateway.raw(request("POST", &body)), serve);
    let problem = response.problem(502, "upstream_broken");
    assert!(
        problem.to_string().contains("was not processed"),
        "{problem}"
    );
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn another_connection_is_opened_at_the_stream_limit() {
    let upstream = Http2Upstream::with_settings(&[(MAX_CONCURRENT_STREAMS, 2)]).await;
    let gateway = in_front_of(&upstream).start().await;
    let mut hanging = Vec::new();
    for _ in 0..2 {
        let mut caller = gateway.connect().await;
        caller.write(request("GET", "")).await;
        hanging.push(caller);
    }
    let mut first = upstream.connection().await;
    first.request().await;
    first.request().await;
    for number in 0..3 {
        let serve = async {
            let mut wire = upstream.connection().await;
            let (stream, _) = wire.request().await;
            wire.respond(stream, "{}").await;
            wire
        };
        let quick = gateway.raw(request("POST", "x"));
        if number == 0 {
            let (response, mut second) = tokio::join!(quick, serve);
            assert_eq!(response.status(), 200);
            // The others use it as well.
            tokio::spawn(async move {
                while let Some(frame) = second.next().await {
                    if frame.ends_stream() {
                        second.respond(frame.stream, "{}").await;
                    }
                }
            });
        } else {
            assert_eq!(quick.await.status(), 200);
        }
    }
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn idle_http2_connection_closes_after_pool_idle_timeout() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream)
        .with("[upstream]\npool_idle_timeout = \"1s\"")
        .start()
        .await;
    let mut wire = use_connection(&gateway, &upstream).await;
    within_timeout(wire.closed()).await;
    use_connection(&gateway, &upstream).await;
}

/// Returns fields with `count` names and `bytes` bytes as HTTP/1.1 lines.
fn fields(count: usize, bytes: usize) -> Vec<(String, String)> {
    let name = |number| format!("x-{number:03}");
    let value = "v".repeat(bytes / count - "x-000: \r\n".len());
    (0..count)
        .map(|number| (name(number), value.clone()))
        .collect()
}

#[tokio::test]
async fn response_heads_have_the_same_bound_over_both_versions() {
    const KIB: usize = 1024;
    for (count, bytes, status) in [
        (1, 20 * KIB, 200),
        (40, 70 * KIB, 200),
        (1, 127 * KIB, 200),
        (99, 99 * 20, 200),
        (101, 101 * 20, 502),
        (200, 200 * 20, 502),
        (1, 129 * KIB, 502),
        (64, 160 * KIB, 502),
        (16, 256 * KIB, 502),
    ] {
        let fields = fields(count, bytes);
        let lines: String = fields
            .iter()
            .map(|(n, v)| format!("{n}: {v}\r\n"))
            .collect();
        let http1 = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
        let http1 = Upstream::responding(http1).await;
        let gateway = Gateway::in_front_of(&http1).start().await;
        let (head, _) = gateway.raw_head(get("/")).await;
        assert_eq!(
            head.status(),
            status,
            "HTTP/1.1: {count} fields, {bytes} bytes"
        );

        let upstream = Http2Upstream::start().await;
        let gateway = in_front_of(&upstream).start().await;
        let mut other = gateway.connect().await;
        other.write(request("POST", "x")).await;
        let mut wire = upstream.connection().await;
        let (waiting, _) = wire.request().await;
        let serve = async {
            let (stream, _) = wire.request().await;
            let mut section = vec![(":status", "200")];
            section.extend(fields.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            wire.write_fields(stream, &section, END_STREAM).await;
        };
        let ((head, _), ()) = tokio::join!(gateway.raw_head(get("/")), serve);
        assert_eq!(
            head.status(),
            status,
            "HTTP/2: {count} fields, {bytes} bytes"
        );
        wire.respond(waiting, "unaffected").await;
        assert_eq!(other.response().await.text(), "unaffected");
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn large_trailers_and_interim_heads_affect_no_other_exchange() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let mut other = gateway.connect().await;
    other.write(request("POST", "x")).await;
    let mut wire = upstream.connection().await;
    let (waiting, _) = wire.request().await;
    let large = "v".repeat(250 * 1024);
    let serve = async {
        let (stream, _) = wire.request().await;
        let interim = [(":status", "103"), ("x-large", large.as_str())];
        wire.write_fields(stream, &interim, 0).await;
        wire.write_fields(stream, &[(":status", "200")], 0).await;
        wire.write(DATA, 0, stream, b"{}").await;
        wire.write_fields(stream, &[("x-large", large.as_str())], END_STREAM)
            .await;
    };
    let (response, ()) = tokio::join!(gateway.raw(get("/")), serve);
    assert_eq!((response.status(), response.complete), (200, false));
    wire.respond(waiting, "unaffected").await;
    assert_eq!(other.response().await.text(), "unaffected");
}

#[tokio::test]
async fn caller_disconnect_resets_the_upstream_stream() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let mut wire = use_connection(&gateway, &upstream).await;
    let mut caller = gateway.connect().await;
    caller.write(request("POST", "x")).await;
    let (stream, _) = wire.request().await;
    drop(caller);
    let frame = wire.next().await.expect("a frame");
    assert_eq!((frame.kind, frame.stream), (RST_STREAM, stream));
}

/// Responds to one request on the upstream's next connection.
async fn serve_on_another_connection(upstream: &Http2Upstream) -> Http2Wire {
    let mut wire = upstream.connection().await;
    let (stream, _) = wire.request().await;
    wire.respond(stream, "{}").await;
    wire
}

#[tokio::test]
async fn callers_do_not_share_http2_connections() {
    let upstream = Http2Upstream::start().await;
    let callers = block("greedy", "c4nary-secret-of-greedy", "")
        + &block("modest", "c4nary-secret-of-modest", "");
    let gateway = in_front_of(&upstream).with(&callers).start().await;
    let mut greedy = Vec::new();
    let mut wire = None;
    for _ in 0..3 {
        let mut caller = gateway.connect().await;
        let request = get_with("/", "X-Api-Key: c4nary-secret-of-greedy\r\n");
        caller.write(request).await;
        greedy.push(caller);
        if wire.is_none() {
            wire = Some(upstream.connection().await);
        }
        wire.as_mut().unwrap().request().await;
    }
    let request = get_with("/", "X-Api-Key: c4nary-secret-of-modest\r\n");
    let (response, _wire) =
        tokio::join!(gateway.raw(request), serve_on_another_connection(&upstream));
    assert_eq!(response.status(), 200);
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn connection_with_unread_responses_takes_no_more_requests() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let mut unread = Vec::new();
    let mut wire: Option<Http2Wire> = None;
    for _ in 0..4 {
        // Each client has a window of 65,535 bytes for all of its responses.
        let mut client = gateway.http2().await;
        let request = http::Request::get(gateway.url("/")).body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        if wire.is_none() {
            wire = Some(upstream.connection().await);
        }
        let wire = wire.as_mut().unwrap();
        let (stream, _) = wire.request().await;
        wire.write_fields(stream, &[(":status", "200")], 0).await;
        for _ in 0..8 {
            wire.write(DATA, 0, stream, &[b'x'; 16 * 1024]).await;
        }
        let mut body = within_timeout(response).await.unwrap().into_body();
        let mut received = 0;
        while received < 65_535 {
            received += within_timeout(body.data()).await.unwrap().unwrap().len();
        }
        unread.push((client, body));
    }
    let (response, _wire) = tokio::join!(
        gateway.raw(get("/")),
        serve_on_another_connection(&upstream)
    );
    assert_eq!(response.status(), 200);
    assert_eq!(upstream.connections(), 2);
}
