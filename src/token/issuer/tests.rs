//! The issuer over real connections, against a minimal server that records the request.

mod faults;

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::config::Egress;
use crate::token::response::Lifetime;
use crate::upstream::control_plane::MAX_RESPONSE_BYTES;
use crate::upstream::dial::DialConfig;
use crate::upstream::tls::ClientConfigs;

/// Timeout that no test reaches.
const LONG_TIMEOUT: Duration = Duration::from_secs(20);

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn issuer(timeout: Duration) -> HttpIssuer {
    let tls = ClientConfigs::new(rustls::RootCertStore::empty()).unwrap();
    let dial_config = DialConfig::new(tls, Egress::direct());
    HttpIssuer::new(ControlClient::new(dial_config, timeout), Clock::SYSTEM)
}

/// Serves one connection: responds with these bytes and returns the request.
async fn serve(response: impl Into<Vec<u8>>) -> (SocketAddr, JoinHandle<String>) {
    let response = response.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        // The client may close early.
        let _ = stream.write_all(&response).await;
        request
    });
    (address, server)
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .unwrap();
            if body.len() >= length.parse().unwrap() {
                return text;
            }
        }
        assert_ne!(read, 0, "truncated: {text}");
    }
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Cws-TransactionId: 0af3\r\n\r\n{body}",
        body.len()
    )
}

fn status(line: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {line}\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

async fn log_in(
    dialect: TokenDialect,
    url: &str,
    timeout: Duration,
) -> Result<IssuedToken, LoginError> {
    issuer(timeout)
        .log_in(LoginRequest {
            url: &url.parse().unwrap(),
            dialect,
            client_id: "id &1",
            client_secret: &SecretString::from("p+/w\"=="),
        })
        .await
}

async fn log_in_against(response: impl Into<Vec<u8>>) -> Result<IssuedToken, LoginError> {
    let (address, server) = serve(response).await;
    let result = log_in(
        TokenDialect::Oauth2,
        &format!("http://{address}/t"),
        LONG_TIMEOUT,
    )
    .await;
    server.await.unwrap();
    result
}

#[track_caller]
fn outcome(result: Result<IssuedToken, LoginError>) -> Outcome {
    result.expect_err("a failure").outcome
}

/// Returns the request's lines, header lines sorted.
fn lines(request: &str) -> Vec<String> {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.split("\r\n").map(str::to_owned).collect();
    lines[1..].sort();
    lines.push(body.to_owned());
    lines
}

#[tokio::test]
async fn oauth2_request_is_an_exact_form() {
    let (address, server) = serve(ok(
        "\n {\"access_token\":\"ey.J.x\", \"expires_in\":\"3600\"}\n ",
    ))
    .await;
    let url = format!("http://{address}/cctrustoauth2/acme/tokens/clients");
    let issued = log_in(TokenDialect::Oauth2, &url, LONG_TIMEOUT)
        .await
        .unwrap();
    assert_eq!(issued.grant.token.expose_secret(), "ey.J.x");
    assert_eq!(
        issued.grant.lifetime,
        Lifetime::FromRequest(Duration::from_secs(3600))
    );
    assert_eq!(issued.transaction_id.unwrap(), "0af3");
    assert!(issued.skew.is_none());
    let body = "grant_type=client_credentials&client_id=id+%261&client_secret=p%2B%2Fw%22%3D%3D";
    let expected = [
        "POST /cctrustoauth2/acme/tokens/clients HTTP/1.1".to_owned(),
        "accept: application/json".to_owned(),
        format!("content-length: {}", body.len()),
        "content-type: application/x-www-form-urlencoded".to_owned(),
        format!("host: {address}"),
        format!(
            "user-agent: citrix-auth-proxy/{}",
            env!("CARGO_PKG_VERSION")
        ),
        body.to_owned(),
    ];
    assert_eq!(lines(&server.await.unwrap()), expected);
}

#[tokio::test]
async fn trust_request_is_exact_json() {
    let (address, server) = serve(ok("{\"token\":\"ey.J.x\",\"expiresIn\":3600}")).await;
    let url = format!("http://{address}/root/tokens/clients");
    let issued = log_in(TokenDialect::Trust, &url, LONG_TIMEOUT)
        .await
        .unwrap();
    assert_eq!(issued.grant.token.expose_secret(), "ey.J.x");
    let body = r#"{"clientId":"id &1","clientSecret":"p+/w\"=="}"#;
    let expected = [
        "POST /root/tokens/clients HTTP/1.1".to_owned(),
        "accept: application/json".to_owned(),
        format!("content-length: {}", body.len()),
        "content-type: application/json".to_owned(),
        format!("host: {address}"),
        format!(
            "user-agent: citrix-auth-proxy/{}",
            env!("CARGO_PKG_VERSION")
        ),
        body.to_owned(),
    ];
    assert_eq!(lines(&server.await.unwrap()), expected);
}

#[tokio::test]
async fn each_status_has_its_outcome() {
    let check = async |line: &str, headers: &str, body: &str, expected| {
        assert_eq!(
            outcome(log_in_against(status(line, headers, body)).await),
            expected,
            "{line} {body}"
        );
    };
    let token = r#"{"access_token":"t","expires_in":"60"}"#;
    let invalid =
        r#"{"error":"invalid_client","error_description":"Invalid client id or client secret."}"#;
    check("400 Invalid request", "", invalid, Outcome::InvalidClient).await;
    check(
        "400 Bad Request",
        "",
        r#"{"message":"The request is invalid."}"#,
        Outcome::Http4xx,
    )
    .await;
    check("401 Unauthorized", "", "", Outcome::Unauthorized).await;
    check("404 Not Found", "", "<html>", Outcome::Http4xx).await;
    check("500 Internal Server Error", "", "", Outcome::Http5xx).await;
    check("503 Service Unavailable", "", token, Outcome::Http5xx).await;
    check("201 Created", "", token, Outcome::UnexpectedStatus).await;
    check(
        "307 Temporary Redirect",
        "Location: http://127.0.0.1:1/\r\n",
        "",
        Outcome::Redirect,
    )
    .await;
    check("200 OK", "", "<html>", Outcome::NotJson).await;
    check("200 OK", "", "", Outcome::Empty).await;
    check("200 OK", "", r#"{"error":"x"}"#, Outcome::ErrorIn200).await;
}

#[tokio::test]
async fn rate_limit_carries_its_retry_hint() {
    let apim = r#"{"statusCode":429,"message":"Rate limit is exceeded. Try again in 9 seconds."}"#;
    let failure = log_in_against(status("429 Too Many Requests", "", apim))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.outcome, failure.retry_after),
        (Outcome::RateLimited, Some(Duration::from_secs(9)))
    );
    // A date in Retry-After is relative to the response's Date, not to the local clock.
    let headers =
        "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nRetry-After: Thu, 01 Jan 2026 00:00:20 GMT\r\n";
    let failure = log_in_against(status("429 Too Many Requests", headers, ""))
        .await
        .unwrap_err();
    assert_eq!(failure.retry_after, Some(Duration::from_secs(20)));
    assert!(failure.skew.is_some());
}

