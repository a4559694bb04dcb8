//! Logins at the gateway itself: neither what is shown there nor what is handed out may be told.

use serde_json::Value;

use super::{CANARY, Secrets, ask, end, holds_none, look_at_the_admin_side, said};
use crate::gateway::Gateway;
use aws_lc_rs::digest::{SHA256, digest};
use citrix_wire::hex;
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};

const SECRET: &str = "c4nary-caller-secret";
const FORM: &str = "/cctrustoauth2/c4nary-customer/tokens/clients";

fn post(path: &str, fields: &str, body: &str) -> String {
    format!(
        "POST {path}?secret=c4nary-query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: {fields}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The lines of the callers' side; those of the operators' have been looked at.
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

#[tokio::test]
async fn neither_secrets_nor_gateway_tokens_are_in_logs_metrics_or_the_answers_of_others() {
    let (upstream, logins) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let hash = hex::encode(digest(&SHA256, SECRET.as_bytes()).as_ref());
    let key = "c4nary-signing-key-of-thirty-two-bytes";
    let toml = format!(
        "[login]\nsigning_key = {{ file = \"{{key}}\" }}\n[[caller]]\nname = \"splunk\"\nsecret_sha256 = {hash:?}\n"
    );
    let secrets = Secrets::at(&upstream.url(), &logins.url(), &toml);
    let file = secrets.folder().join("key");
    std::fs::write(&file, key).unwrap();
    let text = std::fs::read_to_string(&secrets.config)
        .unwrap()
        .replace("{key}", file.to_str().unwrap());
    std::fs::write(&secrets.config, text).unwrap();
    let gateway = Gateway::start(&secrets.run_arguments(), &[]).await;

    let (form, json) = ("application/x-www-form-urlencoded", "application/json");
    let good = format!("grant_type=client_credentials&client_id=splunk&client_secret={SECRET}");
    let path = FORM.replace("c4nary-customer", "root");
    let granted = ask(gateway.address, &post(&path, form, &good)).await;
    assert_eq!(granted.status(), 200, "{}", said(&granted));
    let body: Value = serde_json::from_slice(&granted.body).unwrap();
    let token = body["access_token"].as_str().unwrap().to_owned();
    holds_none(&said(&granted));
    let bearing = |token: &str| {
        format!(
            "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: CwsAuth Bearer={token}\r\n\r\n"
        )
    };
    for (request, status) in [
        (bearing(&token), 200),
        (bearing(&format!("{token}x")), 401),
        (bearing(&token[..token.len() - 5]), 401),
        (
            post(&path, form, &good.replace("splunk", "c4nary-name")),
            400,
        ),
        (
            post(&path, form, &good.replace("caller-secret", "wrong-secret")),
            400,
        ),
        (post(&path, form, "c4nary=c4nary"), 400),
        (
            post(
                &path,
                &format!("{form}; boundary=c4nary\r\nX-Api-Key: c4nary-key"),
                &good,
            ),
            400,
        ),
        (post(&path, "c4nary/c4nary", &good), 400),
        (
            post(
                "/root/tokens/clients",
                json,
                r#"{"clientId":"c4nary","clientSecret":"c4nary"}"#,
            ),
            401,
        ),
        (
            post(
                "/root/tokens/clients",
                json,
                r#"{"clientId":"c4nary","clientSecret":c4nary"#,
            ),
            400,
        ),
        (
            post("/root/tokens/clients", json, &"c4nary".repeat(4000)),
            413,
        ),
        (
            post("/root/tokens/clients", json, "{}")
                .replace("Host: localhost", "Host: c4nary.example/"),
            400,
        ),
    ] {
        let response = ask(gateway.address, &request).await;
        assert_eq!(response.status(), status, "{request}: {}", said(&response));
        holds_none(&said(&response));
        assert!(
            !said(&response).contains(&token[..60]),
            "{}",
            said(&response)
        );
    }
    look_at_the_admin_side(gateway.admin).await;
    let log = end(gateway.program).await;
    let text = format!("{log:?}");
    // What a token begins with, and the hash.
    assert!(
        !text.contains("eyJ") && !text.contains(&hash) && !text.contains(CANARY),
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
    let callers = without_operators(audit);
    let (oauth2, trust) = (path.as_str(), "/root/tokens/clients");
    assert_eq!(
        callers,
        [
            ["logged_in", "splunk", oauth2, ""],
            ["refused", "none", oauth2, "caller_unknown"],
            ["refused", "none", oauth2, "caller_unknown"],
            ["refused", "none", oauth2, "bad_request"],
            ["refused", "none", oauth2, "caller_unknown"],
            ["refused", "none", oauth2, "bad_request"],
            ["refused", "none", trust, "caller_unknown"],
            ["refused", "none", trust, "bad_request"],
            ["refused", "none", trust, "body_too_large"],
            ["refused", "none", trust, "bad_request"],
        ]
    );
}
