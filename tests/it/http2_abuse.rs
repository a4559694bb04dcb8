//! HTTP/2 attacks, frame by frame, while another caller is served.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::Notify;

use crate::callers::block;
use crate::harness::{Gateway, OK, Upstream, get, wait_until, within_timeout};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const FLOW_CONTROL_ERROR: u32 = 3;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// GET, http, /, and `:authority: localhost` in HPACK.
pub const GET: &[u8] = b"\x82\x86\x84\x41\x09localhost";
/// Like [`GET`], with POST.
pub const POST: &[u8] = b"\x83\x86\x84\x41\x09localhost";

/// Returns a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, GET)
}

/// A received frame: kind, stream, payload.
pub type Received = (u8, u32, Vec<u8>);

/// Returns the next frame, or `None` at the end of the connection.
pub async fn next(from: &mut OwnedReadHalf) -> Option<Received> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await.ok()?;
    let mut payload =
        vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
    from.read_exact(&mut payload).await.ok()?;
    Some((
        head[3],
        u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        payload,
    ))
}

pub fn code(payload: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(payload[at..at + 4].try_into().unwrap())
}

/// Opens a connection with these settings and sends frames, even if writing fails. Returns the
/// frames received until the gateway closed or one satisfied `enough`.
pub async fn attack(
    gateway: &Gateway,
    settings: &[u8],
    frames: Vec<u8>,
    enough: impl Fn(&Received) -> bool,
) -> Vec<Received> {
    let (mut from, mut to) = TcpStream::connect(gateway.address())
        .await
        .unwrap()
        .into_split();
    let opening = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &frame(SETTINGS, 0, 0, settings)[..],
    ]
    .concat();
    let sending = tokio::spawn(async move {
        to.write_all(&opening).await.ok();
        to.write_all(&frames).await.ok();
        to
    });
    let mut received = Vec::new();
    while let Some(frame) = within_timeout(next(&mut from)).await {
        let last = enough(&frame);
        received.push(frame);
        if last {
            break;
        }
    }
    drop(within_timeout(sending).await);
    received
}

/// Returns the error code of the gateway's GOAWAY.
fn goaway_code(received: &[Received]) -> Option<u32> {
    received
        .iter()
        .find(|(kind, ..)| *kind == GOAWAY)
        .map(|(.., payload)| code(payload, 4))
}

/// A caller that must be served meanwhile.
struct Bystander {
    enough: Arc<AtomicBool>,
    served: tokio::task::JoinHandle<usize>,
}

impl Bystander {
    fn start(gateway: &Gateway) -> Self {
        let (address, enough) = (gateway.address(), Arc::new(AtomicBool::new(false)));
        let done = Arc::clone(&enough);
        let served = tokio::spawn(async move {
            let mut served = 0;
            while served == 0 || !done.load(Ordering::Relaxed) {
                let mut wire =
                    crate::harness::Wire::new(TcpStream::connect(&address).await.unwrap());
                wire.write(get("/bystander")).await;
                assert_eq!(wire.response().await.status(), 200);
                served += 1;
            }
            served
        });
        Self { enough, served }
    }

    async fn assert_served(self) {
        self.enough.store(true, Ordering::Relaxed);
        assert!(
            within_timeout(self.served)
                .await
                .expect("each request gets 200")
                > 0
        );
    }
}

/// Starts a gateway with these limits.
pub async fn gateway(limits: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&format!("[limits]\n{limits}"))
        .start()
        .await;
    (gateway, upstream)
}

/// Asserts that the gateway responds to the frames with this GOAWAY code while others are served.
async fn assert_closed_with(frames: Vec<u8>, expected: u32) {
    let (gateway, _upstream) = gateway("").await;
    let bystander = Bystander::start(&gateway);
    let received = attack(&gateway, &[], frames, |_| false).await;
    assert_eq!(goaway_code(&received), Some(expected));
    bystander.assert_served().await;
    let overloaded = "citrix_auth_proxy_errors_total{reason=\"overloaded\"} 1\n";
    let counted = gateway.metrics().await.contains(overloaded);
    assert_eq!(counted, expected == ENHANCE_YOUR_CALM);
}

/// Asserts that the gateway still acknowledges a PING after the frames while others are served.
async fn assert_tolerated(mut frames: Vec<u8>) {
    let (gateway, _upstream) = gateway("").await;
    let bystander = Bystander::start(&gateway);
    frames.extend(frame(PING, 0, 0, b"the last"));
    let received = attack(&gateway, &[], frames, |(kind, _, payload)| {
        *kind == PING && payload == b"the last"
    })
    .await;
    assert_eq!(goaway_code(&received), None);
    bystander.assert_served().await;
}

