//! Every kind of failed login on the wire: each is reported by its outcome and retried. The backoff
//! of the keeper is tested with a test clock (`src/token/keeper/tests/failures.rs`). A name that
//! does not resolve is tested with the issuer, which needs no external resolver.

use std::iter::zip;

use futures_util::future::join_all;
use testkit::http2::Http2Upstream;

use crate::harness::{Gateway, OK, Upstream, get, wait_until};

const TOKEN: &str = r#"{"access_token":"t","expires_in":"3600"}"#;

fn response(status: &str, fields: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    )
}

/// Token responses and their outcomes.
fn responses() -> Vec<(&'static str, String)> {
    let invalid =
        r#"{"error":"invalid_client","error_description":"Invalid client id or client secret."}"#;
    let stalled = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"access_token\":\"e";
    vec![
        (
            "invalid_client",
            response("400 Invalid request", "", invalid),
        ),
        ("unauthorized", response("401 Unauthorized", "", "")),
        ("http_4xx", response("404 Not Found", "", "<html>")),
        ("http_5xx", response("500 Internal Server Error", "", "")),
        (
            "http_5xx",
            response("503 Service Unavailable", "Retry-After: 1\r\n", TOKEN),
        ),
        (
            "rate_limited",
            response("429 Too Many Requests", "Retry-After: 1\r\n", ""),
        ),
        (
            "redirect",
            response("302 Found", "Location: http://127.0.0.1:1/\r\n", ""),
        ),
        ("unexpected_status", response("201 Created", "", TOKEN)),
        (
            "not_json",
            response(
                "200 OK",
                "Content-Type: text/html\r\n",
                "<!DOCTYPE html><html></html>",
            ),
        ),
        ("empty", response("200 OK", "", "")),
        (
            "truncated",
            response("200 OK", "", r#"{"access_token":"ey"#),
        ),
        ("timeout", stalled.to_owned()),
        (
            "malformed",
            response("200 OK", "", r#"{"access_token":17}"#),
        ),
        ("malformed", "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned()),
        ("too_large", "HTTP/1.1 100 Continue\r\n\r\n".repeat(40_000)),
        (
            "error_in_200",
            response(
                "200 OK",
                "",
                r#"{"error":"server_error","access_token":"t"}"#,
            ),
        ),
        (
            "too_large",
            response("200 OK", "", &" ".repeat(256 * 1024 + 1)),
        ),
        (
            "bad_token",
            response(
                "200 OK",
                "",
                r#"{"access_token":"a b","expires_in":"3600"}"#,
            ),
        ),
    ]
}

/// Waits until a second login fails with the same outcome. The backoff between the two is a second
/// of real time.
async fn fails_again(upstream: &Upstream, token_url: String, outcome: &str) {
    let gateway = Gateway::in_front_of(upstream)
        .set("CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL", &token_url)
        .with("[token]\nrequest_timeout = \"2s\"\nstartup_wait = \"0s\"")
        .start()
        .await;
    let series = format!(
        "citrix_auth_proxy_token_refreshes_total{{customer=\"acme\",outcome=\"{outcome}\"}} "
    );
    wait_until(
        &format!("a second login ends with {outcome} ({token_url})"),
        || async {
            let page = gateway.metrics().await;
            let count = page.lines().find_map(|line| line.strip_prefix(&series));
            count.is_some_and(|count| count.parse::<u32>().unwrap() >= 2)
        },
    )
    .await;
    let problem = gateway
        .raw(get("/"))
        .await
        .problem(503, "token_unavailable");
    assert!(
        problem["detail"].as_str().unwrap().contains(outcome),
        "{problem}"
    );
}

#[tokio::test]
async fn every_failed_token_response_is_reported_and_retried() {
    let upstream = Upstream::responding(OK).await;
    let endpoints = join_all(
        responses()
            .into_iter()
            .map(|(_, response)| Upstream::responding(response)),
    )
    .await;
    let cases = zip(responses(), &endpoints).map(|((outcome, _), endpoint)| {
        let (upstream, url) = (&upstream, endpoint.url());
        async move { fails_again(upstream, url, outcome).await }
    });
    join_all(cases).await;
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn every_connection_failure_is_reported_and_retried() {
    let upstream = Upstream::responding(OK).await;
    let (refusing, silent) = (Upstream::refusing(), Upstream::manual().await);
    let without_tls = Upstream::manual().await;
    let closing = Upstream::scripted(|_| Vec::new()).await;
    tokio::join!(
        fails_again(&upstream, refusing.url(), "refused"),
        fails_again(&upstream, silent.url(), "timeout"),
        fails_again(&upstream, closing.url(), "truncated"),
        async {
            let hang_up = async {
                loop {
                    drop(without_tls.connection().await);
                }
            };
            tokio::select! {
                () = fails_again(&upstream, without_tls.url().replace("http:", "https:"), "tls") => {}
                () = hang_up => {}
            }
        },
    );
}

#[tokio::test]
async fn login_that_the_service_does_not_read_times_out() {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let service = Http2Upstream::with_settings(&[(INITIAL_WINDOW_SIZE, 0)]).await;
    let gateway = Gateway::with_api_url(&service.url())
        .set("CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL", &service.url())
        .set("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE", &service.ca_file())
        .with("[token]\nrequest_timeout = \"1s\"")
        .start()
        .await;
    let mut wire = service.connection().await;
    wire.head().await;
    wait_until("the login has timed out", || async {
        let metrics = gateway.metrics().await;
        metrics.contains(r#"token_refreshes_total{customer="acme",outcome="timeout"} 1"#)
    })
    .await;
}
