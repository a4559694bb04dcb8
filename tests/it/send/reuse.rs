//! The reuse of HTTP/1.1 connections to the upstream, which may leave the body of a GET unread and
//! take it for the next request (RFC 9110 section 9.3, RFC 9112 section 11.2).

use crate::harness::{Gateway, Message, OK, TOKEN, Upstream, get};

/// The next request on the connection would complete it.
const HALF_A_REQUEST: &str = "DELETE /victim HTTP/1.1\r\nX-Ignored: ";
/// Valid for HEAD, too.
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const WITHOUT_MEANING: [&str; 5] = ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND"];

fn with_length(method: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn chunked(method: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
         {length:x}\r\n{body}\r\n0\r\n\r\n"
    )
}

#[tokio::test]
async fn rfc9112_11_2_request_after_an_ignored_body_is_on_another_connection() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for method in WITHOUT_MEANING {
        for request in [
            with_length(method, HALF_A_REQUEST),
            chunked(method, HALF_A_REQUEST),
            chunked(method, "x"),
        ] {
            let (mut attacker, mut victim) = (gateway.connect().await, gateway.connect().await);
            attacker.write(&request).await;
            let mut first = upstream.connection().await;
            let head = first.head().await;
            assert_eq!(head.field("connection").as_deref(), Some("close"));
            first.write(NO_CONTENT).await;
            assert_eq!(attacker.head().await.status(), 204, "{request}");

            victim.write(get("/victim-path")).await;
            let mut second = upstream.connection().await;
            let line = second.request().await.line();
            assert_eq!(line, "GET /victim-path HTTP/1.1", "{request}");
            // Nothing follows the body.
            let body = String::from_utf8(first.rest().await).unwrap();
            assert!(request.ends_with(&body) && !body.is_empty(), "{body:?}");
            second.write(OK).await;
            assert_eq!(victim.response().await.text(), "{}");
            drop(second);
        }
    }
}

#[tokio::test]
async fn request_after_a_body_that_ends_later_than_the_response_is_on_another_connection() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut attacker = gateway.connect().await;
    let request = with_length("GET", HALF_A_REQUEST);
    let (early, late) = request.split_at(request.len() - 5);
    attacker.write(early).await;
    let mut first = upstream.connection().await;
    first.head().await;
    first.write(NO_CONTENT).await;
    assert_eq!(attacker.head().await.status(), 204);
    attacker.write(late).await;
    let mut victim = gateway.connect().await;
    victim.write(get("/")).await;
    let mut second = upstream.connection().await;
    assert_eq!(second.request().await.line(), "GET / HTTP/1.1");
    let body = String::from_utf8(first.rest().await).unwrap();
    assert!(HALF_A_REQUEST.starts_with(&body), "{body:?}");
}

#[tokio::test]
async fn replay_and_retry_of_a_body_that_may_be_ignored_have_connections_of_their_own() {
    let too_many = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n";
    let unauthorized = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    for (number, rejection) in [(0, unauthorized), (1, too_many)] {
        let first = format!("CwsAuth Bearer={TOKEN}1");
        let count = std::sync::atomic::AtomicUsize::new(0);
        let response = move |request: &Message| {
            let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let is_rejected = request.field("authorization").as_ref() == Some(&first) && nth == 0;
            if is_rejected { rejection } else { OK }
        };
        let upstream =
            Upstream::scripted_by_request(move |_, request| response(request).into()).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let response = gateway.raw(with_length("GET", HALF_A_REQUEST)).await;
        assert_eq!(response.status(), 200, "{number}");
        assert_eq!(gateway.raw(get("/")).await.status(), 200);
        assert_eq!(upstream.take_requests().await.len(), 3);
        assert_eq!(upstream.connections(), 3, "{number}");
    }
}

#[tokio::test]
async fn requests_whose_body_has_a_meaning_share_a_connection() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for method in ["POST", "PUT", "PATCH"] {
        for request in [with_length(method, "x"), chunked(method, "x")] {
            assert_eq!(gateway.raw(request).await.status(), 200);
        }
    }
    for method in WITHOUT_MEANING.into_iter().filter(|name| *name != "HEAD") {
        let request = format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(gateway.raw(request).await.status(), 200);
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn connection_is_reused_whatever_keep_alive_timeout_it_announces() {
    for seconds in ["5", "9223372036854775807", "18446744073709551615"] {
        let response = format!(
            "HTTP/1.1 200 OK\r\nKeep-Alive: timeout={seconds}\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        let upstream = Upstream::responding(response).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        for _ in 0..2 {
            let response = gateway.raw(get("/")).await;
            assert_eq!(
                (response.status(), upstream.connections()),
                (200, 1),
                "{seconds}"
            );
        }
    }
}
