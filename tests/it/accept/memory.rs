//! Bounds of what is buffered for callers: bytes of unfinished heads and of request bodies.

use futures_util::future::join_all;
use http::Request;

use crate::harness::pki::{TestCa, TlsFiles};
use crate::harness::{Gateway, OK, Upstream, Wire, get, wait_until, within_timeout};

/// Bytes of one head; 16 MiB are permitted for all, without 8 KiB of each.
const HEAD: usize = 60 * 1024;
const MAX_HEADS: usize = 16 * 1024 * 1024 / (HEAD - 8 * 1024);

async fn half_heads(gateway: &Gateway, bytes: &[u8]) -> Vec<Wire> {
    let open = (0..MAX_HEADS + 50).map(async |_| {
        let mut wire = gateway.connect().await;
        wire.write(bytes).await;
        wire
    });
    join_all(open).await
}

async fn rejected(gateway: &Gateway) -> usize {
    let metrics = gateway.metrics().await;
    let series = "citrix_auth_proxy_errors_total{reason=\"overloaded\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(series));
    count.map_or(0, |count| count.parse().unwrap())
}

/// Checks that heads beyond the limit are rejected, and that others are served meanwhile.
async fn assert_heads_are_bounded(bytes: &[u8]) {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let wires = half_heads(&gateway, bytes).await;
    wait_until("the excess is rejected", || async {
        rejected(&gateway).await >= 30
    })
    .await;
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    drop(wires);
    wait_until("the bytes are free", || async {
        let head = format!("X-Large: {}\r\n", "a".repeat(HEAD - 100));
        let request =
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n");
        gateway.raw(request).await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn http1_unfinished_heads_are_bounded_in_total() {
    let mut head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: ".to_vec();
    head.resize(HEAD, b'a');
    assert_heads_are_bounded(&head).await;
}

#[tokio::test]
async fn http2_unfinished_header_blocks_are_bounded_in_total() {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(b"\0\0\x01\x01\0\0\0\0\x01\x82");
    for number in 0..4 {
        // A literal field `x-N` of 15,000 bytes without END_HEADERS.
        let mut block = vec![0, 3, b'x', b'-', b'0' + number, 0x7f];
        // 15,000 - 127 in groups of seven bits (RFC 7541 section 5.1).
        block.extend_from_slice(&[0x99, 0x74]);
        block.resize(block.len() + 15_000, b'a');
        let length = u32::try_from(block.len()).unwrap().to_be_bytes();
        bytes.extend_from_slice(&[&length[1..], b"\x09\0\0\0\0\x01"].concat());
        bytes.extend_from_slice(&block);
    }
    assert_heads_are_bounded(&bytes).await;
}

#[tokio::test]
async fn tls_unfinished_handshakes_are_bounded_in_total() {
    let authority = TestCa::new("ca");
    let files = TlsFiles::new(&authority.issue("gateway", &["localhost"]));
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&files.toml(""))
        // Longer than a busy machine takes for all.
        .with("[limits]\nheader_read_timeout = \"60s\"")
        .start()
        .await;
    // Records with the first part of a ClientHello of 65,000 bytes.
    let mut hello = b"\x01\x00\xfd\xe8\x03\x03".to_vec();
    hello.resize(HEAD, b'r');
    let records = hello.chunks(15_000).flat_map(|part| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [b"\x16\x03\x01", &length[..], part].concat()
    });
    let wires = half_heads(&gateway, &records.collect::<Vec<u8>>()).await;
    let connections = gateway.app().connections();
    wait_until("the excess is closed", || async {
        connections.total() <= MAX_HEADS
    })
    .await;
    assert!(connections.total() > MAX_HEADS / 2);
    let (mut caller, _) = gateway.connect_tls(&authority.pem(), &["http/1.1"]).await;
    caller.write(get("/")).await;
    assert_eq!(caller.response().await.status(), 200);
    drop(wires);
    let heads = &gateway.app().shared().head_bytes;
    wait_until("the bytes are free", || async { heads.in_use() == 0 }).await;
}

/// Each may buffer 128 KiB (a window, and what is read ahead or kept for a replay) of one owner's
/// share of 64 MiB, ten elevenths.
const MAX_UPLOADS: usize = 465;

#[tokio::test]
async fn bodies_that_may_be_buffered_are_bounded_in_total() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_in_flight = 2000")
        .start()
        .await;
    let bytes = &gateway.app().shared().body_bytes;
    let mut uploads = Vec::new();
    for _ in 0..6 {
        let mut http2 = gateway.http2().await;
        for _ in 0..100 {
            http2 = within_timeout(http2.ready()).await.unwrap();
            let request = Request::put(gateway.url("/monitorodata/x"))
                .body(())
                .unwrap();
            uploads.push(http2.send_request(request, false).unwrap());
        }
    }
    wait_until("the excess is rejected", || async {
        rejected(&gateway).await >= 600 - MAX_UPLOADS - 10
    })
    .await;
    assert!(rejected(&gateway).await <= 600 - MAX_UPLOADS + 10);
    assert!(bytes.in_use() <= 64 * 1024 * 1024, "{}", bytes.in_use());
    // A request without a body needs nothing.
    let mut modest = gateway.connect().await;
    modest.write(get("/")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write(OK).await;
    assert_eq!(modest.response().await.status(), 200);
    drop(uploads);
    wait_until("the bytes are free", || async { bytes.in_use() == 0 }).await;
}
