//! The issuer on a real wire, against a server of a few lines that records what it got.

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
use crate::upstream::dial::DialConfig;
use crate::upstream::http_client::LARGEST_ANSWER;

/// Generous for what must work, and waited out by nothing.
const PLENTY: Duration = Duration::from_secs(20);

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn issuer(timeout: Duration) -> HttpIssuer {
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let dial_config = DialConfig::new(Arc::new(tls), Egress::direct());
    HttpIssuer::new(Client::new(dial_config, timeout), Clock::SYSTEM)
}

/// Answers one request with these bytes; gives back the request's.
async fn serve(answer: impl Into<Vec<u8>>) -> (SocketAddr, JoinHandle<String>) {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        // The client may close early; that is its right.
        let _ = stream.write_all(&answer).await;
        request
    });
    (address, server)
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap();
        bytes.extend_from_slice(&piece[..read]);
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
        assert_ne!(read, 0, "cut off: {text}");
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

async fn ask(answer: impl Into<Vec<u8>>) -> Result<IssuedToken, LoginError> {
    let (address, server) = serve(answer).await;
    let result = log_in(TokenDialect::Oauth2, &format!("http://{address}/t"), PLENTY).await;
    server.await.unwrap();
    result
}

#[track_caller]
fn outcome(result: Result<IssuedToken, LoginError>) -> Outcome {
    result.expect_err("a failure").outcome
}

/// The request's lines, the head's in alphabetical order: their order is nobody's business.
fn lines(request: &str) -> Vec<String> {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.split("\r\n").map(str::to_owned).collect();
    lines[1..].sort();
    lines.push(body.to_owned());
    lines
}

