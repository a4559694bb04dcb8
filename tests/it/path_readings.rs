//! Decisions on paths that servers may read in several ways: limits, logins and batches
//! (interface §4.3).

use aws_lc_rs::digest::{SHA256, digest};
use citrix_wire::hex;
use http::Request;
use http::uri::PathAndQuery;
use serde_json::Value;

use crate::harness::{
    Gateway, Message, OK, SITE, TOKEN, Upstream, Wire, get, get_with, wait_until, within_timeout,
};
use testkit::path_table::{BATCH_LOOKALIKES, LIMITED_SPELLINGS, LOGIN_SPELLINGS};

/// Returns a caller without rules whose secret is its name.
fn free_caller() -> String {
    let hash = hex::encode(digest(&SHA256, b"free").as_ref());
    format!("[[caller]]\nname = 'free'\nsecret_sha256 = {hash:?}\n")
}

/// The blocks of a gateway without and with callers, and fields that admit a request.
fn gateways() -> [(String, &'static str); 2] {
    [(String::new(), ""), (free_caller(), "X-Api-Key: free\r\n")]
}

fn post(path: &str, fields: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Occupies the only permit of `/monitorodata` and its queue.
async fn occupied(blocks: &str) -> (Gateway, Upstream, [Wire; 3]) {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&format!("{blocks}[limits]\nmax_queued = 1"))
        .start()
        .await;
    let fields = if blocks.is_empty() {
        ""
    } else {
        "X-Api-Key: free\r\n"
    };
    let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
    first.write(get_with("/monitorodata/x", fields)).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    second.write(get_with("/monitorodata/x", fields)).await;
    wait_until("a request waits", || async {
        let metrics = gateway.metrics().await;
        metrics.contains("queue_depth{route=\"/monitorodata\"} 1\n")
    })
    .await;
    (gateway, upstream, [first, second, wire])
}

/// Asserts that a request did not bypass the queue.
fn assert_limited(path: &str, status: u16) {
    assert!(matches!(status, 400 | 503), "{path}: {status}");
}

#[tokio::test]
async fn unusual_spelling_does_not_bypass_the_queue() {
    for (blocks, fields) in gateways() {
        let (gateway, upstream, _held) = occupied(&blocks).await;
        for path in LIMITED_SPELLINGS {
            let fields = format!("Connection: close\r\n{fields}");
            let response = gateway.raw(get_with(path, &fields)).await;
            assert_limited(path, response.status());
        }
        let mut http2 = gateway.http2().await;
        for path in LIMITED_SPELLINGS {
            let uri = http::Uri::builder().scheme("http").authority("localhost");
            let uri = uri
                .path_and_query(PathAndQuery::try_from(*path).unwrap())
                .build();
            let request = Request::get(uri.unwrap()).header("x-api-key", "free");
            let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
            let status = within_timeout(response).await.unwrap().status();
            assert_limited(path, status.as_u16());
        }
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn limits_of_regions_and_own_routes_apply_to_every_spelling() {
    let (api, other) = (
        Upstream::responding(OK).await,
        Upstream::responding(OK).await,
    );
    let route = |prefix: &str, more: &str| {
        let url = other.url();
        format!("[[route]]\nprefix = '{prefix}'\nupstream = '{url}'\n{more}\n")
    };
    let blocks = route("/region/eu", "") + &route("/reports", "max_concurrent = 1");
    let gateway = Gateway::in_front_of(&api).with(&blocks).start().await;
    for path in [
        "/region/eu//monitorodata/x",
        "/region/eu/%6donitorodata/x",
        "/region/eu/./monitorodata/x",
        "//reports/x",
        "/%72eports/x",
        "//Citrix/Monitor/OData/v4/Data/x",
        "/%43itrix/Monitor/OData/v4/Data/x",
    ] {
        gateway.raw(get(path)).await.problem(400, "bad_request");
    }
    // Below the prefix, only the path itself counts.
    for (path, expected) in [
        ("/region/eu/x%2Fy", "/x%2Fy"),
        ("/reports//x", "//x"),
        ("/reports/../x", "/../x"),
    ] {
        assert_eq!(gateway.raw(get(path)).await.status(), 200, "{path}");
        let line = other.request().await.line();
        assert_eq!(line, format!("GET {expected} HTTP/1.1"));
    }
    other.assert_no_more_requests().await;
    api.assert_no_more_requests().await;
}

#[tokio::test]
async fn unusual_spelling_of_a_login_is_not_forwarded() {
    let body = "grant_type=client_credentials&client_id=free&client_secret=free";
    let content_type = "Content-Type: application/x-www-form-urlencoded\r\n";
    let json = "Content-Type: application/json\r\n";
    for (blocks, _) in gateways() {
        let upstream = Upstream::responding(OK).await;
        let gateway = Gateway::in_front_of(&upstream).with(&blocks).start().await;
        for path in LOGIN_SPELLINGS {
            let response = gateway.raw(post(path, content_type, body)).await;
            assert!(
                matches!(response.status(), 200 | 400 | 415),
                "{path}: {}",
                response.status()
            );
            // Also in the other format, with other methods, and below a prefix.
            let secret = r#"{"clientId":"free","clientSecret":"free"}"#;
            let path = path.replace("/cctrustoauth2/", "/region/eu/");
            gateway.raw(post(&path, json, secret)).await;
            gateway.raw(get(&path)).await;
        }
        upstream.assert_no_more_requests().await;
    }
}

#[tokio::test]
async fn login_behind_the_base_path_of_an_upstream_is_not_forwarded() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::with_api_url(&format!("{}/acme", upstream.url()))
        .start()
        .await;
    for path in ["/tokens/clients", "/tokens%2Fclients"] {
        let response = gateway.raw(post(path, "", "{}")).await;
        assert!(response.status() >= 400, "{path}");
    }
    upstream.assert_no_more_requests().await;
}

/// Returns a batch with one item, which has the caller's secret.
fn batch(url: &str, more: &str) -> String {
    let token = r#"{"Name":"Authorization","Value":"Bearer free"}"#;
    format!(r#"{{"Items":[{{"RelativeUrl":{url:?},"Headers":[{token}{more}]}}]}}"#)
}

async fn assert_nothing_forwarded(upstream: &Upstream, response: &Message, case: &str) -> Value {
    let arrived = upstream.take_requests().await;
    assert!(arrived.is_empty(), "{case}: {}", arrived[0].text());
    response.problem(400, "bad_request")
}

#[tokio::test]
async fn path_that_only_resembles_a_batch_is_rejected() {
    for (blocks, fields) in gateways() {
        let upstream = Upstream::responding(OK).await;
        let gateway = Gateway::in_front_of(&upstream)
            .set("CITRIX_AUTH_PROXY_CITRIX__INSTANCE_ID", SITE)
            .with(&blocks)
            .start()
            .await;
        for path in BATCH_LOOKALIKES {
            let response = gateway.raw(post(path, fields, &batch("me", ""))).await;
            assert_nothing_forwarded(&upstream, &response, path).await;
        }
        // Without a body there is nothing to protect.
        let response = gateway.raw(get_with("/cvad/manage/$batch;x", fields)).await;
        assert_eq!(response.status(), 200);
    }
}

#[tokio::test]
async fn item_that_may_leave_the_host_gets_no_token() {
    let host = r#",{"Name":"Host","Value":"evil.example"}"#;
    let forwarded = r#",{"Name":"X-Forwarded-Host","Value":"evil.example"}"#;
    let lookalike = r#",{"Name":"x_host","Value":"evil.example"}"#;
    for (blocks, fields) in gateways() {
        let upstream = Upstream::responding(OK).await;
        let gateway = Gateway::in_front_of(&upstream)
            .set("CITRIX_AUTH_PROXY_CITRIX__INSTANCE_ID", SITE)
            .with(&blocks)
            .start()
            .await;
        for (url, more) in [
            ("https://evil.example/x", ""),
            ("HTTPS:evil.example", ""),
            ("/https://evil.example/x", ""),
            ("//evil.example/x", ""),
            ("\\\\evil.example/x", ""),
            ("/\\evil.example/x", ""),
            (" //evil.example/x", ""),
            ("h\tttps://evil.example", ""),
            ("/\n/evil.example", ""),
            ("$batch", ""),
            ("/cvad/manage/%24batch;x", ""),
            ("me", host),
            ("me", forwarded),
            ("me", lookalike),
        ] {
            let body = batch(url, more);
            let response = gateway
                .raw(post("/cvad/manage/$batch", fields, &body))
                .await;
            let problem = assert_nothing_forwarded(&upstream, &response, &body).await;
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.starts_with("item 0 of the batch, "), "{detail}");
        }
        for url in [
            "me",
            "/me",
            "Machines?next=https://api.cloud.com//x",
            "Machines/a:b",
            "/cvad/manage/Machines/DOM%5Cvm",
            "",
        ] {
            let body = batch(url, "");
            let response = gateway
                .raw(post("/cvad/manage/$batch", fields, &body))
                .await;
            assert_eq!(response.status(), 200, "{url}");
            let text = upstream.request().await.text();
            assert_eq!(
                text,
                body.replace("Bearer free", &format!("Bearer {TOKEN}1"))
            );
        }
    }
}

#[tokio::test]
async fn path_with_too_many_readings_is_rejected_once_its_caller_is_known() {
    // Servers read it alike, and the search is too long; and the reverse.
    let paths = [
        "/a%20b".repeat(2000),
        "/a%252541%2541;b/c/+/.;/x\\y/..;/../%3f/q%00/r".repeat(20),
    ];
    for (blocks, fields) in gateways() {
        let upstream = Upstream::responding(OK).await;
        let gateway = Gateway::in_front_of(&upstream).with(&blocks).start().await;
        for path in &paths {
            let rejected = gateway.raw(get_with(path, fields)).await;
            let detail = rejected.problem(400, "bad_request")["detail"].to_string();
            assert!(detail.contains("too many ways"), "{detail}");
            let login = format!("{path}/acme/tokens%2Fclients");
            let rejected = gateway.raw(post(&login, fields, "client_id=a")).await;
            rejected.problem(400, "bad_request");
            if !blocks.is_empty() {
                let unknown = gateway.raw(get(path)).await;
                unknown.problem(401, "caller_unknown");
            }
        }
        let plain = gateway
            .raw(get_with(&"/a20b".repeat(2000), fields))
            .await
            .status();
        assert_eq!(plain, 200);
        upstream.request().await;
        upstream.assert_no_more_requests().await;
    }
}

#[tokio::test]
async fn batch_item_with_too_many_readings_gets_no_token() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for url in ["a%20b/".repeat(2000), "a%20b/".repeat(600_000)] {
        let body = format!("{{\"Items\":[{{\"Method\":\"GET\",\"RelativeUrl\":\"{url}\"}}]}}");
        let rejected = gateway.raw(post("/cvad/manage/$batch", "", &body)).await;
        let detail = rejected.problem(400, "bad_request")["detail"].to_string();
        assert!(detail.contains("too many ways"), "{detail}");
    }
    upstream.assert_no_more_requests().await;
}
