//! Idle connections release their buffers; callers do not notice.

use citrix_auth_proxy::state::lifecycle::Phase;
use futures_util::future::join_all;

use crate::harness::pki::{TestCa, TlsFiles};
use crate::harness::{Gateway, OK, Upstream, Wire, get, wait_until};

const SIMPLE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Connections release their buffers after a quarter of the timeout.
const LIMITS: &str = "[limits]\nkeep_alive_timeout = \"2s\"";

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).with(LIMITS).start().await;
    (gateway, upstream)
}

/// Waits until `count` connections are idle without buffers.
async fn wait_until_idle(gateway: &Gateway, count: usize) {
    let reached = async || gateway.app().connections().idle() == count;
    wait_until("connections are idle", reached).await;
}

/// Returns a connection that has served a request and is idle.
async fn idle_connection(gateway: &Gateway) -> Wire {
    let mut caller = gateway.connect().await;
    caller.write(SIMPLE).await;
    assert_eq!(caller.response().await.status(), 200);
    wait_until_idle(gateway, 1).await;
    caller
}

#[tokio::test]
async fn idle_connection_serves_further_requests() {
    let (gateway, _upstream) = gateway().await;
    let mut caller = idle_connection(&gateway).await;
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "x".repeat(5000)
    );
    for requests in [SIMPLE.to_owned(), SIMPLE.repeat(3), long] {
        caller.write(&requests).await;
        for _ in 0..requests.matches("HTTP/1.1").count() {
            assert_eq!(caller.response().await.status(), 200);
        }
        wait_until_idle(&gateway, 1).await;
    }
    caller.closed().await;
}

#[tokio::test]
async fn idle_connection_rejects_malformed_requests() {
    let (gateway, _upstream) = gateway().await;
    for (bad, status) in [
        ("GET / HTTP/1.1\nHost: localhost\n\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        // The HTTP version does not change within a connection.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ] {
        let mut caller = idle_connection(&gateway).await;
        caller.write(bad).await;
        let received = caller.rest().await;
        let received = String::from_utf8_lossy(&received);
        assert!(
            received.starts_with(&format!("HTTP/1.1 {status} ")),
            "{bad:?}: {received}"
        );
        wait_until_idle(&gateway, 0).await;
    }
}

#[tokio::test]
async fn rfc9110_15_5_9_stalled_head_on_an_idle_connection_returns_408() {
    let upstream = Upstream::responding(OK).await;
    let limits = format!("{LIMITS}\nheader_read_timeout = \"100ms\"");
    let gateway = Gateway::in_front_of(&upstream).with(&limits).start().await;
    let mut caller = idle_connection(&gateway).await;
    caller.write("G").await;
    caller.response().await.problem(408, "request_timeout");
}

#[tokio::test]
async fn unread_body_is_not_parsed_as_a_request() {
    let smuggled = get("/smuggled");
    let framings = [
        (format!("Content-Length: {}", 5 + smuggled.len()), "hello"),
        ("Transfer-Encoding: chunked".to_owned(), "5\r\nhello\r\n"),
    ];
    join_all(framings.map(async |(framing, start)| {
        let upstream = Upstream::manual().await;
        let gateway = Gateway::in_front_of(&upstream)
            .with(&format!("{LIMITS}\nheader_read_timeout = \"1s\""))
            .with("[upstream]\npool_idle_timeout = \"1s\"")
            .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "1")
            .start()
            .await;
        let mut caller = gateway.connect().await;
        caller
            .write(format!(
                "POST / HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"
            ))
            .await;
        caller.write(start).await;
        let mut wire = upstream.connection().await;
        wire.head().await;
        wire.write(OK).await;
        assert_eq!(caller.response().await.status(), 200);
        // The single worker sweeps both connections at once, and only the other one becomes idle.
        let mut other = gateway.connect().await;
        other.write(SIMPLE).await;
        let mut other_wire = upstream.connection().await;
        other_wire.head().await;
        other_wire.write(OK).await;
        assert_eq!(other.response().await.status(), 200);
        wait_until_idle(&gateway, 1).await;
        caller.write(&smuggled).await;
        let received = caller.rest().await;
        assert!(
            !received.starts_with(b"HTTP/1.1 2"),
            "{}",
            String::from_utf8_lossy(&received)
        );
        let forwarded = wire.rest().await;
        assert!(
            !forwarded.starts_with(b"GET"),
            "{}",
            String::from_utf8_lossy(&forwarded)
        );
    }))
    .await;
}

#[tokio::test]
async fn idle_tls_connection_serves_further_requests() {
    let authority = TestCa::new("ca");
    let files = TlsFiles::new(&authority.issue("gateway", &["localhost"]));
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&files.toml(""))
        .with(LIMITS)
        .start()
        .await;
    let (mut caller, _) = gateway.connect_tls(&authority.pem(), &["http/1.1"]).await;
    for requests in [1, 1, 3] {
        caller.write(SIMPLE.repeat(requests)).await;
        for _ in 0..requests {
            assert_eq!(caller.response().await.status(), 200);
        }
        wait_until_idle(&gateway, 1).await;
    }
}

#[tokio::test]
async fn idle_connection_is_closed_when_the_gateway_drains() {
    let (gateway, _upstream) = gateway().await;
    let mut caller = idle_connection(&gateway).await;
    gateway.app().lifecycle().advance(Phase::Draining);
    caller.closed().await;
}
