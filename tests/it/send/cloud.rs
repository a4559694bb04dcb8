//! The emulator over TLS: upstream HTTP/2 and certificates.

use serde_json::Value;

use crate::harness::{Cloud, Gateway, client};

async fn echoed(gateway: &Gateway) -> Value {
    let response = client()
        .get(gateway.url("/echo/a%2Fb?q=%27~+"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn http2_is_used_if_the_upstream_selects_it() {
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
    let echo = echoed(&gateway).await;
    assert_eq!(echo["version"], "HTTP/2.0");
    assert_eq!(echo["path"], "/echo/a%2Fb?q=%27~+");
    let headers = echo["headers"].as_array().unwrap();
    assert!(
        headers.contains(&serde_json::json!(["authorization", "valid"])),
        "{headers:?}"
    );
    assert!(
        !headers
            .iter()
            .any(|pair| pair[0] == "host" || pair[0] == "connection"),
        "{headers:?}"
    );
}

#[tokio::test]
async fn http2_is_not_offered_with_http2_never() {
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud)
        .with("[upstream]\nhttp2 = \"never\"")
        .start()
        .await;
    assert_eq!(echoed(&gateway).await["version"], "HTTP/1.1");
}

#[tokio::test]
async fn http2_requests_share_one_connection() {
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
    // The login uses a separate connection, which is not kept.
    let before = {
        echoed(&gateway).await;
        cloud.emulator.stats().connections
    };
    let responses = futures_util::future::join_all((0..8).map(|_| echoed(&gateway))).await;
    assert_eq!(responses.len(), 8);
    assert_eq!(cloud.emulator.stats().connections, before);
}

#[tokio::test]
async fn bodies_pass_whole_over_upstream_http2() {
    const LENGTH: usize = 3_000_017;
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
    for query in ["", "&chunked=1"] {
        let url = gateway.url(&format!("/download?bytes={LENGTH}{query}"));
        let bytes = client()
            .get(url)
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert!(
            bytes.len() == LENGTH
                && bytes
                    .iter()
                    .enumerate()
                    .all(|(at, byte)| usize::from(*byte) == at % 65536 % 251)
        );
    }
    let response = client()
        .post(gateway.url("/upload"))
        .body(vec![7_u8; LENGTH])
        .send()
        .await
        .unwrap();
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["bytes"], LENGTH);
}

#[tokio::test]
async fn untrusted_upstream_certificate_returns_502() {
    let cloud = Cloud::start().await;
    let trusted = Cloud::start().await;
    let untrusted = format!(
        "[[route]]\nprefix = \"/untrusted\"\nupstream = {:?}",
        cloud.emulator.base_url()
    );
    let gateway = Gateway::in_front_of_cloud(&trusted)
        .with(&untrusted)
        .start()
        .await;
    let response = gateway.raw(crate::harness::get("/untrusted")).await;
    let problem = response.problem(502, "upstream_connect");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("upstream.ca_file"),
        "{problem}"
    );
    assert_eq!(cloud.emulator.stats().requests, 0);
}
