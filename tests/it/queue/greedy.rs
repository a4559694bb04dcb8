//! Greedy callers that keep the gateway waiting, against a modest one that queues for the same
//! permit.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::net::TcpSocket;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::{metric, waiting};
use crate::harness::{Gateway, OK, Upstream, Wire, get, wait_until, within_timeout};

/// Exchanges may keep others waiting for a quarter of it, 500 ms.
const LIMITS: &str = "[limits]\nbody_idle_timeout = \"2s\"";
const PAUSE: Duration = Duration::from_millis(50);
/// More than the buffers of the kernel.
const LARGE: usize = 24 * 1024 * 1024;

/// A service with one permit whose links are rewritten, and one without.
const ROUTES: [&str; 2] = ["/monitorodata", "/plain"];

async fn gateway(upstream: &Upstream) -> Gateway {
    let url = upstream.url();
    Gateway::in_front_of(upstream)
        .with(LIMITS)
        .with(&format!(
            "[[route]]\nprefix = '/plain'\nupstream = '{url}'\nmax_concurrent = 1"
        ))
        .start()
        .await
}

/// Returns an upstream that responds to paths that end with `large` with a large response.
async fn upstream() -> Upstream {
    Upstream::scripted_by_request(|_, request| {
        if !request.line().contains("large") {
            return OK.into();
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {LARGE}\r\n\r\n"
        );
        [head.into_bytes(), vec![b' '; LARGE]].concat()
    })
    .await
}

async fn assert_modest_caller_is_served(gateway: &Gateway, route: &str) {
    let response = timeout(
        Duration::from_secs(10),
        gateway.raw(get(&format!("{route}/small"))),
    );
    assert_eq!(response.await.expect("served in time").status(), 200);
}

async fn in_flight(gateway: &Gateway, count: f64) {
    wait_until("the permits are in use", || async {
        metric(gateway, "in_flight_requests").await == count
    })
    .await;
}

/// Sends `bytes` now and then, well above the minimum rate.
fn trickle(mut wire: Wire) -> AbortHandle {
    let sending = tokio::spawn(async move {
        loop {
            wire.write([b'x'; 100]).await;
            sleep(PAUSE).await;
        }
    });
    sending.abort_handle()
}

#[tokio::test]
async fn incomplete_body_takes_no_permit() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream).await;
    for route in [ROUTES[0], ROUTES[1], "/accessSecurity"] {
        let mut greedy = gateway.connect().await;
        greedy
            .write(format!(
                "GET {route}/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\n\r\nx"
            ))
            .await;
        let sending = trickle(greedy);
        let mut http2 = gateway.http2().await;
        let request = Request::get(gateway.url(&format!("{route}/x")))
            .body(())
            .unwrap();
        let (_response, mut upload) = http2.send_request(request, false).unwrap();
        upload.send_data(Bytes::from_static(b"x"), false).unwrap();
        sleep(PAUSE * 3).await;
        assert_modest_caller_is_served(&gateway, route).await;
        assert!(upstream.request().await.line().contains("/small "));
        sending.abort();
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn small_body_is_sent_once_it_is_complete() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream).await;
    let mut caller = gateway.connect().await;
    caller
        .write("POST /plain/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for piece in ["3\r\nabc\r\n", "2\r\nde\r\n"] {
        sleep(PAUSE).await;
        caller.write(piece).await;
    }
    assert_modest_caller_is_served(&gateway, "/plain").await;
    caller.write("0\r\nX-Trailer: a\r\n\r\n").await;
    assert_eq!(caller.response().await.status(), 200);
    upstream.request().await;
    assert_eq!(upstream.request().await.body, b"abcde");
}