#[tokio::test]
async fn cve_2023_44487_rapid_resets_close_the_connection() {
    let reset = |stream| {
        [
            request(stream),
            frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()),
        ]
        .concat()
    };
    assert_closed_with(
        (0..10_000)
            .flat_map(|number| reset(2 * number + 1))
            .collect(),
        ENHANCE_YOUR_CALM,
    )
    .await;
}

#[tokio::test]
async fn sequential_resets_close_the_connection() {
    // The upstream does not respond, so that each request is in progress when it is reset.
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let socket = TcpStream::connect(gateway.address()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (mut from, mut to) = socket.into_split();
    to.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    to.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let mut sent = 0;
    let goaway = loop {
        // The PING ACK shows that the stream was accepted.
        let frames = [request(2 * sent + 1), frame(PING, 0, 0, &[0; 8])].concat();
        to.write_all(&frames).await.ok();
        sent += 1;
        let received = loop {
            let received = within_timeout(next(&mut from))
                .await
                .expect("GOAWAY before the end");
            if matches!(received.0, PING | GOAWAY) {
                break received;
            }
        };
        if received.0 == GOAWAY {
            break received.2;
        }
        to.write_all(&frame(RST_STREAM, 0, 2 * sent - 1, &CANCEL.to_be_bytes()))
            .await
            .ok();
    };
    assert_eq!(code(&goaway, 4), ENHANCE_YOUR_CALM);
    assert!((200..300).contains(&sent), "after {sent} requests");
}

#[tokio::test]
async fn hundred_abandoned_requests_are_tolerated() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    let mut responses = Vec::new();
    for _ in 0..100 {
        http2 = within_timeout(http2.ready()).await.unwrap();
        let request = http::Request::get(gateway.url("/")).body(()).unwrap();
        responses.push(http2.send_request(request, true).unwrap().0);
    }
    drop(upstream.connection().await);
    drop(responses);
    let request = http::Request::get(gateway.url("/")).body(()).unwrap();
    http2 = within_timeout(http2.ready()).await.unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let mut wire = upstream.connection().await;
            tokio::spawn(async move {
                while wire.next_request().await.is_some() {
                    wire.write(OK).await;
                }
            });
        }
    });
    assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    serving.abort();
}

#[tokio::test]
async fn cve_2024_27316_endless_continuations_close_the_connection() {
    for size in [0, 1, 1000] {
        let piece = [&b"\x00\x01a\x7f\x00"[..], &[b'x'; 1000]].concat();
        let piece = frame(CONTINUATION, 0, 1, &piece[..size]);
        let mut frames = frame(HEADERS, END_STREAM, 1, GET);
        frames.extend(piece.repeat(20_000));
        let (gateway, _upstream) = gateway("").await;
        let bystander = Bystander::start(&gateway);
        let received = attack(&gateway, &[], frames, |_| false).await;
        assert!(goaway_code(&received).is_some(), "{size} {received:?}");
        bystander.assert_served().await;
    }
}

#[tokio::test]
async fn empty_frames_close_the_connection() {
    let mut frames = frame(HEADERS, END_HEADERS, 1, POST);
    frames.extend(frame(DATA, 0, 1, b"").repeat(100_000));
    assert_closed_with(frames, ENHANCE_YOUR_CALM).await;
}

#[tokio::test]
async fn cheap_floods_are_tolerated() {
    assert_tolerated(frame(PING, 0, 0, b"12345678").repeat(50_000)).await;
    assert_tolerated(frame(SETTINGS, 0, 0, &[]).repeat(50_000)).await;
    // The initial window, changed repeatedly.
    let window = |size: u32| frame(SETTINGS, 0, 0, &[&[0, 4], &size.to_be_bytes()[..]].concat());
    assert_tolerated([window(0), window(1 << 20)].concat().repeat(20_000)).await;
    assert_tolerated(frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]).repeat(50_000)).await;
    assert_tolerated(frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()).repeat(50_000)).await;
}

#[tokio::test]
async fn rfc9113_6_9_1_window_overflow_closes_the_connection() {
    assert_closed_with(
        frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(2),
        FLOW_CONTROL_ERROR,
    )
    .await;
}

