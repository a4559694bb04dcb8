//! Connections that rest between two requests: nobody notices.

use std::time::Duration;

use citrix_auth_proxy::state::lifecycle::Phase;
use futures_util::future::join_all;
use tokio::time::sleep;

use crate::harness::pki::{Authority, Files};
use crate::harness::{Gateway, OK, Upstream, Wire, get};

const SIMPLE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// They rest after a quarter of it.
const LIMITS: &str = "[limits]\nkeep_alive_timeout = \"1s\"";
/// Longer than a quarter of the timeout and a look around; shorter than the timeout.
const PAUSE: Duration = Duration::from_millis(500);

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::answering(OK).await;
    let gateway = Gateway::in_front_of(&upstream).with(LIMITS).start().await;
    (gateway, upstream)
}

/// A connection that has served a request and rests.
async fn resting(gateway: &Gateway) -> Wire {
    let mut caller = gateway.connect().await;
    caller.write(SIMPLE).await;
    assert_eq!(caller.answer().await.status(), 200);
    sleep(PAUSE).await;
    caller
}

#[tokio::test]
async fn a_connection_that_rested_serves_on() {
    let (gateway, _upstream) = gateway().await;
    let mut caller = resting(&gateway).await;
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "x".repeat(5000)
    );
    for requests in [SIMPLE.to_owned(), SIMPLE.repeat(3), long] {
        caller.write(&requests).await;
        for _ in 0..requests.matches("HTTP/1.1").count() {
            assert_eq!(caller.answer().await.status(), 200);
        }
        sleep(PAUSE).await;
    }
    caller.closed().await;
}

#[tokio::test]
async fn a_connection_that_rested_is_as_strict_as_before() {
    let (gateway, _upstream) = gateway().await;
    for (bad, status) in [
        ("GET / HTTP/1.1\nHost: localhost\n\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        // No other version of HTTP is begun on it.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ] {
        let mut caller = resting(&gateway).await;
        caller.write(bad).await;
        let said = caller.rest().await;
        let said = String::from_utf8_lossy(&said);
        assert!(
            said.is_empty() || said.starts_with(&format!("HTTP/1.1 {status} ")),
            "{bad:?}: {said}"
        );
    }
}

#[tokio::test]
async fn rfc9110_15_5_9_a_head_that_stalls_after_a_rest_is_told_so() {
    let upstream = Upstream::answering(OK).await;
    let limits = format!("{LIMITS}\nheader_read_timeout = \"100ms\"");
    let gateway = Gateway::in_front_of(&upstream).with(&limits).start().await;
    let mut caller = resting(&gateway).await;
    caller.write("G").await;
    caller.answer().await.problem(408, "request_timeout");
}

#[tokio::test]
async fn a_body_that_was_not_read_is_never_taken_for_a_request() {
    let smuggled = get("/smuggled");
    let framings = [
        (format!("Content-Length: {}", 5 + smuggled.len()), "hello"),
        ("Transfer-Encoding: chunked".to_owned(), "5\r\nhello\r\n"),
    ];
    join_all(framings.map(async |(framing, beginning)| {
        let upstream = Upstream::by_hand().await;
        let gateway = Gateway::in_front_of(&upstream)
            .with(LIMITS)
            .with("[upstream]\npool_idle_timeout = \"1s\"")
            .start()
            .await;
        let mut caller = gateway.connect().await;
        caller
            .write(format!(
                "POST / HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"
            ))
            .await;
        caller.write(beginning).await;
        let mut wire = upstream.connection().await;
        wire.head().await;
        wire.write(OK).await;
        assert_eq!(caller.answer().await.status(), 200);
        sleep(PAUSE).await;
        caller.write(&smuggled).await;
        let said = caller.rest().await;
        assert!(
            !said.starts_with(b"HTTP/1.1 2"),
            "{}",
            String::from_utf8_lossy(&said)
        );
        let passed = wire.rest().await;
        assert!(
            !passed.starts_with(b"GET"),
            "{}",
            String::from_utf8_lossy(&passed)
        );
    }))
    .await;
}

#[tokio::test]
async fn a_tls_connection_that_rested_serves_on() {
    let authority = Authority::new("ca");
    let files = Files::new(&authority.issue("gateway", &["localhost"]));
    let upstream = Upstream::answering(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&files.toml(""))
        .with(LIMITS)
        .start()
        .await;
    let (mut caller, _) = gateway.connect_tls(&authority.pem(), &["http/1.1"]).await;
    for requests in [1, 1, 3] {
        caller.write(SIMPLE.repeat(requests)).await;
        for _ in 0..requests {
            assert_eq!(caller.answer().await.status(), 200);
        }
        sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn a_connection_that_rests_is_closed_when_the_gateway_drains() {
    let (gateway, _upstream) = gateway().await;
    let mut caller = resting(&gateway).await;
    gateway.app().lifecycle().advance(Phase::Draining);
    caller.closed().await;
}
