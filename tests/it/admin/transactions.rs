//! `/transactions/{id}`: a recent exchange by any of its ids.

use citrix_auth_proxy::observe::recent::MAX_EXCHANGES;
use serde_json::{Value, json};

use super::wait_until_ready;
use crate::harness::{Gateway, Upstream, get, get_with};

const RESPONSE: &str = "HTTP/1.1 200 OK\r\nCitrix-TransactionId: citrix-1\r\nX-Cws-TransactionId: cws-1\r\n\
                      CC-TransactionId: cc-1\r\nContent-Length: 2\r\n\r\n{}";

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::responding(RESPONSE).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    wait_until_ready(&gateway).await;
    (gateway, upstream)
}

async fn look_up(gateway: &Gateway, id: &str) -> (u16, Value) {
    let response = gateway.admin(get(&format!("/transactions/{id}"))).await;
    assert_eq!(
        response.field("content-type").as_deref(),
        Some("application/json")
    );
    (
        response.status(),
        serde_json::from_str(&response.text()).unwrap(),
    )
}

#[tokio::test]
async fn exchange_is_found_by_each_of_its_ids() {
    let (gateway, _upstream) = gateway().await;
    let sent = "Citrix-TransactionId: Job/7\r\n";
    let response = gateway
        .raw(get_with("/cvad/manage/me?secret=c4nary", sent))
        .await;
    let request_id = response.field("x-proxy-request-id").unwrap();
    for id in [
        request_id.as_str(),
        "Job%2F7",
        "job/7",
        "citrix-1",
        "cws-1",
        "CC-1",
    ] {
        let (status, found) = look_up(&gateway, id).await;
        assert_eq!((status, &found["format"]), (200, &json!(1)), "{id}");
        let exchanges = found["exchanges"].as_array().unwrap();
        assert_eq!(exchanges.len(), 1, "{id}");
        assert_eq!(exchanges[0]["request_id"], json!(request_id), "{id}");
    }
    let (_, found) = look_up(&gateway, &request_id).await;
    let exchange = &found["exchanges"][0];
    for (name, value) in [
        ("transaction_id", json!("Job/7")),
        ("citrix_transaction_id", json!("citrix-1")),
        ("x_cws_transaction_id", json!("cws-1")),
        ("cc_transaction_id", json!("cc-1")),
        ("method", json!("GET")),
        ("path", json!("/cvad/manage/me")),
        ("route", json!("/cvad/manage")),
        ("caller", json!("anonymous")),
        ("customer", json!("acme")),
        ("address", json!("127.0.0.1")),
        ("status", json!(200)),
        ("reason", Value::Null),
        ("end", json!("complete")),
        ("attempts", json!(1)),
        ("waited_ms", json!(0.0)),
    ] {
        assert_eq!(exchange[name], value, "{name}");
    }
    let time = |name: &str| exchange[name].as_f64().unwrap();
    assert!(
        time("upstream_ms") > 0.0 && time("total_ms") >= time("upstream_ms"),
        "{exchange}"
    );
}