#[tokio::test]
async fn rfc9113_6_9_1_data_above_the_window_ends_the_stream_or_connection() {
    // The upstream does not read it.
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut frames = Vec::new();
    // Twice the window of each stream.
    for stream in (1..200).step_by(2) {
        frames.extend(frame(HEADERS, END_HEADERS, stream, POST));
        frames.extend(frame(DATA, 0, stream, &[b'x'; 16 * 1024]).repeat(8));
    }
    let is_reset = |(kind, _, payload): &Received| {
        *kind == RST_STREAM && code(payload, 0) == FLOW_CONTROL_ERROR
    };
    let received = attack(&gateway, &[], frames, is_reset).await;
    let ended = received.iter().any(is_reset) || goaway_code(&received) == Some(FLOW_CONTROL_ERROR);
    assert!(ended, "{received:?}");
}

/// Returns a request on the stream with this number, whose path is the number.
fn numbered(number: u32) -> Vec<u8> {
    // `:path` as a literal without indexing.
    let path = format!("/{number:03}");
    let block = [
        &b"\x82\x86\x04\x04"[..],
        path.as_bytes(),
        b"\x41\x09localhost",
    ]
    .concat();
    frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &block)
}

#[tokio::test]
async fn rfc9113_5_1_2_streams_above_the_limit_are_refused() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let frames = (0..150).flat_map(numbered).collect();
    let (last_refused, ended) = (Notify::new(), Cell::new(0));
    let have_all_ended = |(kind, stream, _): &Received| {
        if (*kind, *stream) == (RST_STREAM, 299) {
            last_refused.notify_one();
        }
        ended.set(ended.get() + usize::from(matches!(*kind, HEADERS | RST_STREAM)));
        ended.get() == 150
    };
    let serve = async {
        let mut wires = Vec::new();
        for _ in 0..100 {
            let mut wire = upstream.connection().await;
            let line = wire.request().await.line();
            wires.push((wire, line));
        }
        // No stream ends while others are refused.
        within_timeout(last_refused.notified()).await;
        for (wire, _) in &mut wires {
            wire.write("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                .await;
        }
        wires.into_iter().map(|(_, line)| line)
    };
    let attacking = attack(&gateway, &[], frames, have_all_ended);
    let (received, forwarded) = tokio::join!(attacking, serve);
    let mut refused = Vec::new();
    for (_, stream, payload) in received.iter().filter(|(kind, ..)| *kind == RST_STREAM) {
        assert_eq!(code(payload, 0), REFUSED_STREAM);
        refused.push(format!("GET /{:03} HTTP/1.1", stream / 2));
    }
    assert_eq!(refused.len(), 50);
    // The upstream gets each of the others once (section 8.7).
    let mut all: Vec<_> = forwarded.chain(refused).collect();
    all.sort();
    let sent: Vec<_> = (0..150)
        .map(|number| format!("GET /{number:03} HTTP/1.1"))
        .collect();
    assert_eq!(all, sent);
    assert_eq!(upstream.connections(), 100);
    // Further streams end the connection.
    let frames = (0..5000_u32)
        .flat_map(|number| request(2 * number + 1))
        .collect();
    let received = attack(&gateway, &[], frames, |_| false).await;
    assert_eq!(goaway_code(&received), Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn hpack_bomb_is_rejected() {
    let (gateway, upstream) = gateway("").await;
    let bystander = Bystander::start(&gateway);
    // A field of 4,000 bytes enters the table; each further byte refers to it.
    let value = [&[0x40, 1, b'a', 0x7f][..], &[0xa1, 0x1e], &[b'x'; 4000]].concat();
    let block = [GET, &value, &vec![0xbe; 10_000]].concat();
    let received = attack(
        &gateway,
        &[],
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &block),
        |(kind, ..)| matches!(*kind, HEADERS | RST_STREAM | GOAWAY),
    )
    .await;
    assert!(!received.is_empty());
    bystander.assert_served().await;
    let requests = upstream.take_requests().await;
    assert!(
        requests
            .iter()
            .all(|request| request.line().contains("/bystander"))
    );
}

#[tokio::test]
async fn rfc6585_5_too_many_fields_return_431() {
    let (gateway, upstream) = gateway("").await;
    let mut http2 = gateway.http2().await;
    let request = (0..200).fold(http::Request::get(gateway.url("/")), |builder, number| {
        builder.header(format!("a{number}"), "b")
    });
    let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
    let response = within_timeout(response).await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()["x-proxy-error"]
        ),
        (431, &"headers_too_large".parse().unwrap())
    );
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn closed_window_releases_its_permit() {
    let (gateway, _upstream) = gateway("body_idle_timeout = \"100ms\"\nmax_in_flight = 1").await;
    // A window of zero bytes and of one byte.
    for size in [0_u32, 1] {
        let settings = [&[0, 4], &size.to_be_bytes()[..]].concat();
        let received = attack(&gateway, &settings, request(1), |(kind, ..)| {
            *kind == RST_STREAM
        })
        .await;
        let reset = received
            .iter()
            .find(|(kind, ..)| *kind == RST_STREAM)
            .expect("a reset of the stalled response");
        assert_eq!(code(&reset.2, 0), CANCEL);
        wait_until("a permit is released", || async {
            gateway.raw(get("/")).await.status() == 200
        })
        .await;
    }
}

