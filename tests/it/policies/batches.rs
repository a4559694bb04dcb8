//! `$batch` under rules: each item is evaluated like a request; a batch with an item that is not
//! permitted is rejected.

use super::*;

/// Returns a batch of items, each with a method, a URL and header fields in JSON.
fn batch(items: &[(&str, &str, &str)]) -> String {
    let item = |(method, url, headers): &(&str, &str, &str)| {
        format!("{{\"Method\":{method:?},\"RelativeUrl\":{url:?},\"Headers\":[{headers}]}}")
    };
    format!(
        "{{\"Items\":[{}]}}",
        items.iter().map(item).collect::<Vec<_>>().join(",")
    )
}

fn field(name: &str, value: &str) -> String {
    format!("{{\"Name\":{name:?},\"Value\":{value:?}}}")
}

async fn post(gateway: &Gateway, name: &str, path: &str, fields: &str, body: &str) -> Message {
    let length = format!("Content-Length: {}\r\n{fields}", body.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}{length}\r\n",
        key(name)
    );
    gateway.raw(head + body).await
}

const RULES: &str = "methods = ['GET', 'POST']\ncustomers = ['acme']\n\
                     paths = ['/cvad/manage/Machines/**', '/cvad/manage/$batch', '/monitorodata/**', \
                     '/region/eu/cvad/manage/$batch', '/x/**']";

#[tokio::test]
async fn permitted_items_are_forwarded_with_gateway_tokens() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(&upstream, &block("a", RULES)).start().await;
    let headers = [
        field("Authorization", "Bearer x"),
        field("citrix-customerid", "ACME"),
        field("X-AdminCredential", "Basic y"),
        field("Content-Type", "application/json"),
    ];
    let body = batch(&[
        ("GET", "Machines?limit=2&x=../y", &headers.join(",")),
        ("POST", "/Machines/1/$reboot", ""),
        ("GET", &format!("acme/{SITE}/Machines/2"), ""),
    ]);
    // The last is evaluated with and without the prefix of the direct hosts.
    post(&gateway, "a", "/cvad/manage/$batch", "", &body)
        .await
        .problem(403, "caller_forbidden");
    let body = batch(&[
        ("GET", "Machines?limit=2&x=../y", &headers.join(",")),
        ("POST", "/Machines/1/$reboot", ""),
    ]);
    for fields in [
        "",
        "Content-Type: application/json\r\n",
        "Content-Type: application/json; Charset=\"UTF-8\"\r\n",
    ] {
        assert_eq!(
            post(
                &gateway,
                "a",
                "/cvad/manage/$batch?async=true",
                fields,
                &body
            )
            .await
            .status(),
            200
        );
        let forwarded = upstream.request().await.text();
        assert_eq!(
            forwarded.replace(&format!("Bearer {}1", crate::harness::TOKEN), "Bearer x"),
            body
        );
    }
    // A batch without a body has no items.
    assert_eq!(
        post(&gateway, "a", "/cvad/manage/$batch", "", "")
            .await
            .status(),
        200
    );
}

/// Asserts that a batch is rejected because of its second item.
async fn refused_for(gateway: &Gateway, item: (&str, &str, &str), (reason, cause): (&str, &str)) {
    let body = batch(&[("GET", "Machines/1", ""), item]);
    let status = if reason == "bad_request" { 400 } else { 403 };
    let response = post(gateway, "a", "/cvad/manage/$batch", "", &body).await;
    let detail = response.problem(status, reason)["detail"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        detail.starts_with("item 1 of the batch, ") && detail.contains(cause),
        "{item:?}: {detail}"
    );
}

