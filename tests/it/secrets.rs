//! Secrets are not exposed: canaries in everything a client can read. The process tests cover the
//! log and the command line of the binary.

use crate::harness::{
    Gateway, Message, OK, SECRET, TOKEN, TokenEndpoint, Upstream, get_with, wait_until,
};

/// Secrets that a caller may send.
const FIELDS: &str = "Authorization: Bearer c4nary-caller\r\nX-Api-Key: c4nary-key\r\n\
    X-AdminCredential: c4nary-admin-credential\r\nCookie: session=c4nary-cookie\r\n";

fn assert_no_secret(text: &str) {
    for secret in ["c4nary", "4nary-client", SECRET, TOKEN] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

fn full_text(response: &Message) -> String {
    String::from_utf8_lossy(&response.head).into_owned() + &String::from_utf8_lossy(&response.body)
}

#[tokio::test]
async fn gateway_errors_expose_no_secret() {
    let upstream = Upstream::refusing();
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_body_bytes = 1")
        .start()
        .await;
    for (fields, status) in [
        ("", 502),
        ("Citrix-CustomerId: other\r\n", 403),
        ("Origin: https://evil.example\r\n", 403),
        ("Content-Length: 7\r\n", 413),
    ] {
        let response = gateway
            .raw(get_with("/", &format!("{FIELDS}{fields}")))
            .await;
        assert_eq!(response.status(), status);
        assert_no_secret(&full_text(&response));
    }
    assert_no_secret(&gateway.metrics().await);
}

#[tokio::test]
async fn failed_login_exposes_no_secret() {
    let upstream = Upstream::refusing();
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(TokenEndpoint::rejecting().await)
        .with("[token]\nstartup_wait = \"20ms\"")
        .start()
        .await;
    wait_until("the failed login is reported", || async {
        let response = gateway.raw(get_with("/", FIELDS)).await;
        response.problem(503, "token_unavailable");
        assert_no_secret(&full_text(&response));
        response.has("x-cws-transactionid")
    })
    .await;
    for path in ["/readyz", "/metrics", "/livez", "/"] {
        assert_no_secret(&full_text(&gateway.admin(get_with(path, FIELDS)).await));
    }
}

#[tokio::test]
async fn token_is_sent_upstream_only() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let response = gateway.raw(get_with("/", FIELDS)).await;
    assert_eq!(response.status(), 200);
    assert_no_secret(&full_text(&response));
    for path in ["/readyz", "/metrics", "/livez", "/"] {
        assert_no_secret(&full_text(&gateway.admin(get_with(path, FIELDS)).await));
    }
    let sent = upstream.request().await;
    assert_eq!(
        sent.field("authorization"),
        Some(format!("CwsAuth Bearer={TOKEN}1"))
    );
    let head = String::from_utf8(sent.head.clone()).unwrap();
    assert!(
        !head.contains(SECRET) && !head.contains("c4nary-caller") && !head.contains("c4nary-key"),
        "{head}"
    );
    // A Citrix field, so it is forwarded.
    assert_eq!(
        sent.field("x-admincredential").as_deref(),
        Some("c4nary-admin-credential")
    );
}

#[tokio::test]
async fn debug_output_of_the_configuration_contains_no_secret() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    assert_no_secret(&format!(
        "{:?}",
        gateway.app().shared().published.load().live
    ));
}
