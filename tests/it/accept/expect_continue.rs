//! `Expect: 100-continue` (RFC 9110 section 10.1.1, interface §4.1).

use std::future::poll_fn;

use bytes::Bytes;
use http::Request;

use crate::harness::{Gateway, OK, TokenEndpoint, Upstream, within_timeout};

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn rfc9110_10_1_1_expectation_gets_100_before_the_body_is_sent() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for expecting in [
        EXPECTING.to_owned(),
        EXPECTING.replace("100-continue", "100-Continue"),
    ] {
        let mut caller = gateway.connect().await;
        caller.write(expecting).await;
        assert_eq!(caller.head().await.line(), "HTTP/1.1 100 Continue");
        caller.write("hello").await;
        assert_eq!(caller.response().await.status(), 200);
        let request = upstream.request().await;
        assert!(!request.has("expect"));
        assert_eq!(
            (
                request.field("content-length").as_deref(),
                request.text().as_str()
            ),
            (Some("5"), "hello")
        );
    }
}

#[tokio::test]
async fn rfc9110_10_1_1_100_does_not_wait_for_a_token() {
    let upstream = Upstream::responding(OK).await;
    let logins = TokenEndpoint::stalling().await;
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(logins)
        .start()
        .await;
    let mut caller = gateway.connect().await;
    caller.write(EXPECTING).await;
    assert_eq!(caller.head().await.status(), 100);
    gateway.logins.grant();
    caller.write("hello").await;
    assert_eq!(caller.response().await.status(), 200);
}

#[tokio::test]
async fn rfc9110_10_1_1_rejected_request_gets_no_100() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller
        .write(EXPECTING.replace("localhost", "rebound.example"))
        .await;
    caller.response().await.problem(421, "foreign_host");
    caller.closed().await;
}

#[tokio::test]
async fn request_without_expectation_gets_no_100() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let request = EXPECTING.replace("Expect: 100-continue\r\n", "");
    assert_eq!(gateway.raw(request + "hello").await.status(), 200);
    // HTTP/1.0 has no interim responses.
    let old = EXPECTING.replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(gateway.raw(old + "hello").await.status(), 200);
}

#[tokio::test]
async fn rfc9113_8_1_http2_expectation_gets_100() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    let request = Request::post(gateway.url("/")).header("expect", "100-continue");
    let (mut response, mut body) = http2
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    let interim = within_timeout(poll_fn(|cx| response.poll_informational(cx)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(interim.status(), 100);
    body.send_data(Bytes::from_static(b"hello"), true).unwrap();
    assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    let request = upstream.request().await;
    assert!(!request.has("expect"));
    assert_eq!(request.text(), "hello");
}
