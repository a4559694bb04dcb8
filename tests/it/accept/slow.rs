//! The minimum transfer rate: stalled callers and slow ones.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::time::sleep;

use crate::harness::{Gateway, OK, Upstream, wait_until, within_timeout};

const PAUSE: Duration = Duration::from_millis(20);
const POST: &str = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n";

#[tokio::test]
async fn rfc9110_15_5_9_body_below_the_minimum_rate_returns_408() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nbody_idle_timeout = \"200ms\"")
        .start()
        .await;
    let mut caller = gateway.connect().await;
    caller.write(POST).await;
    // Never idle for the whole timeout, but far longer in total.
    for _ in 0..50 {
        caller.write("x").await;
        sleep(PAUSE).await;
    }
    caller.response().await.problem(408, "request_timeout");
}

#[tokio::test]
async fn rfc9110_15_5_9_http2_body_below_the_minimum_rate_returns_408() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nbody_idle_timeout = \"200ms\"")
        .start()
        .await;
    let mut http2 = gateway.http2().await;
    let request = Request::post(gateway.url("/")).body(()).unwrap();
    let (response, mut upload) = http2.send_request(request, false).unwrap();
    let trickle = async {
        loop {
            upload.send_data(Bytes::from_static(b"x"), false).ok();
            sleep(PAUSE).await;
        }
    };
    let response = tokio::select! {
        response = within_timeout(response) => response.unwrap(),
        () = trickle => unreachable!(),
    };
    assert_eq!(response.status(), 408);
    wait_until("a permit is free", || async {
        gateway
            .metrics()
            .await
            .contains("citrix_auth_proxy_in_flight_requests 0\n")
    })
    .await;
}

#[tokio::test]
async fn slow_upload_above_the_minimum_rate_is_forwarded() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nbody_idle_timeout = \"1s\"")
        .start()
        .await;
    // Longer than the timeout in total.
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
async fn http2_uploads_share_the_minimum_rate_of_their_connection() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nbody_idle_timeout = \"1s\"")
        .start()
        .await;
    let mut http2 = gateway.http2().await;
    let mut uploads = Vec::new();
    for _ in 0..50 {
        let request = Request::post(gateway.url("/")).body(()).unwrap();
        uploads.push(http2.send_request(request, false).unwrap());
    }
    // Ten bytes a second each: too slow for one stream, enough for fifty.
    for sent in 1..=15 {
        for (_, upload) in &mut uploads {
            upload
                .send_data(Bytes::from_static(b"x"), sent == 15)
                .unwrap();
        }
        sleep(PAUSE * 5).await;
    }
    for (response, _) in uploads {
        assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    }
}
