//! PROXY protocol v2, byte for byte (interface §3.1 `proxy_protocol`,
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).

use std::net::Ipv4Addr;
use std::time::Duration;

use http::Request;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::response_to_drip;
use crate::harness::pki::{TestCa, TlsFiles, tls_client_config};
use crate::harness::{Gateway, OK, Upstream, Wire, get, http2_over, wait_until, within_timeout};

const TRUSTED: &str = "[listen]\nproxy_protocol = [\"127.0.0.0/8\"]\n";
const SIMPLE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const ERRORS: &str = "citrix_auth_proxy_proxy_protocol_errors_total";

/// Returns a version 2 header with the given command and family, followed by `rest`.
fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [
        b"\r\n\r\n\0\r\nQUIT\n",
        &[command, family][..],
        &length,
        rest,
    ]
    .concat()
}

/// Returns the header of a caller on TCP over IPv4.
fn from(address: &str) -> Vec<u8> {
    let address: Ipv4Addr = address.parse().unwrap();
    header(
        0x21,
        0x11,
        &[
            &address.octets()[..],
            &[10, 0, 0, 1, 0x30, 0x39, 0x1f, 0x90],
        ]
        .concat(),
    )
}

async fn trusting_loopback(more: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(TRUSTED)
        .with(more)
        .start()
        .await;
    (gateway, upstream)
}

async fn errors(gateway: &Gateway, count: usize) {
    let line = format!("{ERRORS} {count}\n");
    wait_until(&line, || async { gateway.metrics().await.contains(&line) }).await;
}

#[tokio::test]
async fn trusted_peer_sets_the_caller_address() {
    let (gateway, _upstream) = trusting_loopback("").await;
    let tail = [
        &[203, 0, 113, 9, 10, 0, 0, 1, 1, 1, 2, 2][..],
        &[0x04, 0, 2, 9, 9],
    ]
    .concat();
    for header in [
        from("127.0.0.1"),
        header(0x21, 0x11, &[&[127, 0, 0, 1][..], &tail[4..]].concat()),
        // A health check of the load balancer (command LOCAL).
        header(0x20, 0x00, &[]),
    ] {
        assert_eq!(
            gateway
                .raw([&header[..], get("/").as_bytes()].concat())
                .await
                .status(),
            200
        );
        // Each byte in a separate packet.
        let mut wire = gateway.connect().await;
        for byte in &header {
            wire.write([*byte]).await;
        }
        wire.write(get("/")).await;
        assert_eq!(wire.response().await.status(), 200);
    }
    errors(&gateway, 0).await;
}

