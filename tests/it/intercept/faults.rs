//! Clients that fail within a tunnel, and blind tunnels of which either side does.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::socket_end::SocketEnd;

use super::*;
use crate::faults::egress::{OPEN, serve};

const BLIND: &str = "a.blob.core.windows.net";
/// More than the buffers of all sockets hold.
const LENGTH: usize = 32 << 20;

#[tokio::test]
async fn handshake_that_fails_in_a_tunnel_closes_the_connection_and_is_counted() {
    let intercepting = Intercepting::start("", "").await;
    let plain = b"GET / HTTP/1.1\r\nHost: api.cloud.com\r\n\r\n";
    let alert = b"\x15\x03\x03\0\x02\x02\x28";
    for bytes in [&plain[..], alert, &[0; 100]] {
        let mut wire = Wire::new(intercepting.tunnel(API, "").await);
        wire.write(bytes).await;
        let rest = wire.rest().await;
        assert!(!rest.starts_with(b"HTTP/"), "{bytes:?}: {rest:?}");
    }
    // A client that does not trust the authority sends an alert after the ServerHello.
    let tunnel = intercepting.tunnel(API, "").await;
    let client = TlsConnector::from(Arc::new(tls_client(None, &[])));
    let name = ServerName::try_from(API).unwrap();
    let failed = within_timeout(client.connect(name, tunnel)).await;
    assert!(failed.is_err());
    for end in [SocketEnd::Fin, SocketEnd::HalfClose, SocketEnd::Rst] {
        let tunnel = intercepting.tunnel(API, "").await;
        within_timeout(end.apply(tunnel)).await;
    }
    wait_until("each failure is counted", || async {
        intercepting.count("handshake_failed").await == 7
    })
    .await;
    assert_eq!(intercepting.upstream.connections(), 0);
}

/// A gateway with blind tunnels through a proxy that opens each tunnel, sends `bytes` and ends it.
async fn tunnelling(bytes: &str, end: SocketEnd) -> Intercepting {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let bytes = format!("{OPEN}{bytes}");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move { serve(socket, true, bytes.as_bytes(), end).await });
        }
    });
    through(&proxy).await
}

/// A gateway with blind tunnels through an egress proxy.
async fn through(proxy: &str) -> Intercepting {
    let (authority, upstream) = (Authority::new(), Upstream::refusing());
    let gateway = Gateway::in_front_of(&upstream)
        .set("HTTPS_PROXY", proxy)
        .set("NO_PROXY", "127.0.0.1")
        .with(&authority.toml("tunnel = [\"*.blob.core.windows.net\"]"))
        .start()
        .await;
    Intercepting {
        gateway,
        upstream,
        authority,
    }
}

async fn no_connection_is_left(intercepting: &Intercepting) {
    wait_until("no connection is left", || async {
        intercepting.gateway.app().connections().total() == 0
    })
    .await;
}

#[tokio::test]
async fn blind_tunnel_that_its_server_closes_or_resets_ends() {
    for end in [SocketEnd::Fin, SocketEnd::Rst] {
        let intercepting = tunnelling("", end).await;
        let mut tunnel = intercepting.tunnel(BLIND, "").await;
        let read = within_timeout(tunnel.read_u8()).await;
        assert!(read.is_err(), "{end:?}: {read:?}");
        drop(tunnel);
        no_connection_is_left(&intercepting).await;
        assert_eq!(intercepting.count("tunnelled").await, 1);
    }
}

/// Opens a blind tunnel. Returns the ends of the client and of the server.
async fn ends_of_a_tunnel() -> (Intercepting, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let egress = EgressProxy::tunnelling_to(listener.local_addr().unwrap()).await;
    let intercepting = through(&egress.url("")).await;
    let client = intercepting.tunnel(BLIND, "").await;
    let (server, _) = within_timeout(listener.accept()).await.unwrap();
    (intercepting, client, server)
}

