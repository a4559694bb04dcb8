//! The response as the caller sees it (interface §4.2).

mod fields;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use testkit::http2::{DATA, END_STREAM, Http2Upstream};

use crate::callers::block;
use crate::harness::{Gateway, Message, OK, TOKEN, Upstream, get, get_with, within_timeout};

/// Returns the caller's response to `request` for an upstream `response`.
async fn response_to(request: &str, response: &str) -> (Message, Gateway) {
    let upstream = Upstream::responding(response).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    (gateway.raw(request).await, gateway)
}

#[tokio::test]
async fn rfc9110_7_6_1_hop_by_hop_and_nominated_response_fields_are_stripped() {
    let response = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Authenticate: Basic\r\nProxy-Connection: keep-alive\r\nTrailer: x\r\nUpgrade: h2c\r\n\
        X-Private: 1\r\nAlt-Svc: h3=\":443\"\r\nX-Kept: yes\r\nCache-Control: no-cache\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
        Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 2\r\n\r\n{}";
    let (response, _gateway) =
        response_to("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", response).await;
    assert_eq!(
        response.names(),
        [
            "cache-control",
            "citrix-transactionid",
            "content-length",
            "date",
            "set-cookie",
            "set-cookie",
            "x-kept",
            "x-proxy-request-id"
        ]
    );
    assert_eq!(
        response.field("date").as_deref(),
        Some("Thu, 01 Jan 2026 00:00:00 GMT")
    );
    assert_eq!(response.fields("set-cookie"), ["a=1", "b=2"]);
}

/// Fields that hold for Citrix's host name, or that only the gateway sends.
const UPSTREAM_ONLY: &str = "Strict-Transport-Security: max-age=31536000\r\n\
    Public-Key-Pins: pin-sha256=\"x\"; max-age=1\r\nExpect-CT: max-age=1\r\nNEL: {}\r\n\
    Report-To: {}\r\nAlt-Svc: h3=\":443\"\r\nX-Proxy-Error: token_unavailable\r\n\
    X-Proxy-Other: x\r\nClear-Site-Data: \"*\"\r\nService-Worker-Allowed: /\r\n\
    Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\
    Access-Control-Expose-Headers: *\r\nReporting-Endpoints: d=\"https://evil.example\"\r\n\
    Origin-Agent-Cluster: ?1\r\nAccept-CH: DPR\r\nCritical-CH: DPR\r\nSet-Login: logged-out\r\n";

