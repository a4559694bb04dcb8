//! `POST /tokens/{customer}/refresh`.

use serde_json::Value;

use super::{SECRET, SECRET_SHA256, wait_until_ready};
use crate::harness::{
    Gateway, Message, OK, REJECTED_TRANSACTION_ID, TOKEN, TokenEndpoint, Upstream, get,
};

async fn gateway(toml: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).with(toml).start().await;
    wait_until_ready(&gateway).await;
    (gateway, upstream)
}

async fn refresh(gateway: &Gateway, customer: &str, fields: &str) -> Message {
    let path = format!("/tokens/{customer}/refresh");
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{fields}\r\n");
    gateway.admin(head).await
}

fn json(response: &Message) -> Value {
    assert_eq!(
        response.field("content-type").as_deref(),
        Some("application/json")
    );
    let text = response.text();
    assert!(!text.contains("c4nary"), "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn refresh_returns_the_new_token_state_and_requests_use_it() {
    let (gateway, upstream) = gateway("").await;
    let response = refresh(&gateway, "ACME", "").await;
    assert_eq!(response.status(), 200);
    let body = json(&response);
    assert_eq!(
        (&body["customer"], &body["result"]),
        (&"acme".into(), &"refreshed".into())
    );
    assert_eq!(
        (&body["state"], &body["generation"]),
        (&"fresh".into(), &2.into())
    );
    assert!(
        (3500..=3600).contains(&body["expires_in_s"].as_u64().unwrap()),
        "{body}"
    );
    assert!(
        (2000..3600).contains(&body["next_login_in_s"].as_u64().unwrap()),
        "{body}"
    );
    gateway.raw(get("/")).await;
    assert_eq!(
        upstream.request().await.field("authorization"),
        Some(format!("CwsAuth Bearer={TOKEN}2"))
    );
}

#[tokio::test]
async fn second_refresh_within_the_interval_is_deferred() {
    let (gateway, _upstream) = gateway("").await;
    assert_eq!(refresh(&gateway, "acme", "").await.status(), 200);
    let response = refresh(&gateway, "acme", "").await;
    assert_eq!(response.status(), 429);
    assert!(
        (1..=10).contains(
            &response
                .field("retry-after")
                .unwrap()
                .parse::<u64>()
                .unwrap()
        )
    );
    let body = json(&response);
    assert_eq!(
        (&body["result"], &body["generation"]),
        (&"deferred".into(), &2.into())
    );
    assert_eq!(gateway.logins.count(), 2);
}

#[tokio::test]
async fn failed_refresh_returns_outcome_and_advice() {
    let (gateway, _upstream) = gateway("").await;
    gateway.logins.reject();
    let response = refresh(&gateway, "acme", "").await;
    assert_eq!(response.status(), 503);
    assert!(
        response
            .field("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 1
    );
    let body = json(&response);
    assert_eq!(
        (&body["result"], &body["outcome"]),
        (&"failed".into(), &"invalid_client".into())
    );
    assert!(
        body["detail"]
            .as_str()
            .unwrap()
            .contains("the id or secret is wrong"),
        "{body}"
    );
    assert_eq!(body["transaction_id"], REJECTED_TRANSACTION_ID);
    assert_eq!(
        (&body["state"], &body["generation"]),
        (&"stale but valid".into(), &1.into())
    );
}

#[tokio::test]
async fn refresh_responds_after_the_login() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(TokenEndpoint::stalling().await)
        .start()
        .await;
    gateway.logins.wait_for_logins(1).await;
    let (response, ()) = tokio::join!(refresh(&gateway, "acme", ""), async {
        gateway.logins.grant()
    });
    assert_eq!(
        (response.status(), &json(&response)["state"]),
        (200, &"fresh".into())
    );
}

#[tokio::test]
async fn refresh_without_admin_secret_is_rejected() {
    let (gateway, _upstream) =
        gateway(&format!("[admin]\nsecret_sha256 = \"{SECRET_SHA256}\"")).await;
    for (customer, fields, status) in [
        ("acme", String::new(), 401),
        ("unknown", String::new(), 401),
        ("acme", "X-Api-Key: wrong\r\n".to_owned(), 401),
        (
            "acme",
            format!("X-Api-Key: {SECRET}\r\nOrigin: https://evil.example\r\n"),
            403,
        ),
        (
            "acme",
            format!("X-Api-Key: {SECRET}\r\nSec-Fetch-Site: cross-site\r\n"),
            403,
        ),
        ("unknown", format!("X-Api-Key: {SECRET}\r\n"), 404),
    ] {
        assert_eq!(
            refresh(&gateway, customer, &fields).await.status(),
            status,
            "{customer} {fields}"
        );
    }
    assert_eq!(gateway.logins.count(), 1);
    assert_eq!(
        refresh(&gateway, "acme", &format!("X-Api-Key: {SECRET}\r\n"))
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn refresh_by_get_returns_405() {
    let (gateway, _upstream) = gateway("").await;
    let response = gateway.admin(get("/tokens/acme/refresh")).await;
    assert_eq!(
        (response.status(), response.field("allow").as_deref()),
        (405, Some("POST"))
    );
    assert_eq!(gateway.admin(get("/tokens/acme")).await.status(), 404);
    assert_eq!(gateway.logins.count(), 1);
}