#[tokio::test]
async fn the_form_goes_out_byte_for_byte() {
    let (address, server) = serve(ok(
        "\n {\"access_token\":\"ey.J.x\", \"expires_in\":\"3600\"}\n ",
    ))
    .await;
    let url = format!("http://{address}/cctrustoauth2/acme/tokens/clients");
    let issued = log_in(TokenDialect::Oauth2, &url, PLENTY).await.unwrap();
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
async fn the_json_goes_out_byte_for_byte() {
    let (address, server) = serve(ok("{\"token\":\"ey.J.x\",\"expiresIn\":3600}")).await;
    let url = format!("http://{address}/root/tokens/clients");
    let issued = log_in(TokenDialect::Trust, &url, PLENTY).await.unwrap();
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
async fn statuses_are_told_apart() {
    let check = async |line: &str, headers: &str, body: &str, expected| {
        assert_eq!(
            outcome(ask(status(line, headers, body)).await),
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
async fn a_rate_limit_brings_its_hint() {
    let apim = r#"{"statusCode":429,"message":"Rate limit is exceeded. Try again in 9 seconds."}"#;
    let failure = ask(status("429 Too Many Requests", "", apim))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.outcome, failure.retry_after),
        (Outcome::RateLimited, Some(Duration::from_secs(9)))
    );
    // The date is of their clock, which is far from ours: it counts from their Date.
    let headers =
        "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nRetry-After: Thu, 01 Jan 2026 00:00:20 GMT\r\n";
    let failure = ask(status("429 Too Many Requests", headers, ""))
        .await
        .unwrap_err();
    assert_eq!(failure.retry_after, Some(Duration::from_secs(20)));
    assert!(failure.skew.is_some());
}

#[tokio::test]
async fn the_transaction_id_comes_with_a_failure_and_only_when_it_is_one() {
    let failure = ask(status("500 x", "X-Cws-TransactionId: 77aa\r\n", ""))
        .await
        .unwrap_err();
    assert_eq!(failure.transaction_id.unwrap(), "77aa");
    assert_eq!(failure.cause.as_deref(), Some("status 500"));
    let long = format!(
        "X-Cws-TransactionId: {}\r\nCitrix-TransactionId: 88bb\r\n",
        "x".repeat(500)
    );
    let failure = ask(status("500 x", &long, "")).await.unwrap_err();
    assert_eq!(failure.transaction_id.unwrap(), "88bb");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_it() {
    let large = "x".repeat(LARGEST_ANSWER + 1);
    assert_eq!(
        outcome(ask(status("200 OK", "", &large)).await),
        Outcome::TooLarge
    );
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n",
        large.len()
    );
    assert_eq!(outcome(ask(chunked).await), Outcome::TooLarge);
}

#[tokio::test]
async fn a_cut_off_answer_is_truncated_wherever_it_is_cut() {
    assert_eq!(outcome(ask("").await), Outcome::Truncated);
    assert_eq!(
        outcome(ask("HTTP/1.1 200 OK\r\nContent-Le").await),
        Outcome::Truncated
    );
    assert_eq!(
        outcome(ask("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"acc").await),
        Outcome::Truncated
    );
    let whole_length = ok(r#"{"access_token":"ey"#);
    assert_eq!(outcome(ask(whole_length).await), Outcome::Truncated);
    assert_eq!(
        outcome(ask("SSH-2.0-OpenSSH_9.6\r\n\r\n").await),
        Outcome::Malformed
    );
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_before_and_within_the_answer() {
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
async fn nobody_there_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/t", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(
        outcome(log_in(TokenDialect::Oauth2, &url, PLENTY).await),
        Outcome::Refused
    );
}

#[tokio::test]
async fn a_name_that_cannot_exist_is_dns() {
    // A label of 64 bytes is refused by the resolver itself: nothing leaves the machine.
    let url = format!("http://{}.invalid/t", "x".repeat(64));
    assert_eq!(
        outcome(log_in(TokenDialect::Oauth2, &url, PLENTY).await),
        Outcome::Dns
    );
}

#[tokio::test]
async fn a_server_without_tls_is_a_tls_failure() {
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
        outcome(log_in(TokenDialect::Oauth2, &url, PLENTY).await),
        Outcome::Tls
    );
}

#[tokio::test]
async fn a_handshake_that_is_hung_up_on_is_a_tls_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/t", listener.local_addr().unwrap());
    tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    assert_eq!(
        outcome(log_in(TokenDialect::Oauth2, &url, PLENTY).await),
        Outcome::Tls
    );
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_a_tls_failure_that_says_so() {
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
        // It fails on this side too.
        let _ = tokio_rustls::TlsAcceptor::from(Arc::new(config))
            .accept(stream)
            .await;
    });
    let failure = log_in(TokenDialect::Oauth2, &url, PLENTY)
        .await
        .unwrap_err();
    assert_eq!(failure.outcome, Outcome::Tls);
    assert!(failure.cause.unwrap().contains("certificate"));
}

#[tokio::test]
async fn the_skew_comes_out_of_the_date() {
    let date = httpdate::fmt_http_date(Clock::SYSTEM.now() + Duration::from_secs(120));
    let body = r#"{"access_token":"t","expires_in":"60"}"#;
    let issued = ask(status("200 OK", &format!("Date: {date}\r\n"), body))
        .await
        .unwrap();
    let skew = issued.skew.unwrap().seconds();
    assert!((-121.0..=-110.0).contains(&skew), "{skew}");
}

#[tokio::test]
async fn without_a_date_the_skew_comes_out_of_the_token() {
    let issued = Clock::SYSTEM.now() - Duration::from_secs(120);
    let iat = issued
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{iat},"exp":{}}}"#, iat + 3600));
    let body = format!(r#"{{"access_token":"e30.{claims}.c2ln"}}"#);
    let skew = ask(status("200 OK", "", &body))
        .await
        .unwrap()
        .skew
        .unwrap()
        .seconds();
    assert!((110.0..=121.0).contains(&skew), "{skew}");
    // A date is nearer to the truth: a token may have been issued a while ago.
    let date = httpdate::fmt_http_date(Clock::SYSTEM.now());
    let skew = ask(status("200 OK", &format!("Date: {date}\r\n"), &body))
        .await
        .unwrap()
        .skew
        .unwrap();
    assert!(skew.seconds().abs() < 10.0, "{skew:?}");
}

#[tokio::test]
async fn a_service_that_is_down_may_say_for_how_long() {
    let busy =
        r#"{"type":"x/serviceUnavailable","parameters":[{"name":"retryDelay","value":"17"}]}"#;
    let failure = ask(status("503 Service Unavailable", "", busy))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.outcome, failure.retry_after),
        (Outcome::Http5xx, Some(Duration::from_secs(17)))
    );
    let failure = ask(status("500 x", "Retry-After: 9\r\n", ""))
        .await
        .unwrap_err();
    assert_eq!(
        failure.retry_after, None,
        "no such thing is defined for a 500"
    );
}

#[tokio::test]
async fn what_citrix_writes_is_not_repeated() {
    let echo =
        r#"{"error":"CANARY","error_description":"CANARY","parameters":{"retryDelay":"CANARY"}}"#;
    for line in [
        "200 OK",
        "400 CANARY",
        "401 CANARY",
        "429 CANARY",
        "500 CANARY",
    ] {
        let failure = ask(status(line, "X-Echo: CANARY\r\n", echo))
            .await
            .unwrap_err();
        assert!(!format!("{failure:?}").contains("CANARY"), "{failure:?}");
    }
    for answer in [
        "CANARY\r\n\r\n".to_owned(),
        ok("{\"access_token\":\"CANARY\",}"),
        ok("CANARY"),
    ] {
        let failure = ask(answer).await.unwrap_err();
        assert!(!format!("{failure:?}").contains("CANARY"), "{failure:?}");
    }
    let issued = ask(ok("{\"access_token\":\"CANARY\"}")).await.unwrap();
    assert!(!format!("{issued:?}").contains("CANARY"), "{issued:?}");
}