#[tokio::test]
async fn policies_for_the_upstream_host_and_gateway_fields_are_stripped() {
    for status in ["200 OK", "404 Not Found", "503 Service Unavailable"] {
        let response = format!(
            "HTTP/1.1 {status}\r\n{UPSTREAM_ONLY}X-Proxy-Request-Id: theirs\r\nX-Kept: yes\r\n\
             Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        // A POST is sent once, whatever the status.
        let request = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        let (response, _gateway) = response_to(request, &response).await;
        assert_eq!(
            response.names(),
            [
                "cache-control",
                "citrix-transactionid",
                "content-length",
                "date",
                "x-kept",
                "x-proxy-request-id"
            ]
        );
        assert_ne!(
            response.field("x-proxy-request-id").as_deref(),
            Some("theirs")
        );
    }
}

#[tokio::test]
async fn rfc9111_3_5_shared_caches_must_not_store_what_no_authorization_admitted() {
    let secret = "c4nary-caller";
    let network = "[[caller]]\nname = \"net\"\nnetworks = [\"127.0.0.0/8\"]\n";
    let callers = block("a", secret, "") + network;
    let basic = format!(
        "Authorization: Basic {}\r\n",
        STANDARD.encode(format!("a:{secret}"))
    );
    let bearer = format!("Authorization: Bearer {secret}\r\n");
    let key = format!("X-Api-Key: {secret}\r\n");
    let stale = "Authorization: CwsAuth Bearer=an-old-citrix-token\r\n";
    for (callers, fields, sent, received) in [
        ("", "", "", Some("private")),
        ("", stale, "", Some("private")),
        ("", "", "Cache-Control: public\r\n", Some("public")),
        (&callers, "", "", Some("private")),
        (&callers, stale, "", Some("private")),
        (&callers, &key, "", Some("private")),
        (&callers, &basic, "", None),
        (&callers, &bearer, "", None),
        (
            &callers,
            &key,
            "Cache-Control: max-age=5\r\n",
            Some("max-age=5"),
        ),
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{sent}Content-Length: 2\r\n\r\n{{}}");
        let upstream = Upstream::responding(response).await;
        let gateway = Gateway::in_front_of(&upstream).with(callers).start().await;
        let response = gateway.raw(get_with("/", fields)).await;
        assert_eq!(
            response.field("cache-control").as_deref(),
            received,
            "{fields}"
        );
    }
}

#[tokio::test]
async fn rfc9110_6_5_1_trailers_follow_the_rules_for_header_fields() {
    let response = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n{UPSTREAM_ONLY}\
         X-Sum: 1\r\nX-Echo: CwsAuth Bearer={TOKEN}1\r\nX-Proxy-Request-Id: theirs\r\n\
         Set-Cookie: s=1\r\nLocation: https://api.cloud.com/\r\nConnection: X-Named\r\nX-Named: 1\r\n\r\n"
    );
    let upstream = Upstream::responding(response).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    for path in ["/", "/monitorodata/Machines"] {
        let request = Request::get(gateway.url(path)).body(()).unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        let mut body = within_timeout(response).await.unwrap().into_body();
        while let Some(data) = within_timeout(body.data()).await {
            data.unwrap();
        }
        let trailers = within_timeout(body.trailers()).await.unwrap().unwrap();
        assert!(trailers.keys().eq(["x-sum"]), "{path}: {trailers:?}");
    }
}

#[tokio::test]
async fn echoed_token_is_stripped() {
    let response = format!(
        "HTTP/1.1 200 OK\r\nX-Echo: CwsAuth Bearer={TOKEN}1\r\nAuthorization: Bearer {TOKEN}1\r\n\
         X-Harmless: c4nary-token\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    let (response, _gateway) = response_to(&get("/"), &response).await;
    assert!(!String::from_utf8_lossy(&response.head).contains(TOKEN));
    assert!(response.has("x-harmless"));
}

#[tokio::test]
async fn status_and_body_pass_unchanged() {
    for status in [
        "201 Created",
        "404 Not Found",
        "409 Conflict",
        "418 I'm a teapot",
        "500 Oops",
        "599 Odd",
    ] {
        let body = r#"{"detail":"from Citrix"}"#;
        let length = body.len();
        let response = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let (response, _gateway) = response_to(&get("/"), &response).await;
        assert_eq!(response.status().to_string(), status[..3]);
        assert_eq!(response.text(), body);
        // A Citrix response, not a gateway error.
        assert!(!response.has("x-proxy-error"));
    }
}

#[tokio::test]
async fn rfc9110_9_3_2_head_response_keeps_its_length_and_has_no_body() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-Kept: yes\r\n\r\n";
    let upstream = Upstream::responding(head).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let request = "HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for _ in 0..2 {
        let (response, rest) = gateway.raw_head(request).await;
        assert_eq!((response.status(), rest.as_slice()), (200, &b""[..]));
        assert_eq!(response.field("content-length").as_deref(), Some("1234"));
    }
    let mut http2 = gateway.http2().await;
    let request = Request::head(gateway.url("/")).body(()).unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    let response = within_timeout(response).await.unwrap();
    assert_eq!(response.headers()["content-length"], "1234");
    assert!(within_timeout(response.into_body().data()).await.is_none());
    assert_eq!(upstream.request().await.line(), "HEAD / HTTP/1.1");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn rfc9110_15_bodiless_responses_have_no_body() {
    for head in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n",
    ] {
        let (response, gateway) = response_to(&get("/"), head).await;
        assert_eq!(response.line(), head.split("\r\n").next().unwrap());
        assert!(!response.has("transfer-encoding"));
        if response.status() == 204 {
            assert!(!response.has("content-length"));
        }
        let (_, rest) = gateway.raw_head(get("/")).await;
        assert_eq!(rest, b"", "{head}");
    }
}