#[tokio::test]
async fn shared_id_finds_all_exchanges_newest_first() {
    let (gateway, _upstream) = gateway().await;
    for number in 1..=3 {
        gateway
            .raw(get_with(
                &format!("/{number}"),
                "Citrix-TransactionId: job\r\n",
            ))
            .await;
    }
    let (_, found) = look_up(&gateway, "job").await;
    let paths: Vec<_> = found["exchanges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|exchange| &exchange["path"])
        .collect();
    assert_eq!(paths, ["/3", "/2", "/1"]);
}

#[tokio::test]
async fn exchanges_are_found_by_status_route_and_path() {
    let (gateway, _upstream) = gateway().await;
    for path in ["/cvad/manage/a", "/cvad/manage/b", "/monitorodata/a"] {
        gateway.raw(get(path)).await;
    }
    gateway
        .raw(get_with("/cvad/manage/a", "Citrix-CustomerId: other\r\n"))
        .await;
    for (query, paths) in [
        ("status=4xx", &["/cvad/manage/a"][..]),
        ("status=200&route=/monitorodata&id=", &["/monitorodata/a"]),
        ("path=%2Fcvad%2Fmanage%2Fa&status=2xx", &["/cvad/manage/a"]),
        (
            "customer=acme&route=/cvad/manage&caller=anonymous",
            &["/cvad/manage/b", "/cvad/manage/a"],
        ),
        ("caller=splunk", &[]),
        ("id=citrix-1&path=/m", &["/monitorodata/a"]),
    ] {
        let response = gateway.admin(get(&format!("/transactions?{query}"))).await;
        let found: Value = serde_json::from_str(&response.text()).unwrap();
        let exchanges = found["exchanges"].as_array().unwrap();
        let of: Vec<_> = exchanges.iter().map(|one| one["path"].clone()).collect();
        assert_eq!(
            (response.status(), of.as_slice()),
            (
                200,
                &paths.iter().map(|path| json!(path)).collect::<Vec<_>>()[..]
            ),
            "{query}"
        );
        assert_eq!(
            (&found["more"], &found["searched"]),
            (&json!(false), &json!(4))
        );
    }
    for _ in 0..50 {
        gateway.raw(get("/")).await;
    }
    let found: Value =
        serde_json::from_str(&gateway.admin(get("/transactions")).await.text()).unwrap();
    assert_eq!(
        (found["exchanges"].as_array().unwrap().len(), &found["more"]),
        (50, &json!(true))
    );
    let invalid = gateway.admin(get("/transactions?status=five")).await;
    assert_eq!(invalid.status(), 400);
}

#[tokio::test]
async fn unknown_id_returns_404_with_the_oldest_recorded_time() {
    let (gateway, _upstream) = gateway().await;
    let (status, body) = look_up(&gateway, "never").await;
    let detail = |body: &Value| body["detail"].as_str().unwrap().to_owned();
    assert_eq!((status, &body["exchanges"]), (404, &json!([])));
    assert!(
        detail(&body).starts_with("no exchange has ended yet"),
        "{body}"
    );
    for _ in 0..2 {
        gateway.raw(get("/")).await;
    }
    let (status, body) = look_up(&gateway, "never").await;
    assert_eq!(status, 404);
    assert!(
        detail(&body).starts_with("none of the last 2 exchanges, since 20"),
        "{body}"
    );
    assert_eq!(gateway.admin(get("/transactions/")).await.status(), 404);
}

#[tokio::test]
async fn exchange_without_access_log_is_found() {
    let upstream = Upstream::responding(RESPONSE).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[log]\naccess = false")
        .start()
        .await;
    wait_until_ready(&gateway).await;
    gateway.raw(get("/cvad/manage/me")).await;
    let (_, found) = look_up(&gateway, "cws-1").await;
    assert_eq!(found["exchanges"][0]["path"], json!("/cvad/manage/me"));
}

#[tokio::test]
async fn recent_exchanges_are_bounded() {
    // Pipelined to save time.
    const TOGETHER: usize = 64;
    let (gateway, _upstream) = gateway().await;
    gateway
        .raw(get_with("/first", "Citrix-TransactionId: first\r\n"))
        .await;
    let mut wire = gateway.connect().await;
    for _ in 0..MAX_EXCHANGES / TOGETHER {
        wire.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(TOGETHER))
            .await;
        for _ in 0..TOGETHER {
            assert_eq!(wire.response().await.status(), 200);
        }
    }
    let (status, body) = look_up(&gateway, "first").await;
    assert_eq!(status, 404);
    assert!(
        body["detail"]
            .as_str()
            .unwrap()
            .starts_with(&format!("none of the last {MAX_EXCHANGES} ")),
        "{body}"
    );
}
