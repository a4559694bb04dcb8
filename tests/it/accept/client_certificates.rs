//! Client certificates (interface §3.1 `listen.tls`).

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::pki::{TestCa, TlsFiles, tls_client_config};
use crate::harness::{Gateway, OK, Upstream, Wire, get_with, wait_until, within_timeout};

/// Returns the status of a response; 0 if the handshake failed.
async fn status(gateway: &Gateway, tls: &Arc<ClientConfig>) -> u16 {
    status_with(gateway, tls, "").await
}

async fn status_with(gateway: &Gateway, tls: &Arc<ClientConfig>, fields: &str) -> u16 {
    let socket = within_timeout(TcpStream::connect(gateway.address()))
        .await
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let Ok(stream) =
        within_timeout(TlsConnector::from(Arc::clone(tls)).connect(name, socket)).await
    else {
        return 0;
    };
    // In TLS 1.3 the client sees the alert on its first read.
    let mut wire = Wire::new(stream);
    wire.write(get_with("/", fields)).await;
    let response = String::from_utf8_lossy(&wire.rest().await).into_owned();
    response
        .split(' ')
        .nth(1)
        .map_or(0, |status| status.parse().unwrap())
}

struct Setup {
    server_ca: TestCa,
    client_ca: TestCa,
    other_ca: TestCa,
    files: TlsFiles,
    _upstream: Upstream,
    gateway: Gateway,
}

impl Setup {
    async fn new(client_auth: &str) -> Self {
        let [server_ca, client_ca, other_ca] =
            ["server_ca", "client_ca", "other_ca"].map(TestCa::new);
        let files = TlsFiles::new(&server_ca.issue("gateway", &["localhost"]));
        let upstream = Upstream::responding(OK).await;
        let toml = files.toml_with_client_ca(&client_ca, client_auth);
        let gateway = Gateway::in_front_of(&upstream).with(&toml).start().await;
        Self {
            server_ca,
            client_ca,
            other_ca,
            files,
            _upstream: upstream,
            gateway,
        }
    }

    /// Returns the TLS configuration of a caller with a certificate issued by `authority`.
    fn caller_of(&self, authority: &TestCa) -> Arc<ClientConfig> {
        tls_client_config(
            &self.server_ca,
            Some(&authority.issue("splunk", &["splunk.example.net"])),
        )
    }
}

#[tokio::test]
async fn required_client_certificate_missing_fails_the_handshake() {
    let setup = Setup::new("required").await;
    assert_eq!(
        status(&setup.gateway, &setup.caller_of(&setup.client_ca)).await,
        200
    );
    assert_eq!(
        status(&setup.gateway, &tls_client_config(&setup.server_ca, None)).await,
        0
    );
    assert_eq!(
        status(&setup.gateway, &setup.caller_of(&setup.other_ca)).await,
        0
    );
}

#[tokio::test]
async fn optional_client_certificate_may_be_absent_but_not_untrusted() {
    let setup = Setup::new("optional").await;
    assert_eq!(
        status(&setup.gateway, &setup.caller_of(&setup.client_ca)).await,
        200
    );
    assert_eq!(
        status(&setup.gateway, &tls_client_config(&setup.server_ca, None)).await,
        200
    );
    assert_eq!(
        status(&setup.gateway, &setup.caller_of(&setup.other_ca)).await,
        0
    );
}

#[tokio::test]
async fn changed_client_ca_applies_and_old_sessions_are_not_resumed() {
    let setup = Setup::new("required").await;
    let (before, after) = (
        setup.caller_of(&setup.client_ca),
        setup.caller_of(&setup.other_ca),
    );
    assert_eq!(status(&setup.gateway, &before).await, 200);
    setup.files.write("client-ca.pem", &setup.other_ca.pem());
    setup.gateway.app().inbound_tls().unwrap().request_read();
    wait_until("the new authority is trusted", || async {
        status(&setup.gateway, &after).await == 200
    })
    .await;
    assert_eq!(
        status(&setup.gateway, &before).await,
        0,
        "despite its session ticket"
    );
}

#[tokio::test]
async fn client_certificate_authenticates_a_caller_but_no_cross_site_page() {
    let [server_ca, client_ca] = ["server_ca", "client_ca"].map(TestCa::new);
    let files = TlsFiles::new(&server_ca.issue("gateway", &["localhost"]));
    let upstream = Upstream::responding(OK).await;
    // The SHA-256 of "secret".
    let blocks = "[[caller]]\nname = \"subject\"\nclient_certificate = \"CN=splunk\"\n\
        [[caller]]\nname = \"both\"\nclient_certificate = \"both.example.net\"\n\
        secret_sha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"\n";
    let toml = blocks.to_owned() + &files.toml_with_client_ca(&client_ca, "optional");
    let gateway = Gateway::in_front_of(&upstream).with(&toml).start().await;
    let of =
        |name: &str, dns: &[&str]| tls_client_config(&server_ca, Some(&client_ca.issue(name, dns)));
    let (splunk, both, other) = (
        of("splunk", &[]),
        of("x", &["both.example.net"]),
        of("other", &["other.example.net"]),
    );
    let without_certificate = tls_client_config(&server_ca, None);
    let (key, page) = ("X-Api-Key: secret\r\n", "Origin: https://evil.example\r\n");
    for (tls, fields, expected) in [
        (&splunk, "", 200),
        (&splunk, "Authorization: CwsAuth Bearer=stale\r\n", 200),
        (&splunk, "X-Api-Key: wrong\r\n", 401),
        (&splunk, key, 401),
        (&splunk, page, 403),
        (&both, key, 200),
        (&both, "", 401),
        (&other, "", 401),
        (&other, key, 401),
        (&without_certificate, "", 401),
        (&without_certificate, key, 401),
    ] {
        assert_eq!(
            status_with(&gateway, tls, fields).await,
            expected,
            "{fields}"
        );
    }
    let metrics = gateway.metrics().await;
    for line in [
        r#"{caller="subject",code="200",method="GET",route="/"} 2"#,
        r#"{caller="both",code="200",method="GET",route="/"} 1"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}