#[tokio::test]
async fn rfc9110_8_6_empty_response_has_content_length_0() {
    let (response, _gateway) =
        response_to(&get("/"), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(response.field("content-length").as_deref(), Some("0"));
    assert!(response.complete && response.body.is_empty());
}

const REWRITTEN: &str = "/monitorodata/Machines";
const REJECTED: Option<&str> = Some("rejected");

#[tokio::test]
async fn rfc9110_8_6_equal_content_lengths_become_one() {
    for fields in [
        "Content-Length: 2, 2",
        "Content-Length: 2\r\nContent-Length: 2",
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}\r\n\r\n");
        let upstream = Upstream::scripted_by_request(move |_, request| {
            let body = if request.line().starts_with("HEAD") {
                ""
            } else {
                "{}"
            };
            (head.clone() + body).into_bytes()
        })
        .await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let plain = gateway.raw(get("/")).await;
        assert_eq!(
            plain.field("content-length").as_deref(),
            Some("2"),
            "{fields}"
        );
        assert_eq!(plain.text(), "{}");
        let rewritten = gateway.raw(get(REWRITTEN)).await;
        assert_eq!(rewritten.text(), "{}");
        assert!(!rewritten.has("content-length"), "{fields}");
        let (head, _) = gateway.raw_head(get("/").replace("GET", "HEAD")).await;
        assert_eq!(
            head.field("content-length").as_deref(),
            Some("2"),
            "{fields}"
        );
        let mut http2 = gateway.http2().await;
        let request = Request::get(gateway.url("/")).body(()).unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        let response = within_timeout(response).await.unwrap();
        let lengths = response.headers().get_all("content-length");
        assert_eq!(lengths.iter().collect::<Vec<_>>(), ["2"], "{fields}");
        assert_eq!(
            within_timeout(response.into_body().data())
                .await
                .unwrap()
                .unwrap(),
            "{}"
        );
    }
}

#[tokio::test]
async fn rfc9110_8_6_response_204_has_no_content_length() {
    for length in ["0", "6"] {
        let response = format!("HTTP/1.1 204 No Content\r\nContent-Length: {length}\r\n\r\n");
        let upstream = Upstream::responding(response).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let mut http2 = gateway.http2().await;
        for method in ["GET", "HEAD", "DELETE"] {
            let (head, _) = gateway.raw_head(get("/").replace("GET", method)).await;
            assert!(!head.has("content-length"), "{method} {length}");
            let request = Request::builder().method(method).uri(gateway.url("/"));
            let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
            let response = within_timeout(response).await.unwrap();
            assert_eq!(response.status(), 204);
            assert!(
                !response.headers().contains_key("content-length"),
                "{method} {length}"
            );
        }
    }
}

#[tokio::test]
async fn rfc9112_6_3_contradicting_content_lengths_return_502() {
    for fields in [
        "Content-Length: 2, 3",
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: +2",
    ] {
        for status in ["200 OK", "204 No Content"] {
            let response = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{fields}\r\n\r\n{{}}"
            );
            let upstream = Upstream::responding(response).await;
            let gateway = Gateway::in_front_of(&upstream).start().await;
            for path in ["/", REWRITTEN] {
                gateway.raw(get(path)).await.problem(502, "upstream_broken");
                let (head, _) = gateway.raw_head(get(path).replace("GET", "HEAD")).await;
                assert_eq!(head.status(), 502, "{fields}");
            }
        }
    }
}

