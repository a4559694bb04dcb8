//! `$batch`: tokens in the items of a request are replaced (contract §5).

use bytes::Bytes;
use citrix_auth_proxy::limit::owner::{Owner, OwnerKey};
use http::Request;
use serde_json::{Value, json};

use crate::harness::{
    Cloud, Gateway, Message, OK, Plan, SITE, TOKEN, Upstream, client, get, wait_until,
    within_timeout,
};

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
const MIB: usize = 1024 * 1024;

/// Returns the plan of a gateway with a configured site.
fn in_front_of(upstream: &Upstream) -> Plan {
    Gateway::in_front_of(upstream).set("CITRIX_AUTH_PROXY_CITRIX__INSTANCE_ID", SITE)
}

/// Returns two items with unusual whitespace and case, with these tokens.
fn batch(bearer: &str, cws: &str) -> String {
    format!(
        "{{ \"Items\":[\r\n{{\"Headers\":[{{\"Name\":\"authorization\",\"Value\":\"{bearer}\"}},\
         {{\"Name\":\"X-AdminCredential\",\"Value\":\"Basic x\"}}],\"RelativeUrl\":\"me\", \"Reference\":\"0\"}},\
         {{\"RelativeUrl\":\"Machines\\/1\\/$reboot\",\"Method\":\"POST\",\"Headers\":[{{\"Value\":\"{cws}\",\
         \"Name\":\"AUTHORIZATION\"}}],\"Body\":\"{{\\u00e4}}\"}}]\t}}\n"
    )
}

/// Returns the batch as callers send it, with dummy tokens.
fn dummy() -> String {
    batch("bearer an-old-token", "CWSAuth bearer= an-old-token")
}

/// Returns the batch as forwarded with the gateway's n-th token.
fn with_token(number: usize) -> String {
    batch(
        &format!("Bearer {TOKEN}{number}"),
        &format!("CwsAuth Bearer={TOKEN}{number}"),
    )
}

fn post_with(path: &str, fields: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn post(path: &str, body: &str) -> String {
    post_with(path, "", body)
}

fn chunked(path: &str, body: &str) -> String {
    let (first, second) = body.split_at(body.len() / 3);
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n\
         {second}\r\n0\r\nContent-MD5: x\r\n\r\n",
        first.len(),
        second.len()
    )
}

#[track_caller]
fn assert_token(request: &Message, number: usize) {
    assert_eq!(request.text(), with_token(number));
    assert_eq!(
        request.field("content-length"),
        Some(with_token(number).len().to_string())
    );
    assert!(!request.has("transfer-encoding"));
    assert_eq!(
        request.field("authorization"),
        Some(format!("CwsAuth Bearer={TOKEN}{number}"))
    );
}

/// `bytes` bytes of items that each contain a token.
fn large(bytes: usize) -> String {
    let item =
        r#"{"RelativeUrl":"me","Headers":[{"Name":"Authorization","Value":"Bearer x"}],"Body":""#;
    let filler = "x".repeat(4096);
    let item = format!("{item}{filler}\"}}");
    let count = (bytes - 64) / (item.len() + 1);
    let mut batch = format!("{{\"Items\":[{}]", vec![item; count].join(","));
    batch += &" ".repeat(bytes - batch.len() - 1);
    batch + "}"
}

#[tokio::test]
async fn contract_5_nested_tokens_are_replaced_and_the_rest_is_unchanged() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(&upstream).start().await;
    let digests =
        "Content-Digest: sha-256=:x:\r\nContent-MD5: x\r\nContent-Type: application/json\r\n";
    for request in [
        post("/cvad/manage/$batch?async=true", &dummy()),
        post_with("/cvad/manage/$batch?async=true", digests, &dummy()),
        chunked("/cvad/manage/$batch?async=true", &dummy()),
    ] {
        assert_eq!(gateway.raw(request).await.status(), 200);
        let forwarded = upstream.request().await;
        assert_eq!(
            forwarded.line(),
            "POST /cvad/manage/$batch?async=true HTTP/1.1"
        );
        assert_token(&forwarded, 1);
        assert!(!forwarded.has("content-digest") && !forwarded.has("content-md5"));
    }
}

