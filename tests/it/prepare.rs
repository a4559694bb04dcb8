//! The upstream request, byte for byte (interface §4.1).

mod fields;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use crate::harness::{
    Cloud, Gateway, Message, OK, SITE, TOKEN, Upstream, get, get_with, within_timeout,
};

/// Returns the upstream request for a caller's `request`.
async fn forwarded(request: impl AsRef<[u8]>) -> Message {
    forwarded_by(request, "").await
}

async fn forwarded_by(request: impl AsRef<[u8]>, toml: &str) -> Message {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).with(toml).start().await;
    let response = gateway.raw(request).await;
    assert_eq!((response.status(), response.text().as_str()), (200, "{}"));
    let request = upstream.request().await;
    assert_eq!(request.field("host"), Some(upstream.host()));
    assert_eq!(
        request.field("authorization"),
        Some(format!("CwsAuth Bearer={TOKEN}1"))
    );
    request
}

/// Fields that the gateway adds to every request.
const ADDED: [&str; 5] = [
    "accept",
    "authorization",
    "citrix-customerid",
    "citrix-transactionid",
    "host",
];

fn names_with<'a>(more: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<_> = ADDED.into_iter().chain(more).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn bare_request_is_forwarded_with_the_required_fields_only() {
    let request = forwarded(get("/cvad/manage/me")).await;
    assert_eq!(request.line(), "GET /cvad/manage/me HTTP/1.1");
    assert_eq!(request.names(), ADDED);
    assert_eq!(request.field("accept").as_deref(), Some("application/json"));
    assert_eq!(request.field("citrix-customerid").as_deref(), Some("acme"));
}

#[tokio::test]
async fn rfc9110_7_6_1_hop_by_hop_and_connection_nominated_fields_are_stripped() {
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close, X-One ,x-two,,\r\n\
        Connection: Upgrade, HTTP2-Settings, TE\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nTE: trailers\r\n\
        Trailer: x-sum\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nUser-Agent: Java\r\n\r\n";
    assert_eq!(
        forwarded(request).await.names(),
        names_with(["user-agent", "x-three"])
    );
}

#[tokio::test]
async fn rfc9110_7_6_1_nominated_gateway_fields_are_still_sent() {
    let nominated =
        "Connection: authorization, citrix-customerid, citrix-transactionid, host, accept\r\n";
    let request = forwarded(get_with(
        "/",
        &format!("{nominated}Citrix-TransactionId: caller\r\n"),
    ))
    .await;
    assert_eq!(request.names(), ADDED);
    assert_eq!(
        request.field("citrix-transactionid").as_deref(),
        Some("caller")
    );
}

#[tokio::test]
async fn rfc9110_7_6_1_nominated_content_length_keeps_the_framing() {
    let request = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close, content-length\r\n\
        Content-Length: 5\r\n\r\nhello";
    let request = forwarded(request).await;
    assert_eq!(request.field("content-length").as_deref(), Some("5"));
    assert_eq!(request.text(), "hello");
}

#[tokio::test]
async fn credentials_proxy_fields_and_overrides_are_stripped() {
    let request = forwarded(get_with(
        "/",
        "Authorization: Bearer stale\r\nAuthorization: Basic dHdv\r\nX-Api-Key: key\r\nCustomer: acme\r\n\
         X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Anything: x\r\nForwarded: for=10.0.0.1\r\nVia: 1.1 other\r\n\
         X-HTTP-Method-Override: DELETE\r\nX-HTTP-Method: DELETE\r\nX-Method-Override: DELETE\r\n\
         X-Original-HTTP-Method: DELETE\r\nX-Tunnel-Method: DELETE\r\n\
         X-Original-URL: /other\r\nX-Rewrite-URL: /other\r\nX-Original-Uri: /other\r\nX-Override-URL: /other\r\n\
         X-Original-Method: DELETE\r\nX-Original-Host: other\r\nX-Host: other\r\nX-Forwarded: for=10.0.0.1\r\n\
         X-Real-IP: 10.0.0.1\r\nX-Client-IP: 10.0.0.1\r\nTrue-Client-IP: 10.0.0.1\r\n\
         X-Kept: yes\r\nReferer: http://localhost/\r\n",
    ))
    .await;
    assert_eq!(request.names(), names_with(["referer", "x-kept"]));
}

#[tokio::test]
async fn traceparent_is_forwarded_only_if_the_caller_sent_one() {
    let field = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    assert!(forwarded(get_with("/", field)).await.has("traceparent"));
    assert!(!forwarded(get("/")).await.has("traceparent"));
}