#[tokio::test]
async fn rfc9113_8_1_1_content_lengths_over_http2_become_one_or_return_502() {
    for (path, lengths, expected) in [
        ("/", &["2", "2"][..], Some("2")),
        ("/", &["2", "02"], Some("2")),
        (REWRITTEN, &["2", "2"], None),
        // h2 rejects a list.
        ("/", &["2, 2"], REJECTED),
        ("/", &["2", "3"], REJECTED),
        (REWRITTEN, &["2", "3"], REJECTED),
        ("/", &["+2"], REJECTED),
    ] {
        let upstream = Http2Upstream::start().await;
        let gateway = Gateway::with_api_url(&upstream.url())
            .set("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE", &upstream.ca_file())
            .start()
            .await;
        let serve = async {
            let mut wire = upstream.connection().await;
            let (stream, _) = wire.request().await;
            let mut fields = vec![(":status", "200"), ("content-type", "application/json")];
            fields.extend(lengths.iter().map(|length| ("content-length", *length)));
            wire.write_fields(stream, &fields, 0).await;
            wire.write(DATA, END_STREAM, stream, b"{}").await;
            wire
        };
        let (response, _wire) = tokio::join!(gateway.raw(get(path)), serve);
        if expected == REJECTED {
            response.problem(502, "upstream_broken");
        } else {
            assert_eq!(response.text(), "{}", "{lengths:?}");
            assert_eq!(
                response.field("content-length").as_deref(),
                expected,
                "{lengths:?}"
            );
        }
    }
}

#[tokio::test]
async fn rfc9110_6_2_status_line_has_the_gateways_version() {
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        for framing in ["Content-Length: 2\r\n", ""] {
            let head =
                format!("{version} 200 OK\r\nContent-Type: application/json\r\n{framing}\r\n");
            let upstream = Upstream::manual().await;
            let gateway = Gateway::in_front_of(&upstream).start().await;
            for path in ["/", REWRITTEN] {
                let mut caller = gateway.connect().await;
                caller.write(get(path)).await;
                let mut wire = upstream.connection().await;
                wire.request().await;
                wire.write(format!("{head}{{}}")).await;
                drop(wire);
                let response = caller.response().await;
                assert_eq!(response.line(), "HTTP/1.1 200 OK", "{head}");
                assert!(response.has("content-length") || response.has("transfer-encoding"));
                assert_eq!((response.text().as_str(), response.complete), ("{}", true));
            }
        }
    }
}

#[tokio::test]
async fn rfc9112_7_1_http_1_0_response_is_not_chunked() {
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n";
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
    ] {
        let (response, _gateway) = response_to(request, chunked).await;
        assert!(!response.has("transfer-encoding"), "{request}");
        assert!(!response.has("content-length"), "{request}");
        assert_eq!(response.text(), "onetwo");
    }
}

