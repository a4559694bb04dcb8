//! Admission of requests (interface §4.1).

use http::Request;

use crate::harness::{Gateway, OK, Upstream, get, get_with, within_timeout};

async fn gateway_and_upstream(toml: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::responding(OK).await;
    (
        Gateway::in_front_of(&upstream).with(toml).start().await,
        upstream,
    )
}

#[tokio::test]
async fn rfc9112_3_2_missing_repeated_or_invalid_host_returns_400() {
    let (gateway, upstream) = gateway_and_upstream("").await;
    for hosts in [
        "",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nHost: other\r\n",
        "Host:\r\n",
        "Host: user@localhost\r\n",
        "Host: localhost/path\r\n",
        "Host: localhost:http\r\n",
        "Host: local host\r\n",
    ] {
        let response = gateway.raw(format!("GET / HTTP/1.1\r\n{hosts}\r\n")).await;
        response.problem(400, "bad_request");
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn rfc9110_9_3_6_connect_trace_and_asterisk_are_not_forwarded() {
    let (gateway, upstream) = gateway_and_upstream("").await;
    for line in [
        "CONNECT localhost:443",
        "TRACE /",
        "TRACK /",
        "DEBUG /",
        "PRI /",
        "OPTIONS *",
    ] {
        let request =
            format!("{line} HTTP/1.1\r\nHost: localhost:443\r\nConnection: close\r\n\r\n");
        gateway.raw(request).await.problem(400, "bad_request");
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn http2_methods_that_reflect_or_debug_are_not_forwarded() {
    let (gateway, upstream) = gateway_and_upstream("").await;
    let mut http2 = gateway.http2().await;
    for method in ["TRACE", "TRACK", "DEBUG", "PRI"] {
        let request = Request::builder().method(method).uri(gateway.url("/"));
        let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
        let response = within_timeout(response).await.unwrap();
        assert_eq!(response.status(), 400, "{method}");
        assert_eq!(response.headers()["x-proxy-error"], "bad_request");
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn rfc9110_7_4_foreign_host_returns_421() {
    let (gateway, upstream) = gateway_and_upstream("[listen]\nhosts = [\"gw.example.net\"]").await;
    for (host, status) in [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("10.1.2.3", 200),
        ("GW.Example.Net:443", 200),
        ("rebound.example", 421),
        ("gw.example.net.evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.nip.io", 421),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let response = gateway.raw(request).await;
        if status == 421 {
            response.problem(421, "foreign_host");
        } else {
            assert_eq!(response.status(), 200, "{host}");
            upstream.request().await;
        }
    }
    // An absolute target also names a host.
    gateway
        .raw(get("http://rebound.example/"))
        .await
        .problem(421, "foreign_host");
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn http2_foreign_authority_returns_421() {
    let (gateway, upstream) = gateway_and_upstream("").await;
    let mut http2 = gateway.http2().await;
    let request = Request::get("http://rebound.example/").body(()).unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    let response = within_timeout(response).await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()["x-proxy-error"]
        ),
        (421, &"foreign_host".parse().unwrap())
    );
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn any_host_is_served_if_configured() {
    let (gateway, _upstream) = gateway_and_upstream("[listen]\nhosts = [\"*\"]").await;
    let request = "GET / HTTP/1.1\r\nHost: anything.example\r\nConnection: close\r\n\r\n";
    assert_eq!(gateway.raw(request).await.status(), 200);
}

#[tokio::test]
async fn cross_site_requests_return_403() {
    let (gateway, upstream) = gateway_and_upstream("").await;
    for (fields, allowed) in [
        ("Sec-Fetch-Site: cross-site\r\n", false),
        ("Sec-Fetch-Site: same-site\r\n", false),
        ("Origin: http://localhost:3000\r\n", false),
        ("Origin: https://evil.example\r\n", false),
        ("Origin: null\r\n", false),
        ("Sec-Fetch-Site: none\r\n", true),
        (
            "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost\r\n",
            true,
        ),
        // Node's fetch sends it.
        ("Sec-Fetch-Mode: cors\r\n", true),
    ] {
        let response = gateway.raw(get_with("/", fields)).await;
        if allowed {
            assert_eq!(response.status(), 200, "{fields}");
            upstream.request().await;
        } else {
            response.problem(403, "caller_forbidden");
        }
        assert!(
            !response
                .names()
                .iter()
                .any(|name| name.starts_with("access-control")),
            "{fields}"
        );
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn unconfigured_customer_returns_403() {
    let (gateway, upstream) = gateway_and_upstream("").await;
    for fields in [
        "Citrix-CustomerId: other\r\n",
        "Citrix-CustomerId: acme\r\nCitrix-CustomerId: other\r\n",
    ] {
        gateway
            .raw(get_with("/", fields))
            .await
            .problem(403, "customer_forbidden");
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn rfc9110_15_5_14_content_length_above_the_limit_returns_413_unread() {
    let (gateway, upstream) = gateway_and_upstream("[limits]\nmax_body_bytes = 1000").await;
    let mut caller = gateway.connect().await;
    // The response arrives before any byte of the body is sent or requested.
    caller
        .write("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
        .await;
    caller.response().await.problem(413, "body_too_large");
    caller.closed().await;
    let allowed = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{}",
        "x".repeat(1000)
    );
    assert_eq!(gateway.raw(allowed).await.status(), 200);
    assert_eq!(upstream.request().await.body.len(), 1000);
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn rfc9110_15_5_14_chunked_body_above_the_limit_returns_413() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_body_bytes = 1000")
        .start()
        .await;
    let mut caller = gateway.connect().await;
    caller
        .write("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    caller
        .write(format!("258\r\n{}\r\n", "x".repeat(600)))
        .await;
    let mut wire = upstream.connection().await;
    wire.head().await;
    caller
        .write(format!("258\r\n{}\r\n", "x".repeat(600)))
        .await;
    caller.response().await.problem(413, "body_too_large");
    // The upstream must not take the part for a complete request.
    assert!(!wire.rest().await.ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn rejected_head_request_has_no_body() {
    let (gateway, _upstream) = gateway_and_upstream("").await;
    let request = "HEAD / HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n";
    let (response, rest) = gateway.raw_head(request).await;
    assert_eq!((response.status(), rest.len()), (421, 0));
    assert_eq!(
        response.field("x-proxy-error").as_deref(),
        Some("foreign_host")
    );
    assert!(
        response
            .field("content-length")
            .unwrap()
            .parse::<usize>()
            .unwrap()
            > 100
    );
}