#[tokio::test]
async fn failure_carries_the_first_valid_transaction_id() {
    let failure = log_in_against(status("500 x", "X-Cws-TransactionId: 77aa\r\n", ""))
        .await
        .unwrap_err();
    assert_eq!(failure.transaction_id.unwrap(), "77aa");
    assert_eq!(failure.cause.as_deref(), Some("status 500"));
    let long = format!(
        "X-Cws-TransactionId: {}\r\nCitrix-TransactionId: 88bb\r\n",
        "x".repeat(500)
    );
    let failure = log_in_against(status("500 x", &long, ""))
        .await
        .unwrap_err();
    assert_eq!(failure.transaction_id.unwrap(), "88bb");
}

#[tokio::test]
async fn oversized_body_is_too_large() {
    let large = "x".repeat(MAX_RESPONSE_BYTES + 1);
    assert_eq!(
        outcome(log_in_against(status("200 OK", "", &large)).await),
        Outcome::TooLarge
    );
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n",
        large.len()
    );
    assert_eq!(outcome(log_in_against(chunked).await), Outcome::TooLarge);
}

#[tokio::test]
async fn incomplete_response_is_truncated() {
    assert_eq!(outcome(log_in_against("").await), Outcome::Truncated);
    assert_eq!(
        outcome(log_in_against("HTTP/1.1 200 OK\r\nContent-Le").await),
        Outcome::Truncated
    );
    assert_eq!(
        outcome(log_in_against("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"acc").await),
        Outcome::Truncated
    );
    let whole_length = ok(r#"{"access_token":"ey"#);
    assert_eq!(
        outcome(log_in_against(whole_length).await),
        Outcome::Truncated
    );
    assert_eq!(
        outcome(log_in_against("SSH-2.0-OpenSSH_9.6\r\n\r\n").await),
        Outcome::Malformed
    );
}

#[tokio::test]
async fn silent_server_is_a_timeout_before_and_within_the_response() {
    for start in ["", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/t", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(start.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let result = log_in(TokenDialect::Oauth2, &url, Duration::from_millis(300)).await;
        assert_eq!(outcome(result), Outcome::Timeout, "{start}");
        server.abort();
    }
}

#[tokio::test]
async fn closed_port_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/t", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(
        outcome(log_in(TokenDialect::Oauth2, &url, LONG_TIMEOUT).await),
        Outcome::Refused
    );
}

#[tokio::test]
async fn invalid_host_name_is_dns() {
    // The resolver rejects a label of 64 bytes without a query.
    let url = format!("http://{}.invalid/t", "x".repeat(64));
    assert_eq!(
        outcome(log_in(TokenDialect::Oauth2, &url, LONG_TIMEOUT).await),
        Outcome::Dns
    );
}

#[tokio::test]
async fn plain_http_server_is_a_tls_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/t", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    });
    assert_eq!(
        outcome(log_in(TokenDialect::Oauth2, &url, LONG_TIMEOUT).await),
        Outcome::Tls
    );
}

