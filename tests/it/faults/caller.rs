//! Callers that end or reset their streams or connections, at each point of an exchange.

use std::time::Duration;

use h2::Reason;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{read_to, recorded};
use crate::harness::{Gateway, Upstream, Wire, get, wait_until, within_timeout};
use crate::http2_abuse::{
    DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, POST, Received, SETTINGS, attack, frame,
};

/// The point at which the caller leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// While it sends the body.
    Upload,
    /// Before the head of the response.
    Waiting,
    /// After part of the response.
    Response,
}

const POINTS: [Point; 3] = [Point::Upload, Point::Waiting, Point::Response];

/// A way in which a caller leaves.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    Fin,
    /// FIN while it still reads.
    HalfClose,
    Rst,
}

const LEAVINGS: [Leaving; 3] = [Leaving::Fin, Leaving::HalfClose, Leaving::Rst];

/// Ends the caller's side. Returns the socket if it is still open in the other direction.
async fn leave(mut caller: TcpStream, leaving: Leaving) -> Option<TcpStream> {
    match leaving {
        // The close would be a reset if bytes were unread.
        Leaving::Fin => while matches!(caller.try_read(&mut [0; 4096]), Ok(1..)) {},
        Leaving::HalfClose => {
            caller.shutdown().await.unwrap();
            return Some(caller);
        }
        Leaving::Rst => SockRef::from(&caller)
            .set_linger(Some(Duration::ZERO))
            .unwrap(),
    }
    None
}

/// Brings the exchange that `upstream` receives next to a point. Returns the upstream's side of it.
async fn bring_to(point: Point, upstream: &Upstream) -> Wire {
    let mut wire = upstream.connection().await;
    wire.head().await;
    if point != Point::Upload {
        wire.bytes(4).await;
    }
    if point == Point::Response {
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            .await;
    }
    wire
}

/// Waits until the exchange is recorded, and returns what differs from the expected status and end.
async fn deviation(gateway: &Gateway, id: &str, status: u16, end: &str) -> Option<String> {
    wait_until(id, || async { !recorded(gateway, id).await.is_null() }).await;
    let recorded = recorded(gateway, id).await;
    let is_right = recorded["status"] == status && recorded["end"] == end;
    let recorded = ["status", "reason", "end"].map(|field| &recorded[field]);
    (!is_right).then(|| format!("{id}: {recorded:?}"))
}

async fn all_permits_are_free(gateway: &Gateway) {
    wait_until("all permits are free", || async {
        let metrics = gateway.metrics().await;
        metrics.contains("citrix_auth_proxy_in_flight_requests 0\n")
    })
    .await;
}