#[tokio::test]
async fn item_url_or_method_outside_the_rules_rejects_the_batch() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(&upstream, &block("a", RULES)).start().await;
    for (method, url, cause) in [
        ("DELETE", "Machines/1", "(methods)"),
        ("post ", "Machines/1", "(methods)"),
        ("GET", "Administrators", "(paths)"),
        ("GET", "/cvad/manage/Machines", "(paths)"),
        ("GET", "/monitorodata/Machines", "(paths)"),
        ("GET", "", "(paths)"),
        ("GET", "machines", "in case"),
        ("GET", "Machines/../Administrators", "dots"),
        ("GET", "Machines/%2e%2e/Administrators", "an escaped slash"),
        (
            "GET",
            "https://api.cloud.com/cvad/manage/Machines",
            "empty segment",
        ),
        ("GET", "https:Machines", "an absolute URL"),
        (
            "GET",
            "//api.cloud.com/cvad/manage/Machines",
            "empty segment",
        ),
        ("POST", "$batch", "is a batch"),
        ("POST", "Machines/%24batch", "is a batch"),
    ] {
        refused_for(&gateway, (method, url, ""), ("caller_forbidden", cause)).await;
    }
    refused_for(
        &gateway,
        ("GET", "Machines#/../x", ""),
        ("bad_request", "must be percent-encoded"),
    )
    .await;
    refused_for(
        &gateway,
        ("GET", "Machines/%00", ""),
        ("bad_request", "a control character"),
    )
    .await;
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn item_header_fields_outside_the_rules_reject_the_batch() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(&upstream, &block("a", RULES)).start().await;
    for name in ["Citrix-CustomerId", "customer"] {
        let named = field(name, "contoso");
        let cause = ("customer_forbidden", "none that this caller may use");
        refused_for(&gateway, ("GET", "Machines", &named), cause).await;
    }
    for (name, value) in [
        ("citrix_customerid", "contoso"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Original-URL", "/x"),
        ("Host", "other"),
        // Escaped line ends in JSON.
        ("A", "b\r\nX-HTTP-Method: PUT"),
        ("A\r\nX-HTTP-Method", "PUT"),
    ] {
        let cause = (
            "caller_forbidden",
            "a header field that may change its method, path or customer",
        );
        refused_for(&gateway, ("POST", "Machines", &field(name, value)), cause).await;
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn batch_with_unreadable_items_is_rejected() {
    let upstream = Upstream::responding(OK).await;
    let batch_route = format!(
        "[[route]]\nprefix = '/x/y'\nupstream = '{}/cvad/manage/$batch'\n",
        upstream.url()
    );
    let blocks = block("a", RULES) + &block("free", "") + &batch_route;
    let gateway = in_front_of(&upstream, &blocks).start().await;
    let json = batch(&[("GET", "Machines", "")]);
    let multipart =
        "--b\r\nContent-Type: application/http\r\n\r\nDELETE /x HTTP/1.1\r\n\r\n--b--\r\n";
    for (path, fields, body) in [
        // The two OData formats, neither of which the gateway reads.
        (
            "/monitorodata/$batch",
            "Content-Type: multipart/mixed; boundary=b\r\n",
            multipart,
        ),
        (
            "/monitorodata/$batch",
            "",
            r#"{"requests":[{"id":"0","method":"DELETE","url":"/x"}]}"#,
        ),
        ("/monitorodata/%24batch/", "", &json),
        ("/Citrix/Monitor/OData/v4/Data/$batch", "", &json),
        ("/x/$batch", "", &json),
        ("/cvad/manage/Machines/$batch", "", &json),
        // The path becomes a batch path by the route.
        ("/x/y", "", &json),
        (
            "/cvad/manage/$batch",
            "Content-Type: application/json; charset=utf-7\r\n",
            &json,
        ),
        (
            "/cvad/manage/$batch",
            "Content-Type: application/json\r\nContent-Type: text/x; charset=utf-7\r\n",
            &json,
        ),
    ] {
        let problem = post(&gateway, "a", path, fields, body)
            .await
            .problem(403, "caller_forbidden");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("cannot be read"),
            "{path}: {problem}"
        );
        let response = post(&gateway, "free", path, fields, body).await;
        if path.contains("Machines") {
            // No batch is documented there.
            response.problem(400, "bad_request");
            continue;
        }
        assert_eq!(response.status(), 200, "{path}");
        upstream.request().await;
    }
    for body in [
        multipart,
        "{}",
        "[]",
        r#"{"Items":[{"RelativeUrl":"Machines","relativeUrl":"x"}]}"#,
    ] {
        post(&gateway, "a", "/cvad/manage/$batch", "", body)
            .await
            .problem(400, "bad_request");
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn batch_path_without_a_rule_is_rejected() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(
        &upstream,
        &block("a", "paths = ['/cvad/manage/Machines/**']"),
    )
    .start()
    .await;
    let body = batch(&[("GET", "Machines", "")]);
    post(&gateway, "a", "/cvad/manage/$batch", "", &body)
        .await
        .problem(403, "caller_forbidden");
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn batch_with_overlong_item_paths_is_rejected() {
    let upstream = Upstream::responding(OK).await;
    let route = format!(
        "[[route]]\nprefix = '/direct/acme'\nupstream = '{}'\n",
        upstream.url()
    );
    let blocks = block("a", "paths = ['/direct/acme/**']") + &block("free", "") + &route;
    let gateway = in_front_of(&upstream, &blocks).start().await;
    let body = batch(&[("GET", "acme/site/Machines", "")]);
    let below = |site: &str| format!("/direct/acme/citrix/orchestration/api/acme/{site}/$batch");
    assert_eq!(
        post(&gateway, "a", &below("site"), "", &body)
            .await
            .status(),
        200
    );
    let long = below(&"s".repeat(500));
    let problem = post(&gateway, "a", &long, "", &body)
        .await
        .problem(403, "caller_forbidden");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("cannot be read"),
        "{problem}"
    );
    assert_eq!(post(&gateway, "free", &long, "", &body).await.status(), 200);
}
