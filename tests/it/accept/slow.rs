//! Callers that send next to nothing, and those that are merely slow.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::time::sleep;

use crate::harness::{Gateway, OK, Upstream, eventually, soon};

const PAUSE: Duration = Duration::from_millis(20);
const POST: &str = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n";

#[tokio::test]
async fn rfc9110_15_5_9_a_body_that_trickles_is_told_so() {
    let upstream = Upstream::by_hand().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nbody_idle_timeout = \"200ms\"")
        .start()
        .await;
    let mut caller = gateway.connect().await;
    caller.write(POST).await;
    // Never idle for as long as the timeout; far longer than it in all.
    for _ in 0..50 {
        caller.write("x").await;
        sleep(PAUSE).await;
    }
    caller.response().await.problem(408, "request_timeout");
}

#[tokio::test]
async fn rfc9110_15_5_9_a_body_that_trickles_over_http2_is_told_so() {
    let upstream = Upstream::by_hand().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nbody_idle_timeout = \"200ms\"")
        .start()
        .await;
    let mut http2 = gateway.http2().await;
    let asked = Request::post(gateway.url("/")).body(()).unwrap();
    let (response, mut upload) = http2.send_request(asked, false).unwrap();
    let trickle = async {
        loop {
            upload.send_data(Bytes::from_static(b"x"), false).ok();
            sleep(PAUSE).await;
        }
    };
    let response = tokio::select! {
        response = soon(response) => response.unwrap(),
        () = trickle => unreachable!(),
    };
    assert_eq!(response.status(), 408);
    eventually("the place is free again", || async {
        gateway
            .metrics()
            .await
            .contains("citrix_auth_proxy_in_flight_requests 0\n")
    })
    .await;
}

#[tokio::test]
async fn an_upload_on_a_slow_link_arrives() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nbody_idle_timeout = \"1s\"")
        .start()
        .await;
    // Longer than the timeout in all.
    let mut caller = gateway.connect().await;
    caller.write(POST).await;
    for _ in 0..100 {
        caller.write([b'x'; 100]).await;
        sleep(PAUSE).await;
    }
    assert_eq!(caller.response().await.status(), 200);
    assert_eq!(upstream.request().await.body.len(), 10_000);
}

#[tokio::test]
async fn uploads_that_share_an_http2_connection_share_its_slowness() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nbody_idle_timeout = \"1s\"")
        .start()
        .await;
    let mut http2 = gateway.http2().await;
    let mut uploads = Vec::new();
    for _ in 0..50 {
        let asked = Request::post(gateway.url("/")).body(()).unwrap();
        uploads.push(http2.send_request(asked, false).unwrap());
    }
    // Ten bytes a second each: too few for one alone, but there are fifty.
    for sent in 1..=15 {
        for (_, upload) in &mut uploads {
            upload
                .send_data(Bytes::from_static(b"x"), sent == 15)
                .unwrap();
        }
        sleep(PAUSE * 5).await;
    }
    for (response, _) in uploads {
        assert_eq!(soon(response).await.unwrap().status(), 200);
    }
}
