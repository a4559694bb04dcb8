//! The emulator over TLS: upstream HTTP/2 and certificates.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::pki::{TestCa, TlsFiles};
use crate::harness::{Cloud, Gateway, OK, Wire, client, get, within_timeout};

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
    let response = gateway.raw(get("/untrusted")).await;
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

#[tokio::test]
async fn rfc8446_9_1_upstream_with_an_rsa_certificate_is_accepted() {
    // The authority signs with rsa_pkcs1_sha256, which is for certificates alone in TLS 1.3.
    let ca = TestCa::with_rsa_key("authority");
    let issued = ca.issue_rsa("upstream", &["localhost"]);
    let files = TlsFiles::new(&issued);
    files.write("ca.pem", &ca.pem());
    for version in [&TLS12, &TLS13] {
        let acceptor = TlsAcceptor::from(Arc::new(issued.server_config_of(&[version])));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gateway = Gateway::with_api_url(&format!("https://localhost:{port}"))
            .set(
                "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE",
                &files.path("ca.pem").display().to_string(),
            )
            .start()
            .await;
        let serve = async {
            let (socket, _) = within_timeout(listener.accept()).await.unwrap();
            let stream = within_timeout(acceptor.accept(socket)).await.unwrap();
            let negotiated = stream.get_ref().1.protocol_version();
            assert_eq!(negotiated, Some(version.version));
            let mut wire = Wire::new(stream);
            wire.request().await;
            wire.write(OK).await;
            wire
        };
        let (response, _wire) = tokio::join!(gateway.raw(get("/")), serve);
        assert_eq!(response.status(), 200, "{version:?}");
    }
}