#[tokio::test]
async fn close_during_the_handshake_is_a_tls_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/t", listener.local_addr().unwrap());
    tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    assert_eq!(
        outcome(log_in(TokenDialect::Oauth2, &url, LONG_TIMEOUT).await),
        Outcome::Tls
    );
}

#[tokio::test]
async fn untrusted_certificate_has_its_outcome_and_cause() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}/t",
        listener.local_addr().unwrap().port()
    );
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // Fails on this side as well.
        let _ = tokio_rustls::TlsAcceptor::from(Arc::new(config))
            .accept(stream)
            .await;
    });
    let failure = log_in(TokenDialect::Oauth2, &url, LONG_TIMEOUT)
        .await
        .unwrap_err();
    assert_eq!(failure.outcome, Outcome::CertificateUntrusted);
    assert!(failure.cause.unwrap().contains("certificate"));
}

#[tokio::test]
async fn skew_is_measured_from_date() {
    let date = httpdate::fmt_http_date(Clock::SYSTEM.now() + Duration::from_secs(120));
    let body = r#"{"access_token":"t","expires_in":"60"}"#;
    let issued = log_in_against(status("200 OK", &format!("Date: {date}\r\n"), body))
        .await
        .unwrap();
    let skew = issued.skew.unwrap().seconds();
    assert!((-121.0..=-110.0).contains(&skew), "{skew}");
}

#[tokio::test]
async fn skew_without_date_is_measured_from_iat() {
    let issued = Clock::SYSTEM.now() - Duration::from_secs(120);
    let iat = issued
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{iat},"exp":{}}}"#, iat + 3600));
    let body = format!(r#"{{"access_token":"e30.{claims}.c2ln"}}"#);
    let skew = log_in_against(status("200 OK", "", &body))
        .await
        .unwrap()
        .skew
        .unwrap()
        .seconds();
    assert!((110.0..=121.0).contains(&skew), "{skew}");
    // Date takes precedence: a token may have been issued earlier.
    let date = httpdate::fmt_http_date(Clock::SYSTEM.now());
    let skew = log_in_against(status("200 OK", &format!("Date: {date}\r\n"), &body))
        .await
        .unwrap()
        .skew
        .unwrap();
    assert!(skew.seconds().abs() < 10.0, "{skew:?}");
}

#[tokio::test]
async fn retry_hint_is_read_from_503_but_not_500() {
    let busy =
        r#"{"type":"x/serviceUnavailable","parameters":[{"name":"retryDelay","value":"17"}]}"#;
    let failure = log_in_against(status("503 Service Unavailable", "", busy))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.outcome, failure.retry_after),
        (Outcome::Http5xx, Some(Duration::from_secs(17)))
    );
    let failure = log_in_against(status("500 x", "Retry-After: 9\r\n", ""))
        .await
        .unwrap_err();
    assert_eq!(failure.retry_after, None, "not defined for 500");
}

#[tokio::test]
async fn response_text_never_appears_in_debug_output() {
    let echo =
        r#"{"error":"CANARY","error_description":"CANARY","parameters":{"retryDelay":"CANARY"}}"#;
    for line in [
        "200 OK",
        "400 CANARY",
        "401 CANARY",
        "429 CANARY",
        "500 CANARY",
    ] {
        let failure = log_in_against(status(line, "X-Echo: CANARY\r\n", echo))
            .await
            .unwrap_err();
        assert!(!format!("{failure:?}").contains("CANARY"), "{failure:?}");
    }
    for response in [
        "CANARY\r\n\r\n".to_owned(),
        ok("{\"access_token\":\"CANARY\",}"),
        ok("CANARY"),
    ] {
        let failure = log_in_against(response).await.unwrap_err();
        assert!(!format!("{failure:?}").contains("CANARY"), "{failure:?}");
    }
    let issued = log_in_against(ok("{\"access_token\":\"CANARY\"}"))
        .await
        .unwrap();
    assert!(!format!("{issued:?}").contains("CANARY"), "{issued:?}");
}
