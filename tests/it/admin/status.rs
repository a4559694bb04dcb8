//! `/status.json`: its format is a contract with scripts (docs/admin.md).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{SECRET, SECRET_SHA256, wait_until_ready};
use crate::harness::{
    Gateway, Message, OK, REJECTED_TRANSACTION_ID, TokenEndpoint, Upstream, get, get_with,
    wait_until,
};

/// The SHA-256 of `CANARY-admin`, the secret of operator and caller.
const CALLER: &str = "[[caller]]\nname = 'splunk'\nsecret_sha256 = '107b4a7857be75269640d3541c2ec7eb2f44d648e7b741017e0752e9387756c2'";

async fn status(gateway: &Gateway) -> Value {
    let response = gateway.admin(get("/status.json")).await;
    assert_eq!(
        (response.status(), response.field("content-type").as_deref()),
        (200, Some("application/json"))
    );
    assert_eq!(response.field("cache-control").as_deref(), Some("no-store"));
    let text = response.text();
    assert!(!text.contains("c4nary"), "{text}");
    serde_json::from_str(&text).unwrap()
}

fn names(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn kinds(status: &Value) -> Vec<&str> {
    status["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| alert["kind"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn every_status_field_is_documented() {
    let upstream = Upstream::responding("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(CALLER)
        .with("[fleet]\nreplicas = 1")
        .start()
        .await;
    wait_until_ready(&gateway).await;
    let known = format!("X-Api-Key: {SECRET}\r\n");
    gateway.raw(get_with("/cvadapis/me", &known)).await;
    gateway.raw(get_with("/monitorodata/x", &known)).await;
    gateway.raw(get("/")).await;
    gateway.logins.reject();
    let refresh =
        "POST /tokens/acme/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    gateway.admin(refresh).await;
    let document = include_str!("../../../docs/admin.md");
    let mut undocumented = BTreeSet::new();
    let status = status(&gateway).await;
    for (name, value) in status.as_object().unwrap() {
        let rows: Vec<&Value> = match value {
            Value::Array(rows) => rows.iter().collect(),
            value => vec![value],
        };
        let fields = rows
            .iter()
            .filter(|row| row.is_object())
            .flat_map(|row| names(row));
        for field in fields.chain([name.as_str()]) {
            if !document.contains(&format!("`{field}`")) {
                undocumented.insert(field.to_owned());
            }
        }
    }
    assert!(
        undocumented.is_empty(),
        "missing in docs/admin.md: {undocumented:?}"
    );
    for part in [
        "tokens",
        "customers",
        "routes",
        "callers",
        "failures",
        "refusals",
        "repeated_failures",
        "repeated_refusals",
        "retired",
        "alerts",
    ] {
        assert!(
            !status[part].as_array().unwrap().is_empty(),
            "{part} is empty in {status:#}"
        );
    }
}

#[tokio::test]
async fn status_reports_process_token_and_traffic() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    wait_until_ready(&gateway).await;
    for _ in 0..3 {
        gateway.raw(get("/cvad/manage/me")).await;
    }
    let status = status(&gateway).await;
    assert_eq!(
        (&status["format"], &status["ready"], &status["alerts"]),
        (&json!(1), &json!(true), &json!([]))
    );
    assert_eq!(
        (&status["program"]["phase"], &status["program"]["workers"]),
        (&json!("running"), &json!(1))
    );
    let token = &status["tokens"][0];
    assert_eq!(
        (&token["customer"], &token["state"], &token["secret"]),
        (&json!("acme"), &json!("fresh"), &json!("first"))
    );
    assert!(
        (3000..=3600).contains(&token["runway_s"].as_u64().unwrap()),
        "{token}"
    );
    assert!(
        token["usable_life_s"].as_u64().unwrap() >= token["runway_s"].as_u64().unwrap(),
        "{token}"
    );
    let route = &status["routes"][0];
    assert_eq!(
        (&route["name"], &route["requests"], &route["codes"]),
        (&json!("/cvad/manage"), &json!(3), &json!({"200": 3}))
    );
    assert!(route["rate_1m"].as_f64().unwrap() > 0.0, "{route}");
    assert!(
        route["last_5m"]["latency"]["p99_ms"].as_f64().unwrap() > 0.0,
        "{route}"
    );
    let caller = &status["callers"][0];
    assert_eq!(
        (&caller["name"], &caller["configured"], &caller["requests"]),
        (&json!("anonymous"), &json!(false), &json!(3))
    );
    assert!(caller["last_seen_at"].is_string(), "{caller}");
    assert_eq!(
        (
            &status["load"]["in_flight"],
            &status["load"]["max_in_flight"]
        ),
        (&json!(0), &json!(1024))
    );
    assert_eq!(
        (&status["failures"], &status["refusals"]),
        (&json!([]), &json!([]))
    );
}

#[tokio::test]
async fn missing_token_is_reported_with_the_failed_login() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(TokenEndpoint::rejecting().await)
        .start()
        .await;
    wait_until("the failed login is reported", || async {
        status(&gateway).await["tokens"][0]["last_failure"].is_object()
    })
    .await;
    let body = status(&gateway).await;
    let token = &body["tokens"][0];
    assert_eq!(
        (&body["ready"], &token["state"], &token["generation"]),
        (&json!(false), &json!("unusable"), &json!(0))
    );
    assert!(
        token["consecutive_failures"].as_u64().unwrap() >= 1,
        "{token}"
    );
    let failure = &token["last_failure"];
    assert_eq!(
        (&failure["outcome"], &failure["lasts"]),
        (&json!("invalid_client"), &json!(true))
    );
    assert_eq!(failure["transaction_id"], json!(REJECTED_TRANSACTION_ID));
    assert_eq!(kinds(&body), ["token_unusable"]);
    let alert = &body["alerts"][0];
    assert_eq!(alert["level"], json!("critical"));
    let text = alert["text"].as_str().unwrap();
    assert!(
        text.starts_with("acme: no usable token. The last login failed: "),
        "{text}"
    );

    gateway.logins.grant();
    wait_until("the token is reported", || async {
        status(&gateway).await["ready"] == json!(true)
    })
    .await;
    let token = &status(&gateway).await["tokens"][0];
    assert_eq!(
        (
            &token["last_failure"]["lasts"],
            &token["consecutive_failures"]
        ),
        (&json!(false), &json!(0))
    );
}

#[tokio::test]
async fn failures_and_rejections_are_listed_separately_with_details() {
    let upstream = Upstream::refusing();
    let gateway = Gateway::in_front_of(&upstream).with(CALLER).start().await;
    wait_until_ready(&gateway).await;
    let known = format!("X-Api-Key: {SECRET}\r\n");
    let failed = gateway
        .raw(get_with("/cvad/manage/me?q=c4nary", &known))
        .await;
    let rejected = gateway.raw(get("/systemlog?q=c4nary")).await;
    assert_eq!((failed.status(), rejected.status()), (502, 401));
    let status = status(&gateway).await;
    let id = |response: &Message| json!(response.field("x-proxy-request-id").unwrap());
    let failure = &status["failures"][0];
    assert_eq!(
        (&failure["request_id"], &failure["reason"]),
        (&id(&failed), &json!("upstream_connect"))
    );
    assert_eq!(
        (&failure["caller"], &failure["customer"]),
        (&json!("splunk"), &json!("acme"))
    );
    assert_eq!(
        (&failure["path"], &failure["address"]),
        (&json!("/cvad/manage/me"), &json!("127.0.0.1"))
    );
    assert!(
        failure["detail"]
            .as_str()
            .unwrap()
            .starts_with("no connection to "),
        "{failure}"
    );
    let refusal = &status["refusals"][0];
    assert_eq!(
        (&refusal["request_id"], &refusal["reason"]),
        (&id(&rejected), &json!("caller_unknown"))
    );
    assert_eq!(
        (
            status["failures"].as_array().unwrap().len(),
            status["refusals"].as_array().unwrap().len()
        ),
        (1, 1)
    );
    let reasons: Vec<&Value> = status["routes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|route| &route["reasons"])
        .collect();
    assert!(
        reasons.contains(&&json!({"upstream_connect": 1})),
        "{reasons:?}"
    );
    assert!(
        reasons.contains(&&json!({"caller_unknown": 1})),
        "{reasons:?}"
    );
    let callers: Vec<_> = status["callers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|caller| (&caller["name"], &caller["refused"]))
        .collect();
    assert_eq!(
        callers,
        [(&json!("splunk"), &json!(0)), (&json!("none"), &json!(1))]
    );
}

#[tokio::test]
async fn repeated_failures_are_one_entry_that_others_do_not_evict() {
    let upstream = Upstream::refusing();
    let gateway = Gateway::in_front_of(&upstream).with(CALLER).start().await;
    wait_until_ready(&gateway).await;
    let known = format!("X-Api-Key: {SECRET}\r\n");
    let relevant = gateway.raw(get_with("/monitorodata/x", &known)).await;
    for number in 0..60 {
        gateway
            .raw(get_with(&format!("/cvad/manage/{number}"), &known))
            .await;
    }
    let status = status(&gateway).await;
    let kinds = status["repeated_failures"].as_array().unwrap();
    let of = |kind: &Value| (kind["count"].clone(), kind["last"]["route"].clone());
    assert_eq!(
        kinds.iter().map(of).collect::<Vec<_>>(),
        [
            (json!(60), json!("/cvad/manage")),
            (json!(1), json!("/monitorodata"))
        ]
    );
    assert_eq!(kinds[0]["last"]["path"], json!("/cvad/manage/59"));
    assert!(kinds[0]["first_at"].as_str() < kinds[0]["last"]["at"].as_str());
    let id = json!(relevant.field("x-proxy-request-id").unwrap());
    assert_eq!(kinds[1]["last"]["request_id"], id);
    assert!(
        status["failures"]
            .as_array()
            .unwrap()
            .iter()
            .all(|failure| failure["request_id"] != id)
    );
    assert_eq!(status["repeated_refusals"], json!([]));
}

#[tokio::test]
async fn caller_has_its_rate_limits_and_last_error() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&format!("{CALLER}\nmax_concurrent = 2\nmax_per_second = 9"))
        .start()
        .await;
    wait_until_ready(&gateway).await;
    let known = format!("X-Api-Key: {SECRET}\r\n");
    let mut waiting = gateway.connect().await;
    waiting.write(get_with("/cvad/manage/me", &known)).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    let caller = status(&gateway).await["callers"][0].clone();
    let part = |name: &str| caller[name].clone();
    assert_eq!(
        [
            "in_flight",
            "max_concurrent",
            "max_per_second",
            "last_error"
        ]
        .map(part),
        [json!(1), json!(2), json!(9), Value::Null]
    );
    wire.write("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
        .await;
    let failed = waiting.response().await;
    assert_eq!(failed.status(), 500);
    let caller = status(&gateway).await["callers"][0].clone();
    let error = &caller["last_error"];
    assert_eq!(
        (&caller["in_flight"], &error["status"], &error["reason"]),
        (&json!(0), &json!(500), &Value::Null)
    );
    assert_eq!(
        error["request_id"],
        json!(failed.field("x-proxy-request-id").unwrap())
    );
    assert!(caller["rate_1m"].as_f64().unwrap() > 0.0, "{caller}");
}

#[tokio::test]
async fn callers_of_retired_addresses_are_listed() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    wait_until_ready(&gateway).await;
    for _ in 0..2 {
        gateway
            .raw(get("/Citrix/Monitor/OData/v4/Data/Machines"))
            .await;
    }
    let status = status(&gateway).await;
    let entry = &status["retired"][0];
    assert_eq!(
        (&entry["retired"], &entry["route"]),
        (&json!("/Citrix/Monitor/OData"), &json!("/monitorodata"))
    );
    assert_eq!(
        (&entry["caller"], &entry["address"]),
        (&json!("anonymous"), &json!("127.0.0.1"))
    );
    assert_eq!(entry["count"], json!(2));
    assert_eq!(kinds(&status), ["retired_addresses"]);
}

#[tokio::test]
async fn every_field_of_the_last_hour_is_documented() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let history = gateway.admin(get("/history.json")).await;
    assert_eq!(
        (history.status(), history.field("cache-control").as_deref()),
        (200, Some("no-store"))
    );
    let history: Value = serde_json::from_str(&history.text()).unwrap();
    assert_eq!(
        (&history["format"], &history["routes"]),
        (&json!(1), &json!([]))
    );
    let minutes = history["minutes"].as_array().unwrap();
    assert_eq!(
        (minutes.len(), history["total"]["requests"].clone()),
        (1, json!([0]))
    );
    let document = include_str!("../../../docs/admin.md");
    let fields = names(&history["total"]).into_iter().chain(names(&history));
    for field in fields.chain(names(&minutes[0])) {
        assert!(document.contains(&format!("`{field}`")), "{field}");
    }
}

