//! Caller connections: timeouts, limits, sockets, HTTP versions (interface §3.1 `[listen]` and
//! `[limits]`).

mod client_certificates;
mod close_notify;
mod expect_continue;
mod handshakes;
mod http2_frames;
mod http2_heads;
mod http2_malformed;
mod http2_streams;
mod idle;
mod listeners;
mod memory;
mod proxy_protocol;
mod slow;
mod tls_reload;
mod trailers;

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::harness::{Gateway, OK, Upstream, get, wait_until, within_timeout};

const SIMPLE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Time between two bytes of a drip.
const DRIP: Duration = Duration::from_millis(20);

/// Sends `at_once`, then one byte of `drip` after the other until the gateway closes the
/// connection. Returns what it sent; panics if it waits for the last byte.
async fn response_to_drip(gateway: &Gateway, at_once: &[u8], drip: &[u8]) -> Vec<u8> {
    let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
    caller.set_nodelay(true).unwrap();
    caller.write_all(at_once).await.unwrap();
    let (mut reader, mut writer) = caller.split();
    let send = async {
        for byte in drip {
            // Fails after the close, which the reader sees.
            writer.write_all(&[*byte]).await.ok();
            sleep(DRIP).await;
        }
    };
    let mut response = Vec::new();
    tokio::select! {
        // A reset ends it as well.
        _ = within_timeout(reader.read_to_end(&mut response)) => {}
        () = send => panic!("open after the last byte"),
    }
    response
}

#[tokio::test]
async fn rfc9110_15_5_9_stalled_head_returns_408() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nheader_read_timeout = \"50ms\"")
        .start()
        .await;
    for beginning in ["G", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: "] {
        let mut caller = gateway.connect().await;
        caller.write(beginning).await;
        let response = caller.response().await;
        response.problem(408, "request_timeout");
        assert_eq!(response.field("connection").as_deref(), Some("close"));
        caller.closed().await;
    }
    // Also on a connection that has served a request.
    let mut caller = gateway.connect().await;
    caller.write(SIMPLE).await;
    assert_eq!(caller.response().await.status(), 200);
    caller.write("GET / HT").await;
    caller.response().await.problem(408, "request_timeout");
    caller.closed().await;
}

#[tokio::test]
async fn head_timeout_does_not_apply_between_requests() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nheader_read_timeout = \"50ms\"\nkeep_alive_timeout = \"10m\"")
        .start()
        .await;
    let mut caller = gateway.connect().await;
    caller.write(SIMPLE).await;
    assert_eq!(caller.response().await.status(), 200);
    let mut other = gateway.connect().await;
    other.write("G").await;
    // By the time the other head has timed out, this connection would have, too.
    assert_eq!(other.response().await.status(), 408);
    caller.write(SIMPLE).await;
    assert_eq!(caller.response().await.status(), 200);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn idle_connection_is_closed_without_a_response() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nkeep_alive_timeout = \"300ms\"")
        .start()
        .await;
    let mut caller = gateway.connect().await;
    caller.write(SIMPLE).await;
    assert_eq!(caller.response().await.status(), 200);
    caller.closed().await;
    // Also a connection that never sent a byte.
    gateway.connect().await.closed().await;
    let http2 = gateway.http2().await;
    wait_until("the HTTP/2 connection closes", || {
        let http2 = http2.clone();
        async move { http2.ready().await.is_err() }
    })
    .await;
}

#[tokio::test]
async fn first_request_must_arrive_within_header_read_timeout_from_accept() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nheader_read_timeout = \"300ms\"")
        .start()
        .await;
    // Nothing, the start of the HTTP/2 preface, and all of it without a request.
    for part in ["", "PRI * HT"] {
        let mut caller = gateway.connect().await;
        caller.write(part).await;
        caller.closed().await;
    }
    let http2 = gateway.http2().await;
    wait_until("the HTTP/2 connection closes", || {
        let http2 = http2.clone();
        async move { http2.ready().await.is_err() }
    })
    .await;
    wait_until("no connection is left", async || {
        gateway.app().connections().total() == 0
    })
    .await;
}

#[tokio::test]
async fn rfc9110_15_5_9_stalled_body_returns_408() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nbody_idle_timeout = \"50ms\"")
        .start()
        .await;
    let mut caller = gateway.connect().await;
    caller
        .write("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
        .await;
    let mut wire = upstream.connection().await;
    assert_eq!(
        wire.head().await.field("content-length").as_deref(),
        Some("10")
    );
    caller.response().await.problem(408, "request_timeout");
    caller.closed().await;
    // The upstream sees the connection close before the request ends.
    assert_eq!(wire.rest().await, b"hello");
}

#[tokio::test]
async fn connection_above_the_limit_returns_503_unless_another_is_idle() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_connections = 1")
        .start()
        .await;
    let mut first = gateway.connect().await;
    first
        .write("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n")
        .await;
    wait_until("the request has begun", || async {
        let metrics = gateway.metrics().await;
        metrics.contains("citrix_auth_proxy_in_flight_requests 1\n")
    })
    .await;
    let mut second = gateway.connect().await;
    let response = second.response().await;
    response.problem(503, "overloaded");
    assert_eq!(response.field("retry-after").as_deref(), Some("1"));
    second.closed().await;
    first.write("x").await;
    assert_eq!(first.response().await.status(), 200);
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    first.closed().await;
}

#[tokio::test]
async fn rfc6585_5_oversized_head_returns_431() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_header_bytes = \"8KiB\"")
        .start()
        .await;
    let head = |bytes| {
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: {}\r\n\r\n",
            "x".repeat(bytes)
        )
    };
    assert_eq!(gateway.raw(head(7000)).await.status(), 200);
    let mut caller = gateway.connect().await;
    caller.write(head(9000)).await;
    assert_eq!(caller.response().await.status(), 431);
    upstream.request().await;
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn malformed_http_is_rejected_and_other_callers_are_served() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nthis is no frame of HTTP/2 at all",
    ] {
        let mut caller = gateway.connect().await;
        caller.write(garbage).await;
        let response = caller.rest().await;
        assert!(!response.starts_with(b"HTTP/1.1 2"), "{garbage:?}");
    }
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    upstream.request().await;
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn pipelined_requests_get_responses_in_order() {
    let upstream = Upstream::scripted(|number| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}").into_bytes()
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller.write(SIMPLE.repeat(3)).await;
    for expected in ["1", "2", "3"] {
        assert_eq!(caller.response().await.text(), expected);
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn connections_are_distributed_over_workers() {
    const CALLERS: usize = 12;
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "3")
        .start()
        .await;
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = gateway.connect().await;
        caller.write(SIMPLE).await;
        assert_eq!(caller.response().await.status(), 200);
        callers.push(caller);
    }
    // Each worker has its own pool; sequential callers need one connection from each.
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn rfc9112_9_6_request_after_connection_close_is_not_processed() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for option in ["close", "x, CLOSE"] {
        let first = format!("GET /1 HTTP/1.1\r\nHost: localhost\r\nConnection: {option}\r\n\r\n");
        let mut caller = gateway.connect().await;
        caller.write(first + SIMPLE).await;
        let response = caller.response().await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.field("connection").as_deref(), Some("close"));
        caller.closed().await;
        assert_eq!(upstream.request().await.line(), "GET /1 HTTP/1.1");
    }
    upstream.assert_no_more_requests().await;
}
