//! RFC 9112 section 9.8: a TLS connection that the gateway closes ends with `close_notify`.

use std::sync::Arc;

use citrix_auth_proxy::state::lifecycle::Phase;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::pki::{TestCa, TlsFiles};
use crate::harness::{Gateway, OK, Upstream, tls_client, wait_until, within_timeout};

const SIMPLE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// The preface of HTTP/2 and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// HEADERS with GET, http, / and `:authority: localhost`.
const HTTP2_GET: &[u8] = b"\0\0\x0e\x01\x05\0\0\0\x01\x82\x86\x84\x41\x09localhost";

struct Setup {
    gateway: Gateway,
    ca: String,
    _upstream: Upstream,
    _files: TlsFiles,
}

impl Setup {
    async fn new(limits: &str) -> Self {
        let authority = TestCa::new("ca");
        let files = TlsFiles::new(&authority.issue("gateway", &["localhost"]));
        let upstream = Upstream::responding(OK).await;
        let gateway = Gateway::in_front_of(&upstream)
            .with(&files.toml(""))
            .with(&format!("[limits]\n{limits}"))
            .start()
            .await;
        Self {
            gateway,
            ca: authority.pem(),
            _upstream: upstream,
            _files: files,
        }
    }

    async fn connect(&self, alpn: &str) -> TlsStream<TcpStream> {
        let connector = TlsConnector::from(Arc::new(tls_client(Some(&self.ca), &[alpn])));
        let socket = TcpStream::connect(self.gateway.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        within_timeout(connector.connect(name, socket))
            .await
            .unwrap()
    }
}

/// Returns everything until the end. Without `close_notify` rustls returns an error.
async fn rest(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut received = Vec::new();
    within_timeout(stream.read_to_end(&mut received))
        .await
        .unwrap();
    received
}

#[tokio::test]
async fn connections_closed_after_a_timeout_end_with_close_notify() {
    let setup = Setup::new("keep_alive_timeout = \"400ms\"\nheader_read_timeout = \"800ms\"").await;
    let ends_with = async |alpn: &str, sent: &[u8], received: &str| {
        let mut stream = setup.connect(alpn).await;
        stream.write_all(sent).await.unwrap();
        let rest = rest(&mut stream).await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.starts_with(received), "{alpn} {sent:?}: {rest}");
    };
    let http2_request = [PREFACE, HTTP2_GET].concat();
    // DATA on stream 0.
    let http2_error = [PREFACE, b"\0\0\0\0\0\0\0\0\0"].concat();
    tokio::join!(
        ends_with("http/1.1", b"", ""),
        ends_with("http/1.1", SIMPLE, "HTTP/1.1 200"),
        ends_with("http/1.1", b"GET /", "HTTP/1.1 408"),
        ends_with("http/1.1", b"GET / HTTP/1.1\n\n", "HTTP/1.1 400"),
        ends_with("http/1.1", b"\0\0\0\0\r\n\r\n", "HTTP/1.1 400"),
        ends_with(
            "http/1.0",
            b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n",
            "HTTP/1.0 200"
        ),
        ends_with("h2", b"", ""),
        // A client that does not respond to PING, so that the drain does not end by itself.
        ends_with("h2", PREFACE, ""),
        ends_with("h2", &http2_request, ""),
        ends_with("h2", &http2_error, ""),
    );
}

#[tokio::test]
async fn idle_connections_end_with_close_notify_when_the_gateway_drains() {
    let setup = Setup::new("keep_alive_timeout = \"60s\"").await;
    let mut connections = Vec::new();
    for alpn in ["http/1.1", "http/1.1", "h2"] {
        let mut stream = setup.connect(alpn).await;
        if alpn == "http/1.1" {
            stream.write_all(SIMPLE).await.unwrap();
            let mut head = [0; 12];
            within_timeout(stream.read_exact(&mut head)).await.unwrap();
            assert_eq!(&head, b"HTTP/1.1 200");
        }
        connections.push(stream);
    }
    wait_until("two connections have released their buffers", async || {
        setup.gateway.app().connections().idle() == 2
    })
    .await;
    // Not parked yet.
    let mut stream = setup.connect("http/1.1").await;
    stream.write_all(SIMPLE).await.unwrap();
    let mut head = [0; 12];
    within_timeout(stream.read_exact(&mut head)).await.unwrap();
    connections.push(stream);
    setup.gateway.app().lifecycle().advance(Phase::Draining);
    for mut stream in connections {
        rest(&mut stream).await;
    }
}
