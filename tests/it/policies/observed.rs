//! `mode = "observe"`: violations are counted and forwarded, and observed requests become a
//! suggested block.

use serde_json::Value;

use super::*;
use crate::harness::get;

const METRIC: &str = "citrix_auth_proxy_policy_would_deny_total";

async fn suggestion(gateway: &Gateway, name: &str) -> Message {
    gateway
        .admin(get(&format!("/callers/{name}/suggestion")))
        .await
}

async fn block_of(gateway: &Gateway, name: &str) -> String {
    let response = suggestion(gateway, name).await;
    assert_eq!(
        (response.status(), response.field("content-type").as_deref()),
        (200, Some("application/json"))
    );
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(
        (body["caller"].as_str(), body["left_out"].as_u64()),
        (Some(name), Some(0))
    );
    body["block"].as_str().unwrap().to_owned()
}

/// Sends a request of the caller `o`.
async fn send(gateway: &Gateway, line: &str, body: &str) -> Message {
    let fields = format!("{}Content-Length: {}\r\n", key("o"), body.len());
    gateway
        .raw(format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n{body}"
        ))
        .await
}

#[tokio::test]
async fn observed_rejection_is_forwarded_and_counted() {
    let upstream = Upstream::responding(OK).await;
    let rules = "methods = ['GET']\npaths = ['/a/**']\nmax_per_second = 100\nmode = 'observe'";
    let gateway = in_front_of(
        &upstream,
        &(block("o", rules) + &block("e", "paths = ['/a/**']")),
    )
    .start()
    .await;
    let zero = format!("{METRIC}{{caller=\"o\"}} 0\n");
    wait_until("the metric is exposed", || async {
        gateway.metrics().await.contains(&zero)
    })
    .await;
    let metrics = gateway.metrics().await;
    assert!(
        !metrics.contains(&format!("{METRIC}{{caller=\"e\"}}")),
        "{metrics}"
    );
    let item =
        r#"{"Items":[{"RelativeUrl":"Machines/1","Method":"DELETE"},{"RelativeUrl":"/../x"}]}"#;
    for (line, body, denied) in [
        ("GET /a/b", "", 0),
        ("GET /b", "", 1),
        ("DELETE /a", "", 2),
        ("GET /a//b", "", 3),
        ("GET /a/%zz", "", 4),
        // Once for the path and once for the items.
        ("POST /cvad/manage/$batch", item, 6),
        ("POST /monitorodata/$batch", "multipart", 8),
    ] {
        let response = send(&gateway, line, body).await;
        assert_eq!(response.status(), 200, "{line}");
        assert!(upstream.request().await.line().starts_with(line), "{line}");
        let metrics = gateway.metrics().await;
        assert!(
            metrics.contains(&format!("{METRIC}{{caller=\"o\"}} {denied}\n")),
            "{line}: {metrics}"
        );
    }
    // Rules of other callers are still enforced.
    send_as(&gateway, "e", "GET /b", "")
        .await
        .problem(403, "caller_forbidden");
    assert!(!gateway.metrics().await.contains("overloaded\"} 1"));
}

#[tokio::test]
async fn observed_limits_are_counted_but_not_enforced() {
    let upstream = Upstream::manual().await;
    let gateway = in_front_of(
        &upstream,
        &block("o", "max_concurrent = 1\nmode = 'observe'"),
    )
    .start()
    .await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut caller = gateway.connect().await;
        caller.write(get_with("/x", &key("o"))).await;
        let mut served = upstream.connection().await;
        served.request().await;
        open.push((caller, served));
    }
    assert!(
        gateway
            .metrics()
            .await
            .contains(&format!("{METRIC}{{caller=\"o\"}} 2\n"))
    );
}

#[tokio::test]
async fn suggested_block_permits_observed_requests_only() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(&upstream, &block("o", "mode = 'observe'"))
        .start()
        .await;
    let batch = r#"{"Items":[{"RelativeUrl":"Catalogs/7a1f2b3c-0000","Method":"PATCH"},{"RelativeUrl":"me"}]}"#;
    let observed = [
        (
            "GET /cvad/manage/Machines/5f1a2b3c-1111-4222-8333-444455556666",
            "",
        ),
        ("GET /monitorodata/Machines?$top=1", ""),
        ("POST /cvad/manage/$batch", batch),
    ];
    for (line, body) in observed {
        assert_eq!(send(&gateway, line, body).await.status(), 200);
    }
    let suggested = block_of(&gateway, "o").await;
    assert!(
        suggested.starts_with("# From 5 requests of this caller.\n"),
        "{suggested}"
    );
    assert!(
        suggested.contains("\"/cvad/manage/Machines/*\"") && suggested.contains("\"PATCH\""),
        "{suggested}"
    );

    let (_, rules) = suggested.split_once("name = \"o\"\n").unwrap();
    let enforced = rules.replace("mode = \"observe\"", "mode = \"enforce\"");
    let gateway = in_front_of(&upstream, &block("o", &enforced)).start().await;
    for (line, body) in observed {
        assert_eq!(
            send(&gateway, line, body).await.status(),
            200,
            "{line} by {enforced}"
        );
    }
    for line in [
        "GET /systemlog/records",
        "DELETE /cvad/manage/me",
        "GET /cvad/manage/Machines/1/x",
    ] {
        send(&gateway, line, "")
            .await
            .problem(403, "caller_forbidden");
    }
}

#[tokio::test]
async fn missing_suggestion_states_its_reason() {
    let upstream = Upstream::responding(OK).await;
    let blocks = block("o", "mode = 'observe'") + &block("e", "");
    let gateway = in_front_of(&upstream, &blocks).start().await;
    assert_eq!(send_as(&gateway, "e", "GET /x", "").await.status(), 200);
    for (name, status, cause) in [
        ("unknown", 404, "no caller of this name"),
        ("e", 409, "not observed"),
        ("o", 409, "no requests observed"),
    ] {
        let response = suggestion(&gateway, name).await;
        assert_eq!(response.status(), status, "{name}");
        assert!(
            response.text().contains(cause),
            "{name}: {}",
            response.text()
        );
    }
    let response = gateway
        .admin(get("/callers/o/suggestion").replacen("GET", "POST", 1))
        .await;
    assert_eq!(
        (response.status(), response.field("allow").as_deref()),
        (405, Some("GET, HEAD"))
    );
    // A request for an unconfigured customer is not recorded.
    send_as(&gateway, "o", "GET /x", "Citrix-CustomerId: other\r\n")
        .await
        .problem(403, "customer_forbidden");
    assert_eq!(suggestion(&gateway, "o").await.status(), 409);
}

#[tokio::test]
async fn suggestion_requires_the_admin_secret() {
    let upstream = Upstream::responding(OK).await;
    let secret = hex::encode(digest(&SHA256, b"admin").as_ref());
    let blocks = block("o", "mode = 'observe'") + &format!("[admin]\nsecret_sha256 = {secret:?}\n");
    let gateway = in_front_of(&upstream, &blocks).start().await;
    send_as(&gateway, "o", "GET /x", "").await;
    assert_eq!(suggestion(&gateway, "o").await.status(), 401);
    let with_secret = get_with("/callers/o/suggestion", "X-Api-Key: admin\r\n");
    assert_eq!(gateway.admin(with_secret).await.status(), 200);
}
