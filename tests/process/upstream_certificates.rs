//! Certificates of upstreams that are rejected: each fault has its own reason and advice.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use citrix_auth_proxy::system::clock::Clock;

use crate::gateway::{EPHEMERAL_PORTS, Gateway, addresses, environment, get};
use crate::program::Program;
use testkit::pki::{TestCa, TestCertificate, TlsFiles};
use testkit::token_endpoint::TokenEndpoint;
use testkit::wire::wait_until;

const DAY: Duration = Duration::from_secs(86_400);

struct Case {
    certificate: TestCertificate,
    outcome: &'static str,
    reason: &'static str,
    advice: &'static str,
}

/// Returns a certificate for each fault; the gateway trusts `ca`.
fn cases(ca: &TestCa) -> Vec<Case> {
    let now = Clock::SYSTEM.now();
    let case = |certificate, outcome, reason, advice| Case {
        certificate,
        outcome,
        reason,
        advice,
    };
    vec![
        case(
            ca.issue_valid("server", &["localhost"], now - 9 * DAY, now - DAY),
            "certificate_expired",
            "the certificate has expired",
            "clock",
        ),
        case(
            ca.issue_valid("server", &["localhost"], now + DAY, now + 9 * DAY),
            "certificate_not_yet_valid",
            "the certificate is not yet valid",
            "clock",
        ),
        case(
            // The common name is not compared (RFC 9110 section 4.3.4).
            ca.issue("localhost", &["other.example"]),
            "certificate_other_host",
            "the certificate is for another host",
            "the resolver",
        ),
        case(
            TestCa::new("Another CA").issue("server", &["localhost"]),
            "certificate_untrusted",
            "the certificate's issuer is not trusted",
            "upstream.ca_file",
        ),
    ]
}

/// Starts a TLS server that presents `issued`, and returns its URL.
async fn tls_server(issued: &TestCertificate) -> String {
    let acceptor = TlsAcceptor::from(Arc::new(issued.server_config()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // Fails on this side as well.
            acceptor.accept(socket).await.ok();
        }
    });
    format!("https://localhost:{port}")
}

fn ca_file(ca: &TestCa) -> TlsFiles {
    let files = TlsFiles::new(&ca.issue("unused", &[]));
    files.write("ca.pem", &ca.pem());
    files
}

#[tokio::test]
async fn rejected_certificate_of_the_api_gateway_is_named_in_the_detail_of_a_502() {
    let ca = TestCa::new("CA");
    let files = ca_file(&ca);
    let path = files.path("ca.pem");
    for case in cases(&ca) {
        let api = tls_server(&case.certificate).await;
        let token_endpoint = TokenEndpoint::granting().await;
        let token = token_endpoint.url();
        let mut variables = environment(&api, &token);
        variables.push((
            "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE",
            path.to_str().unwrap(),
        ));
        let gateway = Gateway::start(&[], &variables).await;
        let response = get(gateway.address, "/systemlog/records").await;
        let body = response.text();
        assert_eq!(response.status(), 502, "{body}");
        assert!(
            body.contains(case.reason) && body.contains(case.advice),
            "{body}"
        );
        assert_eq!(
            body.contains("upstream.ca_file"),
            case.outcome == "certificate_untrusted",
            "{body}"
        );
    }
}

#[tokio::test]
async fn rejected_certificate_of_the_token_endpoint_is_named_by_the_log_and_the_admin_listener() {
    let ca = TestCa::new("CA");
    let files = ca_file(&ca);
    let path = files.path("ca.pem");
    for case in cases(&ca) {
        let token = format!("{}/token", tls_server(&case.certificate).await);
        let mut variables = environment("http://127.0.0.1:9", &token);
        variables.push((
            "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE",
            path.to_str().unwrap(),
        ));
        variables.extend(EPHEMERAL_PORTS);
        let mut program = Program::start(&["run"], &variables);
        let (_, admin) = addresses(&mut program).await;
        let line = program.logged("login failed").await;
        assert_eq!(line["outcome"], case.outcome, "{line}");
        let advice = line["advice"].as_str().unwrap();
        assert!(advice.contains(case.advice), "{line}");
        wait_until("the failure is published", || async {
            get(admin, "/readyz").await.text().contains(case.outcome)
        })
        .await;
        for path in ["/readyz", "/status.json"] {
            let text = get(admin, path).await.text();
            assert!(text.contains(advice), "{path}: {text}");
        }
        let metrics = get(admin, "/metrics").await.text();
        let series = format!("outcome=\"{}\"}} ", case.outcome);
        let counted = metrics
            .lines()
            .find_map(|line| line.split_once(&series))
            .is_some_and(|(_, count)| count != "0");
        assert!(counted, "{metrics}");
    }
}
