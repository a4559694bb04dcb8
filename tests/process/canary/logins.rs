//! Logins at the gateway: neither the credentials sent nor the tokens issued may be disclosed.

use serde_json::Value;

use super::{CANARY, Secrets, assert_no_secret, check_admin_listener, full_text, send, stop};
use crate::gateway::Gateway;
use aws_lc_rs::digest::{SHA256, digest};
use citrix_wire::hex;
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};

const SECRET: &str = "c4nary-caller-secret";
const SIGNING_KEY: &str = "c4nary-signing-key-of-thirty-two-bytes";
const OAUTH2: &str = "/cctrustoauth2/root/tokens/clients";
const TRUST: &str = "/root/tokens/clients";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// Returns a login request; `content_type` may contain further fields.
fn post(path: &str, content_type: &str, body: &str) -> String {
    format!(
        "POST {path}?secret=c4nary-query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Checks the lines of the admin listener and returns the others.
fn without_operators(audit: Vec<[&str; 4]>) -> Vec<[&str; 4]> {
    let (operators, callers): (Vec<_>, Vec<_>) = audit
        .into_iter()
        .partition(|line| line[2].starts_with("/tokens/"));
    for expected in [
        ["admitted", "operator", "/tokens/acme/refresh", ""],
        ["refused", "none", "/tokens/acme/refresh", "caller_unknown"],
        ["refused", "none", "/tokens/acme/refresh", "foreign_host"],
        [
            "refused",
            "none",
            "/tokens/acme/refresh",
            "caller_forbidden",
        ],
    ] {
        assert!(operators.contains(&expected), "{operators:?}");
    }
    callers
}

fn secret_hash() -> String {
    hex::encode(digest(&SHA256, SECRET.as_bytes()).as_ref())
}

/// Starts a gateway with the caller `splunk` and a signing key in a file.
async fn start(upstream: &Upstream, token_endpoint: &TokenEndpoint) -> (Gateway, Secrets) {
    let hash = secret_hash();
    let toml = format!(
        "[login]\nsigning_key = {{ file = \"{{key}}\" }}\n[[caller]]\nname = \"splunk\"\nsecret_sha256 = {hash:?}\n"
    );
    let secrets = Secrets::at(&upstream.url(), &token_endpoint.url(), &toml);
    let file = secrets.folder().join("key");
    std::fs::write(&file, SIGNING_KEY).unwrap();
    let text = std::fs::read_to_string(&secrets.config)
        .unwrap()
        .replace("{key}", file.to_str().unwrap());
    std::fs::write(&secrets.config, text).unwrap();
    let gateway = Gateway::start(&secrets.run_arguments(), &[]).await;
    (gateway, secrets)
}

fn login_form() -> String {
    format!("grant_type=client_credentials&client_id=splunk&client_secret={SECRET}")
}

/// Logs in and returns the gateway token.
async fn gateway_token(gateway: &Gateway) -> String {
    let response = send(gateway.address, &post(OAUTH2, FORM, &login_form())).await;
    assert_eq!(response.status(), 200, "{}", full_text(&response));
    assert_no_secret(&full_text(&response));
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    body["access_token"].as_str().unwrap().to_owned()
}

fn with_token(token: &str) -> String {
    format!(
        "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: CwsAuth Bearer={token}\r\n\r\n"
    )
}

/// Returns requests with `token` and modified tokens, and their statuses.
fn token_requests(token: &str) -> Vec<(String, u16)> {
    vec![
        (with_token(token), 200),
        (with_token(&format!("{token}x")), 401),
        (with_token(&token[..token.len() - 5]), 401),
    ]
}

/// Returns login requests that fail, and their statuses.
fn failing_logins() -> Vec<(String, u16)> {
    let form = login_form();
    let unknown = form.replace("splunk", "c4nary-name");
    let wrong = form.replace("caller-secret", "wrong-secret");
    let with_key = format!("{FORM}; boundary=c4nary\r\nX-Api-Key: c4nary-key");
    let json = r#"{"clientId":"c4nary","clientSecret":"c4nary"}"#;
    let truncated = r#"{"clientId":"c4nary","clientSecret":c4nary"#;
    let large = "c4nary".repeat(4000);
    vec![
        (post(OAUTH2, FORM, &unknown), 400),
        (post(OAUTH2, FORM, &wrong), 400),
        (post(OAUTH2, FORM, "c4nary=c4nary"), 400),
        (post(OAUTH2, &with_key, &form), 400),
        (post(OAUTH2, "c4nary/c4nary", &form), 400),
        (post(TRUST, JSON, json), 401),
        (post(TRUST, JSON, truncated), 400),
        (post(TRUST, JSON, &large), 413),
        (
            post(TRUST, JSON, "{}").replace("Host: localhost", "Host: c4nary.example/"),
            400,
        ),
    ]
}

/// The audit lines of the login and of [`failing_logins`]: verdict, caller, path, reason.
const AUDIT: [[&str; 4]; 10] = [
    ["logged_in", "splunk", OAUTH2, ""],
    ["refused", "none", OAUTH2, "caller_unknown"],
    ["refused", "none", OAUTH2, "caller_unknown"],
    ["refused", "none", OAUTH2, "bad_request"],
    ["refused", "none", OAUTH2, "caller_unknown"],
    ["refused", "none", OAUTH2, "bad_request"],
    ["refused", "none", TRUST, "caller_unknown"],
    ["refused", "none", TRUST, "bad_request"],
    ["refused", "none", TRUST, "body_too_large"],
    ["refused", "none", TRUST, "bad_request"],
];

#[tokio::test]
async fn logins_disclose_neither_secrets_nor_gateway_tokens() {
    let (upstream, token_endpoint) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let (gateway, _secrets) = start(&upstream, &token_endpoint).await;
    let token = gateway_token(&gateway).await;
    for (request, status) in [token_requests(&token), failing_logins()].concat() {
        let response = send(gateway.address, &request).await;
        let text = full_text(&response);
        assert_eq!(response.status(), status, "{request}: {text}");
        assert_no_secret(&text);
        assert!(!text.contains(&token[..60]), "{text}");
    }
    check_admin_listener(gateway.admin).await;
    let log = stop(gateway.program).await;
    let text = format!("{log:?}");
    // `eyJ` is the prefix of every token.
    assert!(
        !text.contains("eyJ") && !text.contains(&secret_hash()) && !text.contains(CANARY),
        "{text}"
    );
    let audit: Vec<[&str; 4]> = log
        .iter()
        .filter(|line| line["target"] == "audit" && line["method"] == "POST")
        .map(|line| {
            ["verdict", "caller", "path", "reason"]
                .map(|key| line[key].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(without_operators(audit), AUDIT);
}