#[tokio::test]
async fn local_balancer_does_not_make_callers_loopback() {
    let (gateway, upstream) = trusting_loopback("").await;
    let elsewhere: std::net::Ipv6Addr = "2001:db8::9".parse().unwrap();
    let elsewhere = [&elsewhere.octets()[..], &[0; 16], &[1, 1, 2, 2]].concat();
    for header in [
        from("203.0.113.9"),
        from("10.0.0.9"),
        header(0x21, 0x21, &elsewhere),
    ] {
        let response = gateway
            .raw([&header[..], get("/").as_bytes()].concat())
            .await;
        response.problem(403, "caller_forbidden");
    }
    upstream.assert_no_more_requests().await;
    let mapped: std::net::Ipv6Addr = "::ffff:127.0.0.1".parse().unwrap();
    let mapped = [&mapped.octets()[..], &[0; 16], &[1, 1, 2, 2]].concat();
    let response = gateway
        .raw([&header(0x21, 0x21, &mapped)[..], get("/").as_bytes()].concat())
        .await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn trusted_peer_without_header_is_closed_without_a_response() {
    let (gateway, upstream) = trusting_loopback("").await;
    let unix = header(0x21, 0x31, &[0; 216]);
    let wrong: &[&[u8]] = &[
        SIMPLE.as_bytes(),
        b"\r\n\r\n\0\r\nQUIX\n",
        b"PROXY TCP4 127.0.0.1 10.0.0.1 12345 8080\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &header(0x11, 0x11, &[0; 12]),
        &header(0x21, 0x11, &[0; 11]),
        &header(0x21, 0x11, &[0; 4081]),
        // Without a caller address, the balancer's address must not be used instead.
        &header(0x21, 0x00, &[]),
        &[&unix[..], SIMPLE.as_bytes()].concat(),
    ];
    for (already, bytes) in wrong.iter().enumerate() {
        let mut wire = gateway.connect().await;
        wire.write(bytes).await;
        wire.closed().await;
        errors(&gateway, already + 1).await;
    }
    // A port probe is not counted as an error.
    drop(gateway.connect().await);
    gateway
        .raw([&from("127.0.0.1")[..], get("/").as_bytes()].concat())
        .await;
    errors(&gateway, wrong.len()).await;
    upstream.request().await;
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn stalled_proxy_header_times_out() {
    let (gateway, _upstream) = trusting_loopback("[limits]\nheader_read_timeout = \"50ms\"").await;
    for beginning in [&[][..], b"\r\n\r\n", &from("127.0.0.1")[..20]] {
        let mut wire = gateway.connect().await;
        wire.write(beginning).await;
        wire.closed().await;
    }
    errors(&gateway, 3).await;
}

#[tokio::test]
async fn dripping_proxy_header_times_out_after_accept() {
    let (gateway, upstream) = trusting_loopback("[limits]\nheader_read_timeout = \"200ms\"").await;
    // Of the maximum length, so that it would take more than a minute.
    let header = header(0x21, 0x11, &[0; 4080]);
    for at_once in [0, 16] {
        let (at_once, drip) = header.split_at(at_once);
        assert_eq!(response_to_drip(&gateway, at_once, drip).await, b"");
    }
    errors(&gateway, 2).await;
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn untrusted_peer_with_header_is_rejected() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[listen]\nproxy_protocol = [\"192.0.2.0/24\"]")
        .start()
        .await;
    let mut wire = gateway.connect().await;
    wire.write([&from("127.0.0.1")[..], get("/").as_bytes()].concat())
        .await;
    assert!(wire.rest().await.starts_with(b"HTTP/1.1 400 "));
    upstream.assert_no_more_requests().await;
    errors(&gateway, 0).await;
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
}

#[tokio::test]
async fn header_precedes_tls_and_http2() {
    let authority = TestCa::new("authority");
    let files = TlsFiles::new(&authority.issue("gateway", &["localhost"]));
    let (gateway, _upstream) = trusting_loopback(&files.toml("")).await;
    let mut socket = within_timeout(TcpStream::connect(gateway.address()))
        .await
        .unwrap();
    socket.write_all(&from("127.0.0.1")).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(tls_client_config(&authority, None)).connect(name, socket);
    let mut wire = Wire::new(within_timeout(stream).await.unwrap());
    wire.write(get("/")).await;
    assert_eq!(wire.response().await.status(), 200);

    let (gateway, _upstream) = trusting_loopback("").await;
    let mut socket = within_timeout(TcpStream::connect(gateway.address()))
        .await
        .unwrap();
    socket.write_all(&from("127.0.0.1")).await.unwrap();
    let mut http2 = http2_over(socket).await;
    let request = Request::get("http://localhost/").body(()).unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    assert_eq!(within_timeout(response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn pending_proxy_header_does_not_delay_drain() {
    let (gateway, _upstream) = trusting_loopback("[limits]\nheader_read_timeout = \"300ms\"").await;
    let mut silent = gateway.connect().await;
    gateway.into_app().drain(Duration::from_secs(20)).await;
    silent.closed().await;
}

#[tokio::test]
async fn connection_limit_uses_the_address_of_the_header() {
    let (gateway, _upstream) = trusting_loopback("[limits]\nmax_connections_per_address = 1").await;
    let connect = async |address: &str| {
        let mut wire = gateway.connect().await;
        wire.write(from(address)).await;
        wire.write(SIMPLE).await;
        let response = wire.response().await;
        (response, wire)
    };
    let (response, first) = connect("127.0.0.1").await;
    assert_eq!(response.status(), 200);
    let (response, mut refused) = connect("127.0.0.1").await;
    response.problem(503, "overloaded");
    assert!(
        response
            .text()
            .contains("limits.max_connections_per_address")
    );
    refused.closed().await;
    assert_eq!(connect("127.0.0.2").await.0.status(), 200);
    drop(first);
    wait_until("a permit is free", || async {
        connect("127.0.0.1").await.0.status() == 200
    })
    .await;
}

#[tokio::test]
async fn caller_networks_match_the_address_of_the_header() {
    for (more, admitted, refused) in [
        (
            "[[caller]]\nname = \"far\"\nnetworks = [\"203.0.113.0/24\"]",
            "203.0.113.9",
            Some("203.0.114.9"),
        ),
        (
            "[[caller]]\nname = \"far\"\nnetworks = [\"203.0.113.0/24\"]",
            "203.0.113.10",
            Some("127.0.0.1"),
        ),
        ("", "127.0.0.1", Some("203.0.113.9")),
        ("[insecure]\nallow_anonymous = true", "203.0.113.9", None),
    ] {
        let (gateway, _upstream) = trusting_loopback(more).await;
        let admitted = [&from(admitted)[..], get("/").as_bytes()].concat();
        assert_eq!(gateway.raw(admitted).await.status(), 200, "{more}");
        if let Some(refused) = refused {
            let refused = [&from(refused)[..], get("/").as_bytes()].concat();
            gateway.raw(refused).await.problem(403, "caller_forbidden");
        }
    }
}