#[tokio::test]
async fn status_requires_admin_secret_and_same_origin() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&format!("[admin]\nsecret_sha256 = \"{SECRET_SHA256}\""))
        .start()
        .await;
    for path in [
        "/",
        "/page/main.js",
        "/status.json",
        "/transactions/x",
        "/log-level",
    ] {
        assert_eq!(gateway.admin(get(path)).await.status(), 401, "{path}");
        let known = format!("X-Api-Key: {SECRET}\r\n");
        let same_origin = get_with(path, &format!("{known}Sec-Fetch-Site: same-origin\r\n"));
        assert_ne!(gateway.admin(same_origin).await.status(), 401, "{path}");
        let foreign = get_with(path, &format!("{known}Sec-Fetch-Site: cross-site\r\n"));
        assert_eq!(gateway.admin(foreign).await.status(), 403, "{path}");
    }
}

#[tokio::test]
async fn status_by_other_methods_returns_405() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for path in ["/", "/page/page.css", "/status.json", "/transactions/x"] {
        let post = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        let response = gateway.admin(post).await;
        assert_eq!(
            (response.status(), response.field("allow").as_deref()),
            (405, Some("GET, HEAD")),
            "{path}"
        );
    }
    let put = "PUT /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\ndebug";
    let response = gateway.admin(put).await;
    assert_eq!(
        response.status(),
        404,
        "the test process has no log level: {}",
        response.text()
    );
}