#[tokio::test]
async fn rfc9113_6_4_stream_that_a_caller_resets_with_any_code_ends_the_exchange_only() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut wrong = Vec::new();
    // Every code (section 7), and one that is not assigned.
    for code in 0..=14 {
        let mut http2 = gateway.http2().await;
        for point in POINTS {
            let id = format!("{point:?}-{code}");
            let request = http::Request::post(gateway.url("/"))
                .header("citrix-transactionid", &id)
                .header("content-length", 4);
            let (response, mut body) = http2
                .send_request(request.body(()).unwrap(), false)
                .unwrap();
            let sent = if point == Point::Upload { "bo" } else { "body" };
            body.send_data(sent.into(), point != Point::Upload).unwrap();
            let mut wire = bring_to(point, &upstream).await;
            let _response = match point {
                Point::Response => Some(within_timeout(response).await.unwrap()),
                _ => {
                    drop(response);
                    None
                }
            };
            body.send_reset(Reason::from(code));
            // The request is abandoned, and never completed.
            wire.rest().await;
            let status = if point == Point::Response { 200 } else { 499 };
            wrong.extend(deviation(&gateway, &id, status, "caller_left").await);
        }
        // The connection serves other requests.
        let (response, _) = http2
            .send_request(http::Request::get(gateway.url("/")).body(()).unwrap(), true)
            .unwrap();
        let mut wire = upstream.connection().await;
        wire.request().await;
        wire.write("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(
            within_timeout(response).await.unwrap().status(),
            204,
            "{code}"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    all_permits_are_free(&gateway).await;
}

#[tokio::test]
async fn connection_that_a_caller_closes_or_resets_ends_the_exchange() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut wrong = Vec::new();
    for version in ["1.0", "1.1"] {
        for leaving in LEAVINGS {
            for point in POINTS {
                let id = format!("{version}-{leaving:?}-{point:?}");
                let sent = if point == Point::Upload { "bo" } else { "body" };
                let request = format!(
                    "POST / HTTP/{version}\r\nHost: localhost\r\nContent-Length: 4\r\n\
                     Citrix-TransactionId: {id}\r\n\r\n{sent}"
                );
                let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
                caller.write_all(request.as_bytes()).await.unwrap();
                let mut wire = bring_to(point, &upstream).await;
                if point == Point::Response {
                    within_timeout(caller.read(&mut [0; 4096])).await.unwrap();
                }
                let mut half_closed = leave(caller, leaving).await;
                wire.rest().await;
                if let (Point::Upload, Some(caller)) = (point, &mut half_closed) {
                    let mut response = Vec::new();
                    within_timeout(caller.read_to_end(&mut response))
                        .await
                        .unwrap();
                    assert_eq!(&response[8..13], b" 400 ", "{id}");
                }
                let (status, end) = match point {
                    // A caller that has ended its side only still gets the response.
                    Point::Upload => (400, "complete"),
                    Point::Waiting => (499, "caller_left"),
                    Point::Response => (200, "caller_left"),
                };
                wrong.extend(deviation(&gateway, &id, status, end).await);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    all_permits_are_free(&gateway).await;
}

/// Returns the beginning of an HTTP/2 connection: a request with `sent` of the four bytes of its
/// body.
fn http2_upload(id: &str, sent: &str) -> Vec<u8> {
    // A literal without indexing (RFC 7541 section 6.2.2).
    let field = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        let (name_length, value_length) = (length(name), length(value));
        let (name, value) = (name.as_bytes(), value.as_bytes());
        [&[0, name_length][..], name, &[value_length], value].concat()
    };
    let fields = [
        field("content-length", "4"),
        field("citrix-transactionid", id),
    ];
    let end = if sent.len() == 4 { END_STREAM } else { 0 };
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, &[POST, &fields.concat()].concat()),
        frame(DATA, end, 1, sent.as_bytes()),
    ]
    .concat()
}

#[tokio::test]
async fn http2_connection_that_a_caller_closes_or_resets_ends_its_exchange_only() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut other = gateway.connect().await;
    other.write(get("/")).await;
    let mut unaffected = upstream.connection().await;
    unaffected.request().await;
    let mut wrong = Vec::new();
    for leaving in LEAVINGS {
        for point in POINTS {
            let id = format!("{leaving:?}-{point:?}");
            let sent = if point == Point::Upload { "bo" } else { "body" };
            let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
            caller.write_all(&http2_upload(&id, sent)).await.unwrap();
            let mut wire = bring_to(point, &upstream).await;
            if point == Point::Response {
                read_to(&mut caller, b"hello").await;
            }
            let half_closed = leave(caller, leaving).await;
            // The request is abandoned, and never completed.
            wire.rest().await;
            let status = if point == Point::Response { 200 } else { 499 };
            wrong.extend(deviation(&gateway, &id, status, "caller_left").await);
            if let Some(mut caller) = half_closed {
                // A close or a reset.
                let _ = within_timeout(caller.read_to_end(&mut Vec::new())).await;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    unaffected
        .write("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(other.response().await.status(), 204);
    all_permits_are_free(&gateway).await;
}

#[tokio::test]
async fn rfc9113_6_8_caller_that_sends_goaway_with_any_code_gets_its_response() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let has_response = |(kind, stream, _): &Received| *kind == DATA && *stream == 1;
    for code in 0..=14_u32 {
        let go_away = [[0; 4], code.to_be_bytes()].concat();
        let frames = [
            frame(HEADERS, END_STREAM | END_HEADERS, 1, GET),
            frame(GOAWAY, 0, 0, &go_away),
        ];
        let serve = async {
            let mut wire = upstream.connection().await;
            wire.request().await;
            wire.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
                .await;
        };
        let (received, ()) =
            tokio::join!(attack(&gateway, &[], frames.concat(), has_response), serve);
        assert!(received.iter().any(has_response), "{code}: {received:?}");
    }
    all_permits_are_free(&gateway).await;
}
