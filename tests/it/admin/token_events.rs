//! `/tokens/{customer}/events`: the history of a customer's token.

use serde_json::{Value, json};

use super::wait_until_ready;
use crate::harness::{Gateway, Upstream, get};

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn history_of_a_token_lists_logins_failures_and_401s() {
    let upstream = Upstream::responding(UNAUTHORIZED).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    wait_until_ready(&gateway).await;
    gateway.logins.reject();
    assert_eq!(gateway.raw(get("/cvad/manage/me")).await.status(), 401);
    let response = gateway.admin(get("/tokens/acme/events")).await;
    assert_eq!(response.status(), 200);
    let history: Value = serde_json::from_str(&response.text()).unwrap();
    let events = history["events"].as_array().unwrap();
    let of: Vec<_> = events
        .iter()
        .map(|event| json!([event["kind"], event["outcome"], event["count"]]))
        .collect();
    assert_eq!(
        of,
        [
            json!(["unauthorized", "refresh_failed", 1]),
            json!(["login_failed", "invalid_client", 1]),
            json!(["login", null, 1]),
        ]
    );
    assert_eq!(
        (&events[2]["generation"], &events[2]["secret"]),
        (&json!(1), &json!("first"))
    );
    let unknown = gateway.admin(get("/tokens/unknown/events")).await;
    assert_eq!(unknown.status(), 404);
}