#[tokio::test]
async fn trickling_window_releases_its_permit() {
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n{}",
        "x".repeat(10_000)
    );
    let upstream = Upstream::responding(response).await;
    let limits = "[limits]\nbody_idle_timeout = \"200ms\"\nmax_in_flight = 1";
    let gateway = Gateway::in_front_of(&upstream).with(limits).start().await;
    let (mut from, mut to) = TcpStream::connect(gateway.address())
        .await
        .unwrap()
        .into_split();
    to.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    to.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]))
        .await
        .unwrap();
    to.write_all(&request(1)).await.unwrap();
    let opening = tokio::spawn(async move {
        while to
            .write_all(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()))
            .await
            .is_ok()
        {
            // Within the idle timeout, but ten times below the minimum rate.
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    });
    let reset = async {
        loop {
            let received = next(&mut from).await.expect("a reset before the end");
            if let (RST_STREAM, 1, payload) = received {
                return code(&payload, 0);
            }
        }
    };
    assert_eq!(within_timeout(reset).await, CANCEL);
    wait_until("a permit is released", || async {
        gateway.raw(get("/")).await.status() == 200
    })
    .await;
    opening.abort();
}

/// Repeatedly opens a hundred streams whose windows stay closed.
async fn open_stalled_streams(address: String) -> std::io::Result<()> {
    loop {
        let (mut from, mut to) = TcpStream::connect(&address).await?.into_split();
        to.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        to.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]))
            .await?;
        let requests: Vec<u8> = (1..200).step_by(2).flat_map(request).collect();
        to.write_all(&requests).await.ok();
        while next(&mut from)
            .await
            .is_some_and(|(kind, ..)| kind != GOAWAY)
        {}
    }
}

#[tokio::test]
async fn stalled_responses_are_evicted_at_the_limit() {
    // Too large for one frame: a response holds its permit until its last frame is sent.
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{}",
        "x".repeat(300_000)
    );
    let upstream = Upstream::responding(response).await;
    let limits = "[limits]\nmax_in_flight = 50";
    let gateway = Gateway::in_front_of(&upstream).with(limits).start().await;
    let attackers: Vec<_> = (0..3)
        .map(|_| tokio::spawn(open_stalled_streams(gateway.address())))
        .collect();
    let all_in_use = "citrix_auth_proxy_in_flight_requests 45\n";
    wait_until("the share of permits is in use", || async {
        gateway.metrics().await.contains(all_in_use)
    })
    .await;
    gateway.raw(get("/")).await.problem(503, "overloaded");
    // Long before the write timeout.
    wait_until("a stalled request is evicted", || async {
        gateway.raw(get("/")).await.status() == 200
    })
    .await;
    for attacker in attackers {
        attacker.abort();
    }
}

#[tokio::test]
async fn caller_that_never_reads_is_closed_and_others_are_served() {
    let (gateway, _upstream) = gateway("body_idle_timeout = \"100ms\"\nmax_in_flight = 250").await;
    let attackers: Vec<_> = (0..4)
        .map(|_| {
            let address = gateway.address();
            tokio::spawn(async move {
                let (mut from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
                to.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                    .await
                    .unwrap();
                to.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]))
                    .await
                    .unwrap();
                for stream in (1..200).step_by(2) {
                    to.write_all(&request(stream)).await.ok();
                }
                let mut stream = 201;
                while let Some((kind, _, payload)) = next(&mut from).await {
                    match kind {
                        // Each reset stream is replaced by another.
                        RST_STREAM => {
                            to.write_all(&request(stream)).await.ok();
                            stream += 2;
                        }
                        GOAWAY => return code(&payload, 4),
                        _ => {}
                    }
                }
                panic!("no GOAWAY");
            })
        })
        .collect();
    for attacker in attackers {
        // On a busy machine, the deadline of its socket may come before too many resets.
        let code = within_timeout(attacker).await.unwrap();
        assert!([ENHANCE_YOUR_CALM, CANCEL].contains(&code), "{code}");
    }
    wait_until("a further request is served", || async {
        gateway.raw(get("/")).await.status() == 200
    })
    .await;
    wait_until("all permits are released", || async {
        gateway
            .metrics()
            .await
            .contains("citrix_auth_proxy_in_flight_requests 0\n")
    })
    .await;
}