#[tokio::test]
async fn upload_that_keeps_others_waiting_returns_408() {
    for route in ROUTES {
        let upstream = Upstream::manual().await;
        let gateway = gateway(&upstream).await;
        let mut greedy = gateway.connect().await;
        greedy
            .write(format!(
                "PUT {route}/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\n\r\n"
            ))
            .await;
        greedy.write(vec![b'x'; 80 * 1024]).await;
        let mut wire = upstream.connection().await;
        // It has the permit and keeps it while no other request waits.
        for _ in 0..20 {
            greedy.write([b'x'; 100]).await;
            sleep(PAUSE).await;
        }
        let mut modest = gateway.connect().await;
        modest.write(get(&format!("{route}/small"))).await;
        waiting(&gateway, route, 1.0).await;
        for _ in 0..20 {
            greedy.write([b'x'; 100]).await;
            sleep(PAUSE).await;
        }
        let problem = greedy.response().await.problem(408, "request_timeout");
        assert!(
            problem["detail"].as_str().unwrap().contains("others"),
            "{problem}"
        );
        wire.rest().await;
        let mut wire = upstream.connection().await;
        assert!(wire.request().await.line().contains("/small "));
        wire.write(OK).await;
        assert_eq!(modest.response().await.status(), 200);
    }
}

#[tokio::test]
async fn http2_upload_that_keeps_others_waiting_returns_408() {
    let upstream = Upstream::manual().await;
    let gateway = gateway(&upstream).await;
    let mut http2 = gateway.http2().await;
    let request = Request::put(gateway.url("/plain/x")).body(()).unwrap();
    let (greedy, mut upload) = http2.send_request(request, false).unwrap();
    upload
        .send_data(vec![b'x'; 60 * 1024].into(), false)
        .unwrap();
    let sending = tokio::spawn(async move {
        loop {
            upload.send_data(vec![b'x'; 200].into(), false).ok();
            sleep(Duration::from_millis(5)).await;
        }
    });
    let _wire = upstream.connection().await;
    let mut modest = gateway.connect().await;
    modest.write(get("/plain/small")).await;
    assert_eq!(within_timeout(greedy).await.unwrap().status(), 408);
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write(OK).await;
    assert_eq!(modest.response().await.status(), 200);
    sending.abort();
}

/// Opens a connection whose receive buffer is small.
async fn connect(gateway: &Gateway) -> Wire {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    Wire::new(
        socket
            .connect(gateway.address().parse().unwrap())
            .await
            .unwrap(),
    )
}

#[tokio::test]
async fn unread_response_ends_while_others_queue() {
    for route in ROUTES {
        let upstream = upstream().await;
        let gateway = gateway(&upstream).await;
        let mut greedy = connect(&gateway).await;
        greedy.write(get(&format!("{route}/large"))).await;
        assert_eq!(greedy.head().await.status(), 200);
        let reading = tokio::spawn(async move {
            loop {
                greedy.bytes(20_000).await;
                sleep(PAUSE).await;
            }
        });
        // Nothing else waits.
        sleep(PAUSE * 20).await;
        assert_eq!(metric(&gateway, "in_flight_requests").await, 1.0, "{route}");
        assert_modest_caller_is_served(&gateway, route).await;
        in_flight(&gateway, 0.0).await;
        reading.abort();
    }
}

#[tokio::test]
async fn http2_stream_that_is_not_read_ends_while_others_queue() {
    for route in ROUTES {
        let upstream = upstream().await;
        let gateway = gateway(&upstream).await;
        let mut http2 = gateway.http2().await;
        let request = Request::get(gateway.url(&format!("{route}/large")))
            .body(())
            .unwrap();
        let (greedy, _) = http2.send_request(request, true).unwrap();
        let mut body = within_timeout(greedy).await.unwrap().into_body();
        sleep(PAUSE * 20).await;
        assert_eq!(metric(&gateway, "in_flight_requests").await, 1.0, "{route}");
        let reading = tokio::spawn(async move {
            // Opens the window by a few bytes now and then.
            let mut read = 0;
            while let Some(Ok(data)) = body.data().await {
                read += data.len();
                for _ in 0..data.len() / 100 {
                    body.flow_control().release_capacity(100).unwrap();
                    sleep(PAUSE).await;
                }
            }
            read
        });
        assert_modest_caller_is_served(&gateway, route).await;
        in_flight(&gateway, 0.0).await;
        reading.abort();
        // The connection continues.
        let request = Request::get(gateway.url("/plain/small")).body(()).unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    }
}