#[tokio::test]
async fn rfc9110_12_5_1_accept_becomes_json_where_citrix_requires_it() {
    let json = &["application/json"][..];
    let axios = "Accept: application/json, text/plain, */*\r\n";
    for (path, fields, expected) in [
        ("/", "", json),
        ("/", "Accept: */*\r\n", json),
        ("/", "Accept: text/csv\r\n", &["text/csv"]),
        ("/", axios, &["application/json, text/plain, */*"]),
        (
            "/",
            "Accept: text/csv\r\nAccept: */*\r\n",
            &["text/csv", "*/*"],
        ),
        ("/cvad/manage/me", axios, json),
        (
            "/cvad/manage/me",
            "Accept: text/csv\r\nAccept: */*\r\n",
            json,
        ),
        ("/cvadapis/me", "Accept: */*;q=0.8\r\n", json),
        ("/accessSecurity/x", axios, json),
        (
            "/accessSecurity/x",
            "Accept: */*, application/json;q=0\r\n",
            &["*/*, application/json;q=0"],
        ),
        (
            "/cvad/manage/me",
            "Accept: application/json;version=preview, */*\r\n",
            &["application/json;version=preview, */*"],
        ),
        ("/monitorodata/$metadata", "", &[]),
        ("/monitorodata/$metadata?x", "Accept: */*\r\n", &["*/*"]),
        ("/Citrix/Monitor/OData/v4/Data/Machines/$count", "", &[]),
        ("/monitorodata/Machines(1)/Name/$value", "", &[]),
    ] {
        assert_eq!(
            forwarded(get_with(path, fields)).await.fields("accept"),
            expected,
            "{path} {fields}"
        );
    }
}

#[tokio::test]
async fn customer_header_is_added_or_normalized() {
    for fields in [
        "",
        "Citrix-Customerid: acme\r\n",
        "CITRIX-CUSTOMERID: ACME\r\n",
        "Citrix-CustomerId:\r\n",
        "Citrix-CustomerId: \r\nCitrix-CustomerId: acme\r\n",
        "Customer: Acme\r\n",
        "Customer:\r\nCitrix-CustomerId:\r\n",
        "Customer:\r\nCitrix-CustomerId: acme\r\n",
    ] {
        let request = forwarded(get_with("/", fields)).await;
        assert_eq!(
            request.field("citrix-customerid").as_deref(),
            Some("acme"),
            "{fields}"
        );
    }
}

#[tokio::test]
async fn configured_site_is_sent_to_cvad_only() {
    let fixed = format!("[citrix]\ninstance_id = \"{SITE}\"");
    for (path, has_site) in [
        ("/cvad/manage/Machines?limit=2", true),
        ("/cvad/manage/$batch?async=true", true),
        ("/cvad/manage/me", false),
        ("/cvad/manage/Sites/x", false),
        ("/cvad/manage/About", false),
        ("/systemlog/records", false),
        ("/cvad/managed", false),
    ] {
        let request = forwarded_by(get(path), &fixed).await;
        let site = has_site.then(|| SITE.to_owned());
        assert_eq!(request.field("citrix-instanceid"), site, "{path}");
    }
    let with_site = get_with("/cvad/manage/Machines", "Citrix-InstanceId: caller\r\n");
    let request = forwarded_by(with_site, &fixed).await;
    assert_eq!(
        request.field("citrix-instanceid").as_deref(),
        Some("caller")
    );
    // An empty site header counts as absent.
    for path in [
        "/cvad/manage/Machines".to_owned(),
        format!("/cvadapis/{SITE}/Machines"),
    ] {
        let request = forwarded_by(get_with(&path, "Citrix-InstanceId:\r\n"), &fixed).await;
        assert_eq!(
            request.field("citrix-instanceid").as_deref(),
            Some(SITE),
            "{path}"
        );
    }
    let with_empty = "Citrix-InstanceId:\r\nCitrix-InstanceId: caller\r\n";
    for (path, fields, expected) in [
        ("/cvad/manage/Machines", "", None),
        ("/cvad/manage/Machines", "Citrix-InstanceId:\r\n", None),
        ("/systemlog/records", "Citrix-InstanceId:\r\n", None),
        ("/cvad/manage/Machines", with_empty, Some("caller")),
    ] {
        let request = forwarded_by(get_with(path, fields), "[citrix]\ninstance_id = \"\"").await;
        let sites: Vec<&str> = expected.into_iter().collect();
        assert_eq!(
            request.fields("citrix-instanceid"),
            sites,
            "{path} {fields}"
        );
    }
}

#[tokio::test]
async fn path_and_query_are_forwarded_unchanged() {
    for target in [
        "/",
        "/?",
        "/a%2Fb/%2e%2E/c//d/./e;v=1",
        "/monitorodata/Machines?$filter=Name%20eq%20%27a%27+and+b&$top=2",
        "/a%2fb/$x\\y?q=%27+~'&z=é&w=[1]{2}|3^`",
        "/records?continuationToken=v1+%C3%A9%2B%2FNjA%3D&limit=60",
        "/emoji/☃?snow=☃",
    ] {
        let request = forwarded(get(target)).await;
        let line = format!("GET {target} HTTP/1.1");
        assert_eq!(request.line(), line);
    }
}