#[tokio::test]
async fn blind_tunnel_that_its_client_closes_or_resets_ends() {
    for end in [SocketEnd::Fin, SocketEnd::Rst] {
        let (intercepting, mut client, mut server) = ends_of_a_tunnel().await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(within_timeout(server.read_u8()).await.unwrap(), b'x');
        within_timeout(end.apply(client)).await;
        let read = within_timeout(server.read_u8()).await;
        assert!(read.is_err(), "{end:?}: {read:?}");
        drop(server);
        no_connection_is_left(&intercepting).await;
        assert_eq!(intercepting.count("tunnelled").await, 1);
    }
}

/// Sends bytes, and reads them on the other side only once the sender is blocked.
async fn transfer(mut from: TcpStream, mut to: TcpStream) {
    let bytes: Vec<u8> = (0..=250).cycle().take(LENGTH).collect();
    let expected = bytes.clone();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        for piece in bytes.chunks(64 * 1024) {
            from.write_all(piece).await.unwrap();
            count.fetch_add(piece.len(), Ordering::Relaxed);
        }
    });
    let seen = Cell::new(0);
    wait_until("the sender is blocked", || async {
        let now = sent.load(Ordering::Relaxed);
        now > 0 && seen.replace(now) == now
    })
    .await;
    let mut received = Vec::new();
    within_timeout(to.read_to_end(&mut received)).await.unwrap();
    // Without the bytes, which are too many to print.
    assert!(received == expected, "{} bytes", received.len());
    within_timeout(sending).await.unwrap();
}

#[tokio::test]
async fn blind_tunnel_keeps_all_bytes_for_a_side_that_reads_late() {
    for client_sends in [true, false] {
        let (intercepting, client, server) = ends_of_a_tunnel().await;
        match client_sends {
            true => transfer(client, server).await,
            false => transfer(server, client).await,
        }
        no_connection_is_left(&intercepting).await;
    }
}

#[tokio::test]
async fn half_close_of_a_blind_tunnel_leaves_the_other_direction_open() {
    // Of the server.
    let intercepting = tunnelling("", SocketEnd::HalfClose).await;
    let mut tunnel = intercepting.tunnel(BLIND, "").await;
    let read = within_timeout(tunnel.read(&mut [0; 10])).await;
    assert_eq!(read.unwrap(), 0);
    for _ in 0..3 {
        tunnel.write_all(b"late").await.unwrap();
    }
    assert_eq!(intercepting.gateway.app().connections().total(), 1);
    tunnel.shutdown().await.unwrap();
    no_connection_is_left(&intercepting).await;
    // Of the client: the server sends on.
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let serve = tokio::spawn(async move {
        let (mut socket, _) = server.accept().await.unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.unwrap();
        socket.write_all(b"late").await.unwrap();
        received
    });
    let egress = EgressProxy::tunnelling_to(address).await;
    let intercepting = through(&egress.url("")).await;
    let mut tunnel = intercepting.tunnel(BLIND, "").await;
    tunnel.write_all(b"all").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut received = Vec::new();
    within_timeout(tunnel.read_to_end(&mut received))
        .await
        .unwrap();
    assert_eq!(received, b"late");
    assert_eq!(serve.await.unwrap(), b"all");
    no_connection_is_left(&intercepting).await;
    assert_eq!(intercepting.count("tunnelled").await, 1);
}

#[tokio::test]
async fn blind_tunnel_whose_server_cannot_be_reached_is_502() {
    let egress = EgressProxy::responding("HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    for proxy in [egress.url(""), Upstream::refusing().url()] {
        let intercepting = through(&proxy).await;
        let response = intercepting
            .raw(&connect(&format!("{BLIND}:443"), "Connection: close\r\n"))
            .await;
        response.problem(502, "upstream_connect");
        assert_eq!(intercepting.count("tunnelled").await, 0);
    }
}