#[tokio::test]
async fn batches_are_recognized_on_every_cvad_address() {
    let (api, other) = (
        Upstream::responding(OK).await,
        Upstream::responding(OK).await,
    );
    let route = |prefix: &str| {
        format!(
            "[[route]]\nprefix = \"{prefix}\"\nupstream = \"{}\"\n",
            other.url()
        )
    };
    let routes: String = ["/direct/acme", "/region/eu"].map(route).concat();
    let gateway = in_front_of(&api).with(&routes).start().await;
    for (path, upstream, forwarded_path) in [
        ("/cvad/manage/%24Batch", &api, "/cvad/manage/%24Batch"),
        ("/cvadapis/$batch", &api, "/cvad/manage/$batch"),
        (
            &format!("/Citrix/orchestration/api/acme/{SITE}/$batch"),
            &api,
            "/cvad/manage/$batch",
        ),
        (
            "/region/eu/cvad/manage/$batch",
            &other,
            "/cvad/manage/$batch",
        ),
        (
            "/direct/acme/citrix/orchestration/api/acme/site/$batch",
            &other,
            "/citrix/orchestration/api/acme/site/$batch",
        ),
    ] {
        assert_eq!(
            gateway.raw(post(path, &dummy())).await.status(),
            200,
            "{path}"
        );
        let forwarded = upstream.request().await;
        assert_eq!(forwarded.line(), format!("POST {forwarded_path} HTTP/1.1"));
        assert_token(&forwarded, 1);
    }
    for path in ["/cvad/manage/Machines", "/monitorodata/$batch", "/x/$batch"] {
        for body in [&*dummy(), "no JSON"] {
            assert_eq!(
                gateway.raw(chunked(path, body)).await.status(),
                200,
                "{path}"
            );
            assert_eq!(api.request().await.text(), body);
        }
    }
    // Without a body there is nothing to replace.
    assert_eq!(
        gateway.raw(post("/cvad/manage/$batch", "")).await.status(),
        200
    );
    assert_eq!(
        api.request().await.field("content-length").as_deref(),
        Some("0")
    );
}

#[tokio::test]
async fn replayed_batch_carries_the_new_token_in_its_items() {
    let has_first_token = |request: &Message| request.text().contains(&format!("{TOKEN}1"));
    let upstream = Upstream::scripted_by_request(move |_, request| {
        if has_first_token(request) {
            UNAUTHORIZED.into()
        } else {
            OK.into()
        }
    })
    .await;
    // Whatever the replay buffer for other bodies is.
    let gateway = in_front_of(&upstream)
        .with("[limits]\nreplay_buffer_bytes = 0")
        .start()
        .await;
    assert_eq!(
        gateway
            .raw(post("/cvad/manage/$batch", &dummy()))
            .await
            .status(),
        200
    );
    assert_token(&upstream.request().await, 1);
    assert_token(&upstream.request().await, 2);
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn batch_is_resent_after_a_wait_and_follows_no_redirect() {
    let other = Upstream::responding(OK).await;
    let moved = |path: &str| {
        format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}/cvad/manage/{path}\r\n\
             Content-Length: 0\r\n\r\n",
            other.url()
        )
    };
    let (moved_batch, moved_path) = (moved("$batch"), moved("Machines"));
    let wait = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let upstream = Upstream::scripted_by_request(move |number, request| {
        if number == 1 {
            wait.into()
        } else if request.line().contains("$batch") {
            moved_batch.clone().into()
        } else {
            moved_path.clone().into()
        }
    });
    let upstream = upstream.await;
    let route = format!(
        "[[route]]\nprefix = '/region/eu'\nupstream = '{}'",
        other.url()
    );
    let gateway = in_front_of(&upstream).with(&route).start().await;
    let batch = || gateway.raw(post("/cvad/manage/$batch", &dummy()));
    let response = batch().await;
    let location = response.field("location");
    assert_eq!(
        (response.status(), location.as_deref()),
        (307, Some("http://localhost/region/eu/cvad/manage/$batch"))
    );
    assert_token(&upstream.request().await, 1);
    assert_token(&upstream.request().await, 1);
    // Nor a remembered one.
    let machines = get("/cvad/manage/Machines");
    assert_eq!(gateway.raw(machines).await.status(), 200);
    other.request().await;
    assert_eq!(batch().await.status(), 307);
    other.assert_no_more_requests().await;
}

