//! TLS alerts of either side, during the handshake and after it.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion};
use testkit::socket_end::SocketEnd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::recorded;
use crate::harness::pki::{TestCa, TestCertificate, TlsFiles};
use crate::harness::{
    Gateway, OK, Upstream, get, get_with, tls_client, wait_until, within_timeout,
};

/// Every alert (RFC 8446 section 6, the older ones that it reserves, and those of RFC 7301 and
/// others), and one that is not assigned.
const ALERTS: [u8; 36] = [
    0, 10, 20, 21, 22, 30, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 60, 70, 71, 80, 86, 90,
    100, 109, 110, 111, 112, 113, 114, 115, 116, 120, 121, 255,
];

/// Returns a record with a fatal alert.
fn alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// Responds to each ClientHello with this alert. Returns the port.
async fn alerting(description: u8) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(&alert(description)).await;
            tokio::spawn(SocketEnd::Stall.apply(socket));
        }
    });
    port
}

#[tokio::test]
async fn rfc8446_6_2_any_alert_of_an_upstream_returns_502() {
    let mut routes = String::new();
    for description in ALERTS {
        let port = alerting(description).await;
        routes += &format!(
            "[[route]]\nprefix = \"/alert-{description}\"\nupstream = \"https://localhost:{port}\"\n"
        );
    }
    let gateway = Gateway::in_front_of(&Upstream::refusing())
        .with(&routes)
        .start()
        .await;
    for description in ALERTS {
        let id = format!("alert-{description}");
        let request = get_with(
            &format!("/{id}"),
            &format!("Citrix-TransactionId: {id}\r\n"),
        );
        let problem = gateway.raw(request).await.problem(502, "upstream_connect");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("TLS handshake failed"),
            "{description}: {detail}"
        );
        let recorded = recorded(&gateway, &id).await;
        // Nothing was sent.
        assert_eq!(
            (&recorded["attempts"], &recorded["end"]),
            (&0.into(), &"complete".into()),
            "{recorded}"
        );
    }
}

#[tokio::test]
async fn rfc8446_4_4_2_4_upstream_that_requires_a_client_certificate_returns_502() {
    const REQUIRED: &str = "the peer requires a client certificate";
    let ca = TestCa::new("authority");
    let issued = ca.issue("localhost", &["localhost"]);
    let files = TlsFiles::new(&issued);
    files.write("ca.pem", &ca.pem());
    for (version, alpn, expected, detail) in [
        // The alert follows the client's part of the handshake, perhaps with the request behind it.
        (
            &TLS13,
            "http/1.1",
            ("upstream_broken", 1),
            "before its response head",
        ),
        // A request waits for the server's SETTINGS.
        (
            &TLS13,
            "h2",
            ("upstream_connect", 0),
            "HTTP handshake failed",
        ),
        // The handshake waits for the server's last message.
        (&TLS12, "http/1.1", ("upstream_connect", 0), REQUIRED),
        (&TLS12, "h2", ("upstream_connect", 0), REQUIRED),
    ] {
        let mut tls = requiring_a_certificate(&ca, &issued, version);
        tls.alpn_protocols = vec![alpn.into()];
        let port = serving_handshakes(tls).await;
        let gateway = Gateway::with_api_url(&format!("https://localhost:{port}"))
            .set(
                "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE",
                &files.path("ca.pem").display().to_string(),
            )
            .start()
            .await;
        let request = get_with("/", "Citrix-TransactionId: required\r\n");
        let (reason, attempts) = expected;
        let problem = gateway.raw(request).await.problem(502, reason);
        assert!(
            problem["detail"].as_str().unwrap().contains(detail),
            "{version:?} {alpn}: {problem}"
        );
        let recorded = recorded(&gateway, "required").await;
        assert_eq!(recorded["attempts"], attempts, "{version:?} {alpn}");
    }
}

/// Accepts connections until their handshakes fail. Returns the port.
async fn serving_handshakes(tls: ServerConfig) -> u16 {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let handshake = acceptor.accept(socket).into_fallible();
            tokio::spawn(async move {
                // A reset could overtake the alert.
                if let Err((_, socket)) = handshake.await {
                    SocketEnd::HalfClose.apply(socket).await;
                }
            });
        }
    });
    port
}

fn requiring_a_certificate(
    ca: &TestCa,
    issued: &TestCertificate,
    version: &'static SupportedProtocolVersion,
) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![issued.der()], key)
        .unwrap()
}

#[tokio::test]
async fn rfc8446_6_2_any_alert_of_a_caller_closes_its_connection_only() {
    let ca = TestCa::new("authority");
    let files = TlsFiles::new(&ca.issue("localhost", &["localhost"]));
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&files.toml(""))
        .start()
        .await;
    let (mut other, _) = gateway.connect_tls(&ca.pem(), &[]).await;
    for description in ALERTS {
        // Instead of a ClientHello, and after it.
        for hello in [Vec::new(), client_hello(&ca)] {
            let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
            caller.write_all(&hello).await.unwrap();
            if !hello.is_empty() {
                assert!(within_timeout(caller.read(&mut [0; 4096])).await.unwrap() > 0);
            }
            caller.write_all(&alert(description)).await.unwrap();
            // A reset ends it as well.
            let _ = within_timeout(caller.read_to_end(&mut Vec::new())).await;
        }
    }
    wait_until("each failure is counted", || async {
        failed_handshakes(&gateway).await == 2 * ALERTS.len()
    })
    .await;
    other.write(get("/")).await;
    assert_eq!(other.response().await.status(), 200);
}

/// Returns the bytes of a ClientHello.
fn client_hello(ca: &TestCa) -> Vec<u8> {
    let config = Arc::new(tls_client(Some(&ca.pem()), &[]));
    let name = ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    let mut client = ClientConnection::new(config, name).unwrap();
    client.write_tls(&mut hello).unwrap();
    hello
}

async fn failed_handshakes(gateway: &Gateway) -> usize {
    let metrics = gateway.metrics().await;
    let series = "citrix_auth_proxy_tls_handshake_failures_total{";
    let lines = metrics.lines().filter(|line| line.starts_with(series));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
        .sum()
}

#[tokio::test]
async fn rfc8446_6_1_request_after_close_notify_is_ignored() {
    let ca = TestCa::new("authority");
    let files = TlsFiles::new(&ca.issue("localhost", &["localhost"]));
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&files.toml(""))
        .start()
        .await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for notifies in [false, true] {
        let connector = TlsConnector::from(Arc::new(tls_client(Some(&ca.pem()), &[])));
        let socket = TcpStream::connect(gateway.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, socket).await.unwrap();
        stream
            .write_all(request("/first").as_bytes())
            .await
            .unwrap();
        within_timeout(stream.read(&mut [0; 4096])).await.unwrap();
        assert!(upstream.request().await.line().contains("/first"));
        let (socket, session) = stream.get_mut();
        if notifies {
            session.send_close_notify();
        }
        // rustls does not mind.
        let second = request("/second");
        io::Write::write_all(&mut session.writer(), second.as_bytes()).unwrap();
        let mut records = Vec::new();
        session.write_tls(&mut records).unwrap();
        assert!(records.len() > second.len());
        socket.write_all(&records).await.unwrap();
        if notifies {
            // The gateway ends the connection as well, perhaps with a reset.
            let _ = within_timeout(stream.read_to_end(&mut Vec::new())).await;
            upstream.assert_no_more_requests().await;
        } else {
            assert!(upstream.request().await.line().contains("/second"));
        }
    }
}
