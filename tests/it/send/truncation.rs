//! A truncated Citrix response is truncated for the caller and never ends cleanly
//! (interface §4.2).

use http::Request;

use crate::harness::{Gateway, Upstream, Wire, get, within_timeout};

const WITH_LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
const WITHIN_A_CHUNK: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello";

/// Responds to the next request with `response` and returns the upstream's side of the connection.
async fn respond_with(upstream: &Upstream, response: &str) -> Wire {
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write(response).await;
    wire
}

#[tokio::test]
async fn rfc9113_8_1_1_truncated_upstream_response_resets_the_http2_stream() {
    for partial in [WITH_LENGTH, CHUNKED, WITHIN_A_CHUNK] {
        let upstream = Upstream::manual().await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let mut http2 = gateway.http2().await;
        let request = Request::get(gateway.url("/")).body(()).unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        let wire = respond_with(&upstream, partial).await;
        let mut body = within_timeout(response).await.unwrap().into_body();
        assert_eq!(within_timeout(body.data()).await.unwrap().unwrap(), "hello");
        drop(wire);
        let end = within_timeout(body.data()).await.expect("no clean end");
        assert_eq!(
            end.unwrap_err().reason(),
            Some(h2::Reason::INTERNAL_ERROR),
            "{partial}"
        );
        // The connection remains usable.
        let request = Request::get(gateway.url("/")).body(()).unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        let _wire = respond_with(&upstream, crate::harness::OK).await;
        assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn stalled_response_is_truncated() {
    for response in [WITH_LENGTH, CHUNKED] {
        let upstream = Upstream::manual().await;
        let gateway = Gateway::in_front_of(&upstream)
            .with("[upstream]\nidle_timeout = \"50ms\"")
            .start()
            .await;
        let mut caller = gateway.connect().await;
        caller.write(get("/")).await;
        let mut wire = respond_with(&upstream, response).await;
        let response = caller.response().await;
        assert_eq!(
            (response.text().as_str(), response.complete),
            ("hello", false)
        );
        wire.closed().await;
        let metrics = gateway.metrics().await;
        assert!(
            metrics.contains(r#"code="200",method="GET",route="/"} 1"#),
            "{metrics}"
        );
    }
}

#[tokio::test]
async fn rfc9112_8_bytes_before_a_truncation_reach_the_caller() {
    for response in [WITH_LENGTH, CHUNKED, WITHIN_A_CHUNK] {
        let upstream = Upstream::manual().await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let mut caller = gateway.connect().await;
        caller
            .write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        // Head, part of the body and the end of the connection arrive together.
        drop(respond_with(&upstream, response).await);
        let response = caller.response().await;
        assert_eq!(
            (
                response.status(),
                response.text().as_str(),
                response.complete
            ),
            (200, "hello", false)
        );
        caller.closed().await;
    }
}