#[tokio::test]
async fn batch_on_a_closed_pooled_connection_is_resent_on_another() {
    let upstream = Upstream::manual().await;
    let gateway = in_front_of(&upstream).start().await;
    for _ in 0..2 {
        let mut caller = gateway.connect().await;
        caller.write(post("/cvad/manage/$batch", &dummy())).await;
        let mut wire = upstream.connection().await;
        assert_token(&wire.request().await, 1);
        wire.write(OK).await;
        assert_eq!(caller.response().await.status(), 200);
    }
}

#[tokio::test]
async fn batch_with_expectation_gets_100() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(&upstream).start().await;
    let request = post_with("/cvad/manage/$batch", "Expect: 100-continue\r\n", &dummy());
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut caller = gateway.connect().await;
    caller.write(format!("{head}\r\n\r\n")).await;
    assert_eq!(caller.head().await.status(), 100);
    caller.write(body).await;
    assert_eq!(caller.response().await.status(), 200);
    assert_token(&upstream.request().await, 1);
}

#[tokio::test]
async fn oversized_or_invalid_batch_is_rejected_before_forwarding() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(&upstream)
        .with("[limits]\nbody_idle_timeout = \"50ms\"")
        .start()
        .await;
    let path = "/cvad/manage/$batch";
    let declared = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        4 * MIB + 1
    );
    for request in [declared, chunked(path, &large(4 * MIB + 1))] {
        let problem = gateway.raw(request).await.problem(413, "body_too_large");
        assert!(
            problem["detail"].as_str().unwrap().contains("4194304"),
            "{problem}"
        );
    }
    for (request, cause) in [
        (
            post_with(path, "Content-Encoding: gzip\r\n", &dummy()),
            "Content-Encoding",
        ),
        (post(path, "{\"Items\":"), "JSON"),
        (post(path, "{}"), "Items"),
        (post(path, r#"{"Items":[{}]}"#), "item 0"),
        (chunked(path, ""), "JSON"),
    ] {
        let problem = gateway.raw(request).await.problem(400, "bad_request");
        assert!(
            problem["detail"].as_str().unwrap().contains(cause),
            "{problem}"
        );
    }
    let half = post(path, &dummy());
    gateway
        .raw(&half[..half.len() - 9])
        .await
        .problem(408, "request_timeout");
    upstream.assert_no_more_requests().await;
    assert_eq!(gateway.app().shared().body_bytes.in_use(), 0);
}

#[tokio::test]
async fn largest_batch_passes_and_holds_its_memory_until_the_response() {
    let upstream = Upstream::manual().await;
    let gateway = in_front_of(&upstream).start().await;
    let (mut caller, body) = (gateway.connect().await, large(4 * MIB));
    caller.write(post("/cvad/manage/$batch", &body)).await;
    let mut wire = upstream.connection().await;
    let forwarded = within_timeout(wire.request()).await;
    assert!(
        forwarded.text() == body.replace("Bearer x", &format!("Bearer {TOKEN}1")),
        "the batch was changed"
    );
    let batches = &gateway.app().shared().body_bytes;
    assert_eq!(batches.in_use(), 4 * MIB);
    // Other batches hold the rest.
    let owner = Owner::new(OwnerKey::new_caller());
    let others = batches.acquire(&owner, 60 * MIB - 10, usize::MAX).unwrap();
    let rejected = gateway.raw(post("/cvad/manage/$batch", &dummy())).await;
    rejected.problem(503, "overloaded");
    assert_eq!(rejected.field("retry-after").as_deref(), Some("1"));
    wire.write(OK).await;
    assert_eq!(caller.response().await.status(), 200);
    drop(others);
    wait_until("the memory is released", || async { batches.in_use() == 0 }).await;
}

/// Returns the emulator's responses to items that all carry a dummy token.
async fn item_responses(gateway: &Gateway, path: &str, urls: &[&str]) -> Vec<Value> {
    let item = |url: &&str| {
        let (method, url) = url.split_once(' ').unwrap();
        let dummy = json!([{ "Name": "Authorization", "Value": "Bearer dummy" }]);
        json!({ "Reference": "r", "Method": method, "RelativeUrl": url, "Headers": dummy })
    };
    let body = json!({ "Items": urls.iter().map(item).collect::<Vec<_>>() }).to_string();
    let request = client()
        .post(gateway.url(path))
        .header("content-type", "application/json; charset=utf-8");
    let response = request
        .header("authorization", "Bearer dummy")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let response: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    response["Items"].as_array().unwrap().clone()
}

fn codes(items: &[Value]) -> Vec<u64> {
    items
        .iter()
        .map(|item| item["Code"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn every_item_is_authorized_also_after_a_revocation() {
    let cloud = Cloud::start().await;
    for http2 in ["auto", "never"] {
        let toml =
            format!("[upstream]\nhttp2 = \"{http2}\"\n[token]\nmin_forced_interval = \"1ms\"");
        let gateway = Gateway::in_front_of_cloud(&cloud).with(&toml).start().await;
        let urls = [
            "GET me",
            "GET Machines?limit=2",
            "POST Machines/m/$reboot?async=true",
        ];
        for _ in 0..3 {
            let items = item_responses(&gateway, "/cvad/manage/$batch", &urls).await;
            assert_eq!(codes(&items), [200, 200, 202], "{items:?}");
            // The job is followed at the location of the response.
            let location = &items[2]["Headers"][0];
            assert_eq!(location["Name"], "Location");
            let job = location["Value"].as_str().unwrap();
            assert!(job.starts_with(&gateway.url("/cvad/manage/Jobs/")), "{job}");
            let job = client().get(job).send().await.unwrap();
            assert_eq!(job.status(), 200);
            cloud.emulator.revoke_all();
        }
    }
    assert_eq!(cloud.emulator.stats().refused_batch_items, 0);
}

#[tokio::test]
async fn batch_passes_from_http2_to_http2() {
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
    let mut http2 = gateway.http2().await;
    let body = json!({ "Items": [{ "RelativeUrl": "me", "Headers": [
        { "Name": "Authorization", "Value": "CwsAuth Bearer=dummy" }
    ] }] });
    for _ in 0..2 {
        let request = Request::post(gateway.url("/cvad/manage/$batch"))
            .header("content-type", "application/json");
        let (response, mut upload) = http2
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        for piece in body.to_string().as_bytes().chunks(7) {
            upload
                .send_data(Bytes::copy_from_slice(piece), false)
                .unwrap();
        }
        upload.send_data(Bytes::new(), true).unwrap();
        let mut response = within_timeout(response).await.unwrap().into_body();
        let mut text = Vec::new();
        while let Some(piece) = within_timeout(response.data()).await {
            text.extend(piece.unwrap());
        }
        let response: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(response["Items"][0]["Code"], 200, "{response}");
        cloud.emulator.revoke_all();
    }
    assert_eq!(cloud.emulator.stats().refused_batch_items, 0);
}

#[tokio::test]
async fn batch_of_a_disconnected_caller_releases_its_memory() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    let request = post("/cvad/manage/$batch", &dummy());
    caller.write(&request[..request.len() - 1]).await;
    let batches = &gateway.app().shared().body_bytes;
    wait_until("the batch is being read", || async {
        batches.in_use() > 100
    })
    .await;
    drop(caller);
    wait_until("the batch is dropped", || async { batches.in_use() == 0 }).await;
    upstream.assert_no_more_requests().await;
}