#[tokio::test]
async fn rfc9110_15_5_9_stalled_http2_upload_returns_408() {
    let (gateway, _upstream) = gateway("body_idle_timeout = \"100ms\"").await;
    let mut http2 = gateway.http2().await;
    let request = http::Request::post(gateway.url("/")).body(()).unwrap();
    let (response, _upload) = http2.send_request(request, false).unwrap();
    assert_eq!(within_timeout(response).await.unwrap().status(), 408);
}

#[tokio::test]
async fn preface_without_frames_times_out() {
    let (gateway, _upstream) =
        gateway("header_read_timeout = \"100ms\"\nkeep_alive_timeout = \"100ms\"").await;
    for start in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut caller = gateway.connect().await;
        caller.write(start).await;
        // Closed with or without GOAWAY.
        caller.rest().await;
    }
}

#[tokio::test]
async fn rejections_that_are_not_read_are_bounded_in_total() {
    // 16 MiB in streams of 8 KiB.
    const MAX_UNREAD: usize = 2048;
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&block("modest", "c4nary-secret-of-modest", ""))
        .start()
        .await;
    // No window for a body.
    let opening = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])[..],
        &(0..100)
            .flat_map(|number| request(2 * number + 1))
            .collect::<Vec<u8>>(),
    ]
    .concat();
    let mut refused = 0;
    let mut unread = Vec::new();
    for _ in 0..MAX_UNREAD / 100 + 5 {
        let (mut from, mut to) = TcpStream::connect(gateway.address())
            .await
            .unwrap()
            .into_split();
        to.write_all(&opening).await.unwrap();
        to.write_all(&frame(PING, 0, 0, &[0; 8])).await.unwrap();
        let mut responses = 0;
        while responses < 100 {
            let (kind, _, payload) = within_timeout(next(&mut from)).await.unwrap();
            if kind == RST_STREAM {
                assert_eq!(code(&payload, 0), REFUSED_STREAM);
                refused += 1;
            }
            responses += usize::from(matches!(kind, HEADERS | RST_STREAM));
        }
        unread.push((from, to));
    }
    assert!(refused >= 300, "{refused}");
    let heads = &gateway.app().shared().head_bytes;
    assert!(heads.in_use() <= 16 * 1024 * 1024, "{}", heads.in_use());
    let mut modest = gateway.http2().await;
    for _ in 0..5 {
        modest = within_timeout(modest.ready()).await.unwrap();
        let request = http::Request::get(gateway.url("/"))
            .header("x-api-key", "c4nary-secret-of-modest")
            .body(())
            .unwrap();
        let (response, _) = modest.send_request(request, true).unwrap();
        assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    }
    drop(unread);
    wait_until("the bytes are free", || async { heads.in_use() == 0 }).await;
}

/// Returns the first byte of the response head on a stream: 0x88 is 200, 0x8c is 400.
async fn status_on(stream: u32, frames: Vec<u8>) -> Option<u8> {
    let (gateway, _upstream) = gateway("").await;
    let is_head = |(kind, on, _): &Received| *kind == HEADERS && *on == stream;
    let received = attack(&gateway, &[], frames, is_head).await;
    received.into_iter().find(is_head)?.2.first().copied()
}

#[tokio::test]
async fn field_whose_value_looks_like_a_path_with_a_fragment_is_forwarded() {
    let added = [GET, b"\x40\x06x-link\x02/a"].concat();
    let frames = [
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &added),
        // `:authority` and the name of `x-link` from the dynamic table.
        frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            3,
            b"\x82\x86\x84\xbf\x7e\x04/a#b",
        ),
    ];
    assert_eq!(status_on(3, frames.concat()).await, Some(0x88));
}

#[tokio::test]
async fn rfc9113_8_3_1_fragment_from_the_dynamic_table_returns_400() {
    let path = b"\x44\x04/a#b";
    let requests = [
        frame(HEADERS, END_HEADERS, 1, POST),
        frame(DATA, 0, 1, b"x"),
        frame(HEADERS, END_STREAM | END_HEADERS, 1, path),
        frame(HEADERS, END_STREAM | END_HEADERS, 3, b"\x82\x86\xbe\xbf"),
    ];
    assert_eq!(status_on(3, requests.concat()).await, Some(0x8c));
}