#[tokio::test]
async fn rfc9112_3_2_2_absolute_target_is_forwarded_in_origin_form() {
    for (target, expected) in [
        ("http://localhost:1/a?b", "/a?b"),
        ("http://127.0.0.1", "/"),
        ("http://127.0.0.1?q", "/?q"),
        ("HTTPS://LocalHost/x", "/x"),
    ] {
        assert_eq!(
            forwarded(get(target)).await.line(),
            format!("GET {expected} HTTP/1.1"),
            "{target}"
        );
    }
}

#[tokio::test]
async fn any_method_is_forwarded_unchanged() {
    for method in [
        "OPTIONS", "DELETE", "PATCH", "PROPFIND", "patch", "M-SEARCH",
    ] {
        let request =
            format!("{method} /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(
            forwarded(request).await.line(),
            format!("{method} /x HTTP/1.1")
        );
    }
}

#[tokio::test]
async fn rfc9110_8_6_empty_post_put_or_patch_is_sent_with_content_length_0() {
    for (method, fields, length) in [
        ("POST", "", Some("0")),
        ("PUT", "", Some("0")),
        ("PATCH", "Content-Length: 0\r\n", Some("0")),
        ("POST", "Content-Length: 0\r\n", Some("0")),
        ("GET", "Content-Length: 0\r\n", None),
        ("DELETE", "", None),
    ] {
        let request =
            format!("{method} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
        let request = forwarded(request).await;
        assert_eq!(
            request.field("content-length").as_deref(),
            length,
            "{method} {fields}"
        );
        assert!(!request.has("transfer-encoding"), "{method} {fields}");
    }
}

#[tokio::test]
async fn rfc9110_8_6_empty_http2_post_is_sent_with_content_length_0() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    for method in ["POST", "PUT", "PATCH"] {
        let request = Request::builder()
            .method(method)
            .uri(gateway.url("/x"))
            .body(())
            .unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        assert_eq!(within_timeout(response).await.unwrap().status(), 200);
        let request = upstream.request().await;
        assert_eq!(request.line(), format!("{method} /x HTTP/1.1"));
        assert_eq!(request.field("content-length").as_deref(), Some("0"));
    }
}

#[tokio::test]
async fn rfc9113_8_2_3_cookie_crumbs_are_joined_into_one_field() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    let request = Request::get(gateway.url("/"))
        .header("cookie", "a=1")
        .header("cookie", "b=2; c=3");
    let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
    within_timeout(response).await.unwrap();
    let request = upstream.request().await;
    assert_eq!(request.field("cookie").as_deref(), Some("a=1; b=2; c=3"));
    assert_eq!(request.names(), names_with(["cookie"]));
}

#[tokio::test]
async fn bodies_keep_their_framing() {
    for method in ["POST", "PUT", "GET", "DELETE", "OPTIONS"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        let request = forwarded(format!("{head}Content-Length: 5\r\n\r\nhello")).await;
        assert_eq!(
            request.field("content-length").as_deref(),
            Some("5"),
            "{method}"
        );
        assert!(!request.has("transfer-encoding"), "{method}");
        assert_eq!(request.text(), "hello");

        let chunks = "4;ext=1\r\nhell\r\n1\r\no\r\n0\r\n\r\n";
        let chunked = forwarded(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}")).await;
        assert_eq!(
            chunked.field("transfer-encoding").as_deref(),
            Some("chunked"),
            "{method}"
        );
        assert!(!chunked.has("content-length"), "{method}");
        assert_eq!(chunked.text(), "hello");
    }
}

/// A request with trailers, of which `X-Sum` alone is permitted.
const TRAILERS: &str = "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTrailer: x-sum\r\n\
    Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nAuthorization: Bearer stale\r\n\
    Citrix-CustomerId: other\r\nX-Forwarded-For: 10.0.0.1\r\nConnection: x\r\nHost: other\r\n\r\n";

#[tokio::test]
async fn rfc9110_6_5_1_no_trailers_are_forwarded_over_http1() {
    let request = forwarded(TRAILERS).await;
    assert_eq!(request.text(), "hello");
    assert_eq!(request.framed, b"5\r\nhello\r\n0\r\n\r\n");
    assert!(!request.has("x-sum") && !request.has("trailer"));
}

#[tokio::test]
async fn rfc9110_6_5_1_only_permitted_trailers_are_forwarded_over_http2() {
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
    let echo: Value = serde_json::from_slice(&gateway.raw(TRAILERS).await.body).unwrap();
    assert_eq!(
        (&echo["version"], &echo["body"], &echo["trailers"]),
        (
            &json!("HTTP/2.0"),
            &json!("hello"),
            &json!([["x-sum", "1"]])
        )
    );
}

#[tokio::test]
async fn http2_bodies_are_framed_by_their_content_length() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    for (length, framing) in [(Some(5), "content-length"), (None, "transfer-encoding")] {
        let mut request = Request::post(gateway.url("/"));
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let (response, mut body) = http2
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        assert_eq!(within_timeout(response).await.unwrap().status(), 200);
        let request = upstream.request().await;
        assert!(request.has(framing), "{:?}", request.names());
        assert_eq!(request.text(), "hello");
    }
}
