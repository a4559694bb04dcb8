//! TLS handshakes: application protocols, failures, and clients with the wrong scheme.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SignatureScheme,
    SupportedCipherSuite,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::response_to_drip;
use crate::harness::pki::{TestCa, TestCertificate, TlsFiles};
use crate::harness::{
    Gateway, OK, Upstream, Wire, get, http2_over, tls_client, wait_until, within_timeout,
};

struct Setup {
    gateway: Gateway,
    upstream: Upstream,
    ca: String,
    _files: TlsFiles,
}

impl Setup {
    async fn new() -> Self {
        let authority = TestCa::new("ca");
        let issued = authority.issue("gateway", &["localhost"]);
        Self::with(&authority, &issued).await
    }

    async fn with(authority: &TestCa, issued: &TestCertificate) -> Self {
        let files = TlsFiles::new(issued);
        let upstream = Upstream::responding(OK).await;
        let gateway = Gateway::in_front_of(&upstream)
            .with(&files.toml(""))
            .with("[limits]\nheader_read_timeout = \"2s\"")
            .start()
            .await;
        Self {
            gateway,
            upstream,
            ca: authority.pem(),
            _files: files,
        }
    }

    /// Returns the error of a handshake with this ALPN offer.
    async fn handshake_error(&self, ca: &str, alpn: &[&str]) -> String {
        let connector = TlsConnector::from(Arc::new(tls_client(Some(ca), alpn)));
        let socket = TcpStream::connect(self.gateway.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connected = within_timeout(connector.connect(name, socket)).await;
        connected.err().unwrap().to_string()
    }

    /// Checks that an HTTP/2 request is served to a client that offers only this suite, P-256, and
    /// this algorithm for the signature of the handshake.
    async fn serves_http2_with(&self, suite: SupportedCipherSuite, scheme: SignatureScheme) {
        let mut provider = CryptoProvider {
            cipher_suites: vec![suite],
            kx_groups: vec![kx_group::SECP256R1],
            ..default_provider()
        };
        let algorithms = &mut provider.signature_verification_algorithms;
        let mapping = algorithms.mapping;
        let at = mapping.iter().position(|(each, _)| *each == scheme);
        let at = at.unwrap();
        algorithms.mapping = &mapping[at..=at];
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let mut tls = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(self.gateway.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connecting = TlsConnector::from(Arc::new(tls)).connect(name, socket);
        let mut http2: h2::client::SendRequest<Bytes> =
            http2_over(within_timeout(connecting).await.unwrap()).await;
        let request = Request::get("https://localhost/").body(()).unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    }

    /// Waits until the gateway has counted one failure with this reason.
    async fn counted(&self, reason: &str) {
        let line =
            format!("citrix_auth_proxy_tls_handshake_failures_total{{reason=\"{reason}\"}} 1\n");
        wait_until(reason, async || {
            self.gateway.metrics().await.contains(&line)
        })
        .await;
    }
}

#[tokio::test]
async fn alpn_http_1_0_is_served_and_an_unknown_protocol_fails_with_an_alert() {
    let setup = Setup::new().await;
    for (offered, expected) in [
        (&["http/1.0"][..], Some("http/1.0")),
        (&["http/1.0", "http/1.1"], Some("http/1.1")),
        (&["acme", "http/1.1"], Some("http/1.1")),
        (&["acme", "http/1.0"], Some("http/1.0")),
        (&[], None),
    ] {
        let (mut caller, selected) = setup.gateway.connect_tls(&setup.ca, offered).await;
        assert_eq!(selected.as_deref(), expected);
        caller
            .write("GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(caller.response().await.status(), 200);
    }
    let error = setup.handshake_error(&setup.ca, &["acme"]).await;
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    setup.counted("alpn").await;
}

#[tokio::test]
async fn plain_http_on_a_tls_listener_returns_400_that_names_the_scheme() {
    let setup = Setup::new().await;
    for request in [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "POST /acme/tokens/clients HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    ] {
        let mut caller = setup.gateway.connect().await;
        // The first byte alone must not be mistaken for TLS.
        caller.write(&request[..1]).await;
        caller.write(&request[1..]).await;
        let problem = caller.response().await.problem(400, "bad_request");
        assert!(problem["detail"].as_str().unwrap().contains("use https"));
        caller.closed().await;
    }
    let mut http2 = setup.gateway.http2().await;
    for attempt in 0..2 {
        let request = Request::get(setup.gateway.url("/")).body(()).unwrap();
        let Ok((response, _)) = http2.send_request(request, true) else {
            break;
        };
        match within_timeout(response).await {
            Ok(response) => assert_eq!(response.status(), 400),
            // The second request may cross the GOAWAY.
            Err(error) => assert!(attempt > 0 && error.is_go_away(), "{error}"),
        }
        if within_timeout(http2.clone().ready()).await.is_err() {
            break;
        }
    }
    wait_until("the HTTP/2 connection closes", || {
        let http2 = http2.clone();
        async move { http2.ready().await.is_err() }
    })
    .await;
    setup.upstream.assert_no_more_requests().await;
    let metrics = setup.gateway.metrics().await;
    assert!(metrics.contains("tls_handshake_failures_total{reason=\"plain_http\"} 5\n"));
}

#[tokio::test]
async fn tls_on_a_plain_listener_gets_a_fatal_alert() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let connector = TlsConnector::from(Arc::new(tls_client(None, &["h2", "http/1.1"])));
    let socket = TcpStream::connect(gateway.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let error = within_timeout(connector.connect(name, socket))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("HandshakeFailure"), "{error}");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("tls_handshake_failures_total{reason=\"plain_listener\"} 1\n"));
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
}

#[tokio::test]
async fn failed_handshakes_are_counted_by_reason() {
    /// A ClientHello of TLS 1.0 without extensions.
    const TLS_1_0: &[u8] = &[
        0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
        16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0, 2, 0, 0x2f, 1, 0,
    ];
    let setup = Setup::new().await;
    let other = TestCa::new("other").pem();
    setup.handshake_error(&other, &["h2"]).await;
    setup.counted("certificate_rejected").await;
    for (bytes, reason) in [
        (TLS_1_0, "protocol_version"),
        (b"\x00\x01\x02\x03\x04\x05\x06\x07", "not_tls"),
    ] {
        let mut caller = setup.gateway.connect().await;
        caller.write(bytes).await;
        let alert = caller.rest().await;
        assert_eq!(alert.first(), Some(&0x15), "{reason}: {alert:?}");
        setup.counted(reason).await;
    }
    let mut caller = setup.gateway.connect().await;
    caller.write(b"\x16\x03\x01").await;
    drop(caller);
    setup.counted("closed").await;
    let mut caller = setup.gateway.connect().await;
    caller.write(b"\x16\x03\x01").await;
    caller.closed().await;
    setup.counted("timeout").await;
    // A health check that only connects.
    drop(setup.gateway.connect().await);
    setup.gateway.connect().await.closed().await;
    let metrics = setup.gateway.metrics().await;
    let total: u32 = metrics
        .lines()
        .filter(|line| line.starts_with("citrix_auth_proxy_tls_handshake_failures_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
        .sum();
    assert_eq!(total, 5);
}

#[tokio::test]
async fn dripping_handshake_times_out_after_accept() {
    let authority = TestCa::new("ca");
    let files = TlsFiles::new(&authority.issue("gateway", &["localhost"]));
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&files.toml(""))
        .with("[limits]\nheader_read_timeout = \"1s\"")
        .start()
        .await;
    let tls = Arc::new(tls_client(Some(&authority.pem()), &[]));
    let name = ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    let mut client = ClientConnection::new(tls, name).unwrap();
    client.write_tls(&mut hello).unwrap();
    // With a post-quantum share, so that all its bytes take 20 s.
    assert!(hello.len() > 1000, "{}", hello.len());
    // An encrypted message of the client.
    let record = [&b"\x17\x03\x03\x40\x00"[..], &[0; 0x4000]].concat();
    let (before, after) = tokio::join!(
        response_to_drip(&gateway, &[], &hello),
        response_to_drip(&gateway, &hello, &record),
    );
    assert_eq!(before, b"");
    assert_eq!(after.first(), Some(&0x16), "no ServerHello: {after:?}");
    wait_until("both are counted", async || {
        let metrics = gateway.metrics().await;
        metrics.contains("tls_handshake_failures_total{reason=\"timeout\"} 2\n")
    })
    .await;
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn http2_over_tls_is_served_after_a_failed_handshake() {
    let setup = Setup::new().await;
    setup.handshake_error(&setup.ca, &["acme"]).await;
    let connector = TlsConnector::from(Arc::new(tls_client(Some(&setup.ca), &["h2"])));
    let socket = TcpStream::connect(setup.gateway.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = within_timeout(connector.connect(name, socket))
        .await
        .unwrap();
    let mut http2: h2::client::SendRequest<Bytes> = http2_over(stream).await;
    let request = Request::get("https://localhost/").body(()).unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    assert_eq!(within_timeout(response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn rfc8446_8_resumed_session_permits_no_early_data() {
    let setup = Setup::new().await;
    let mut tls = tls_client(Some(&setup.ca), &["http/1.1"]);
    tls.enable_early_data = true;
    let tls = Arc::new(tls);
    let name = ServerName::try_from("localhost").unwrap();
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut offering = ClientConnection::new(Arc::clone(&tls), name.clone()).unwrap();
        assert!(offering.early_data().is_none(), "{expected:?}");
        let socket = TcpStream::connect(setup.gateway.address()).await.unwrap();
        let connecting = TlsConnector::from(Arc::clone(&tls)).connect(name.clone(), socket);
        let stream = within_timeout(connecting).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        // The tickets precede the response.
        let mut caller = Wire::new(stream);
        caller.write(get("/")).await;
        assert_eq!(caller.response().await.status(), 200);
    }
}

#[tokio::test]
async fn rfc8446_9_1_mandatory_parameters_are_accepted() {
    let setup = Setup::new().await;
    for suite in [
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        // With HTTP/2 (RFC 9113 section 9.2.2).
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ] {
        let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
        setup.serves_http2_with(suite, scheme).await;
    }
}

#[tokio::test]
async fn rfc8446_9_1_mandatory_parameters_are_accepted_with_an_rsa_certificate() {
    let authority = TestCa::with_rsa_key("ca");
    let issued = authority.issue_rsa("gateway", &["localhost"]);
    let setup = Setup::with(&authority, &issued).await;
    // That of TLS 1.2 with HTTP/2 (RFC 9113 section 9.2.2).
    let tls12 = cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
    for (suite, scheme) in [
        (
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
        ),
        (tls12, SignatureScheme::RSA_PSS_SHA256),
        (tls12, SignatureScheme::RSA_PKCS1_SHA256),
    ] {
        setup.serves_http2_with(suite, scheme).await;
    }
}

#[tokio::test]
async fn rfc9113_3_4_invalid_preface_closes_the_connection() {
    let setup = Setup::new().await;
    let (mut caller, selected) = setup.gateway.connect_tls(&setup.ca, &["h2"]).await;
    assert_eq!(selected.as_deref(), Some("h2"));
    caller.write(get("/")).await;
    let rest = caller.rest().await;
    assert!(!rest.starts_with(b"HTTP/"), "{rest:?}");
    setup.upstream.assert_no_more_requests().await;
}