#[tokio::test]
async fn rfc9112_9_3_http_1_0_connection_persists_only_with_keep_alive() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller.write("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(caller.response().await.text(), "{}");
    caller.closed().await;
    let mut caller = gateway.connect().await;
    for _ in 0..2 {
        caller
            .write("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .await;
        let response = caller.response().await;
        assert_eq!(response.text(), "{}");
        assert_eq!(
            response
                .field("connection")
                .map(|text| text.to_ascii_lowercase())
                .as_deref(),
            Some("keep-alive")
        );
    }
    // The upstream request still uses HTTP/1.1.
    assert_eq!(upstream.request().await.line(), "GET / HTTP/1.1");
}

#[tokio::test]
async fn rfc9113_8_2_2_connection_fields_are_stripped_for_http2_callers() {
    let response = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\
        Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let upstream = Upstream::responding(response).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    let request = Request::get(gateway.url("/")).body(()).unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    let response = within_timeout(response).await.unwrap();
    for name in ["connection", "keep-alive", "transfer-encoding"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    assert_eq!(
        within_timeout(response.into_body().data())
            .await
            .unwrap()
            .unwrap(),
        "{}"
    );
}

#[tokio::test]
async fn rfc9112_7_1_2_trailers_are_forwarded_to_http2_callers_only() {
    // Permitted or not.
    let response = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, x-echo\r\n\r\n\
         2\r\n{{}}\r\n0\r\nX-Sum: 1\r\nX-Echo: CwsAuth Bearer={TOKEN}1\r\nLocation: /x\r\n\r\n"
    );
    let upstream = Upstream::responding(response).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for path in ["/", "/monitorodata/Machines"] {
        for fields in ["", "TE: trailers\r\n", "TE: trailers\r\nConnection: TE\r\n"] {
            let response = gateway.raw(get_with(path, fields)).await;
            assert_eq!((response.text().as_str(), response.complete), ("{}", true));
            let framed = String::from_utf8(response.framed.clone()).unwrap();
            assert_eq!(framed, "2\r\n{}\r\n0\r\n\r\n", "{path} {fields}");
            assert!(!response.has("x-sum") && !response.has("location"));
        }
        let mut http2 = gateway.http2().await;
        let request = Request::get(gateway.url(path)).body(()).unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        let (head, mut body) = within_timeout(response).await.unwrap().into_parts();
        assert!(!head.headers.contains_key("x-sum"));
        while let Some(data) = within_timeout(body.data()).await {
            assert_eq!(data.unwrap(), "{}");
        }
        let trailers = within_timeout(body.trailers()).await.unwrap().unwrap();
        assert!(
            trailers
                .iter()
                .map(|(name, value)| (name.as_str(), value))
                .eq([("x-sum", &http::HeaderValue::from_static("1"))])
        );
    }
}

#[tokio::test]
async fn rules_for_fields_and_trailers_hold_for_http2_upstreams() {
    let upstream = Http2Upstream::start().await;
    let gateway = Gateway::in_front_of(&Upstream::refusing())
        .set("CITRIX_AUTH_PROXY_CITRIX__API_URL", &upstream.url())
        .with(&format!("[upstream]\nca_file = {:?}", upstream.ca_file()))
        .start()
        .await;
    let echo = format!("CwsAuth Bearer={TOKEN}1");
    let forbidden = [
        ("strict-transport-security", "max-age=1"),
        ("nel", "{}"),
        ("x-proxy-error", "overloaded"),
        ("x-echo", &echo),
    ];
    let serve = async {
        let mut wire = upstream.connection().await;
        let (stream, _) = wire.request().await;
        let head = [&[(":status", "200"), ("x-kept", "1")], &forbidden[..]].concat();
        wire.write_fields(stream, &head, 0).await;
        wire.write(DATA, 0, stream, b"{}").await;
        let trailers = [&[("x-sum", "1")], &forbidden[..]].concat();
        wire.write_fields(stream, &trailers, END_STREAM).await;
        wire
    };
    let mut http2 = gateway.http2().await;
    let request = Request::get(gateway.url("/")).body(()).unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    let (response, _wire) = tokio::join!(within_timeout(response), serve);
    let (head, mut body) = response.unwrap().into_parts();
    assert!(head.headers.contains_key("x-kept"));
    while let Some(data) = within_timeout(body.data()).await {
        data.unwrap();
    }
    let trailers = within_timeout(body.trailers()).await.unwrap().unwrap();
    assert!(trailers.keys().eq(["x-sum"]), "{trailers:?}");
    for (name, _) in forbidden {
        assert!(!head.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn rfc9110_15_2_interim_responses_without_end_return_502() {
    for (count, status) in [(16, 200), (1000, 502)] {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(count);
        let (response, _gateway) = response_to(&get("/"), &(interim + OK)).await;
        assert_eq!(response.status(), status, "{count}");
    }
}
