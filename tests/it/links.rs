//! Links in responses are rewritten to the gateway (interface §4.2, contract §5).

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::harness::{Gateway, OK, Upstream, get, get_with};

/// Returns a Monitor page whose links point to `host`.
fn page(host: &str) -> String {
    format!(
        r#"{{"@odata.context":"{host}/monitorodata/$metadata#Machines","value":[{{"Name":"{host}/x"}}],"#
    ) + &format!(r#""@odata.nextLink":"{host}/monitorodata/Machines?$skip=100&x=%2F"}}"#)
}

fn response(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; odata.metadata=minimal\r\n{fields}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

async fn count(gateway: &Gateway, outcome: &str) -> String {
    let series = format!("citrix_auth_proxy_links_total{{outcome=\"{outcome}\"}} ");
    gateway
        .metrics()
        .await
        .lines()
        .find_map(|line| line.strip_prefix(&series))
        .unwrap()
        .to_owned()
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn next_link_is_rewritten() {
    let upstream = Upstream::reflecting(|own| response("", page(own).as_bytes())).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let base = gateway.url("");
    let got = gateway
        .raw(get("/monitorodata/Machines").replace("localhost", &gateway.address()))
        .await;
    let expected = page(&base).replace(
        &format!("\"{base}/x\""),
        &format!("\"{}/x\"", upstream.url()),
    );
    assert_eq!(got.text(), expected);
    assert!(!got.has("content-length"));
    assert_eq!(count(&gateway, "rewritten").await, "2");
    // Without links to rewrite, the bytes pass unchanged.
    let got = gateway.raw(get("/other")).await;
    assert_eq!(got.text(), page(&upstream.url()));
    assert!(got.has("content-length"));
}

#[tokio::test]
async fn compressed_page_is_rewritten_and_recompressed() {
    let fields =
        "Content-Encoding: gzip\r\nETag: \"abc\"\r\nContent-MD5: x\r\nVary: Accept-Encoding\r\n";
    let upstream = Upstream::reflecting(move |own| response(fields, &gzipped(&page(own)))).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[listen]\npublic_url = \"https://gw.test/sub\"")
        .start();
    let gateway = gateway.await;
    let got = gateway
        .raw(get_with(
            "/monitorodata/Machines",
            "Accept-Encoding: gzip\r\n",
        ))
        .await;
    assert_eq!(got.field("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(got.field("etag").as_deref(), Some("W/\"abc\""));
    assert!(!got.has("content-md5") && got.has("vary"));
    let mut text = String::new();
    GzDecoder::new(got.body.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains(
        "\"@odata.nextLink\":\"https://gw.test/sub/monitorodata/Machines?$skip=100&x=%2F\""
    ));
    // The rewritten host is one the gateway accepts.
    assert_eq!(
        gateway
            .raw(get("/x").replace("localhost", "gw.test"))
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn links_to_routed_citrix_hosts_are_rewritten_and_unknown_ones_unchanged() {
    let body = r#"{"items":[{"ResultLocation":"https:\/\/API-EU.cloud.com\/cvad\/manage\/Jobs\/1"},
        {"Location":"https://registry.citrixworkspacesapi.net/acme/resourcelocations"},
        {"@odata.nextLink":"https://blob.example.net/x"},{"type":"https://errors-api.cloud.com/common/x"},
        {"@odata.nextLink":"https://api.cloud.com/monitorodata/Users"}]}"#;
    let upstream = Upstream::responding(response("", body.as_bytes())).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let got = gateway
        .raw(get("/cvad/manage/Jobs").replace("localhost", "localhost:81"))
        .await
        .text();
    let expected = body
        .replace(
            r"https:\/\/API-EU.cloud.com\/",
            r"http:\/\/localhost:81\/region\/eu\/",
        )
        .replace(
            "https://registry.citrixworkspacesapi.net/",
            "http://localhost:81/classic/registry/",
        )
        .replace("https://api.cloud.com/", "http://localhost:81/");
    assert_eq!(got, expected);
    assert_eq!(
        (
            count(&gateway, "rewritten").await,
            count(&gateway, "unknown").await
        ),
        ("3".into(), "1".into())
    );
}

#[tokio::test]
async fn links_to_the_worldwide_host_are_rewritten_for_a_regional_api_url() {
    let body = r#"{"@odata.nextLink":"https://api.cloud.com/monitorodata/Users"}"#;
    let upstream = Upstream::responding(response("", body.as_bytes())).await;
    for (cloud, link) in [
        ("eu", "http://localhost/monitorodata/Users"),
        // Separate clouds have no worldwide host.
        ("japan", "https://api.cloud.com/monitorodata/Users"),
    ] {
        let gateway = Gateway::in_front_of(&upstream)
            .with(&format!("[citrix]\ncloud = '{cloud}'"))
            .start();
        let got = gateway.await.raw(get("/monitorodata/Users")).await.text();
        assert_eq!(got, format!(r#"{{"@odata.nextLink":"{link}"}}"#), "{cloud}");
    }
}

#[tokio::test]
async fn accept_encoding_is_limited_to_supported_codings() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let accepted = "gzip, deflate, br, zstd";
    for (path, expected) in [
        ("/monitorodata/Machines", "gzip, deflate"),
        ("/cvad/manage/Machines", "gzip, deflate"),
        // Bodies of other services are not inspected.
        ("/systemlog/records", accepted),
    ] {
        let fields = format!("Citrix-InstanceId: x\r\nAccept-Encoding: {accepted}\r\n");
        gateway.raw(get_with(path, &fields)).await;
        assert_eq!(
            upstream.request().await.field("accept-encoding").as_deref(),
            Some(expected),
            "{path}"
        );
        gateway
            .raw(get_with(path, "Citrix-InstanceId: x\r\n"))
            .await;
        assert!(!upstream.request().await.has("accept-encoding"), "{path}");
    }
}

#[tokio::test]
async fn links_in_header_fields_are_rewritten_on_every_route() {
    let upstream = Upstream::reflecting(|own| {
        format!(
            "HTTP/1.1 202 Accepted\r\nLocation: {own}/cvad/manage/Jobs/81c0\r\n\
             Content-Location: {own}/a\r\nLink: <{own}/b?c>; rel=\"next\", <https://other.test/>; rel=x\r\n\
             Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for path in ["/x", "/cvad/manage/x"] {
        let got = gateway.raw(get(path)).await;
        assert_eq!(
            got.field("location").as_deref(),
            Some("http://localhost/cvad/manage/Jobs/81c0")
        );
        assert_eq!(
            got.field("content-location").as_deref(),
            Some("http://localhost/a")
        );
        let link = "<http://localhost/b?c>; rel=\"next\", <https://other.test/>; rel=x";
        assert_eq!(got.field("link").as_deref(), Some(link));
        assert_eq!(got.field("content-length").as_deref(), Some("0"));
    }
}

#[tokio::test]
async fn custom_route_with_rewrite_keeps_its_prefix_in_links() {
    let upstream = Upstream::reflecting(|own| {
        response(
            "",
            format!(r#"{{"Location":"{own}/base/x","ResultLocation":"/base/y"}}"#).as_bytes(),
        )
    })
    .await;
    let gateway = Gateway::in_front_of(&Upstream::refusing())
        .with(&format!(
            "[[route]]\nprefix = \"/reports\"\nupstream = \"{}/base\"\nrewrite_links = true",
            upstream.url()
        ))
        .start()
        .await;
    let got = gateway.raw(get("/reports/x")).await.text();
    assert_eq!(
        got,
        r#"{"Location":"http://localhost/reports/x","ResultLocation":"/reports/y"}"#
    );
}

#[tokio::test]
async fn other_types_partial_content_and_unknown_codings_pass_unchanged() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain",
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/99\r\nContent-Type: application/json",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: zstd",
        "HTTP/1.1 200 OK",
    ] {
        let upstream = Upstream::reflecting(move |own| {
            let body = page(own);
            format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        })
        .await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let got = gateway.raw(get("/monitorodata/Machines")).await;
        assert_eq!(got.text(), page(&upstream.url()), "{head}");
    }
}

#[tokio::test]
async fn rfc9111_5_2_2_6_body_that_must_not_be_transformed_passes_unchanged() {
    let fields = "Cache-Control: private, No-Transform\r\nETag: \"a\"\r\n";
    let upstream = Upstream::reflecting(move |own| {
        let fields = format!("{fields}Location: {own}/x\r\n");
        response(&fields, page(own).as_bytes())
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let got = gateway.raw(get("/monitorodata/Machines")).await;
    assert_eq!(got.text(), page(&upstream.url()));
    assert_eq!(got.field("etag").as_deref(), Some("\"a\""));
    assert!(got.has("content-length"));
    // Fields are no content.
    assert_eq!(got.field("location").as_deref(), Some("http://localhost/x"));
}

#[tokio::test]
async fn truncated_rewritten_response_is_truncated_for_the_caller() {
    let half = page("https://api.cloud.com");
    for (fields, body) in [
        ("", half.clone().into_bytes()),
        ("Content-Encoding: gzip\r\n", gzipped(&half)),
    ] {
        let mut cut = response(fields, &body);
        cut.truncate(cut.len() - 5);
        let upstream = Upstream::manual().await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let mut caller = gateway.connect().await;
        caller.write(get("/monitorodata/Machines")).await;
        let mut wire = upstream.connection().await;
        wire.request().await;
        wire.write(cut).await;
        drop(wire);
        assert!(!caller.response().await.complete, "{fields}");
    }
}

#[tokio::test]
async fn links_are_unchanged_without_a_gateway_host() {
    let upstream = Upstream::reflecting(|own| response("", page(own).as_bytes())).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let got = gateway
        .raw("GET /monitorodata/Machines HTTP/1.0\r\n\r\n")
        .await;
    assert_eq!(got.text(), page(&upstream.url()));
}
