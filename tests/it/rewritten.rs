//! HTTP properties of rewritten responses: framing, completeness, validators.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Request;
use testkit::http2::{DATA, END_STREAM, Http2Upstream};

use crate::harness::{Gateway, OK, Upstream, get, get_with, within_timeout};

/// Method, status and `Content-Length` of responses without content over HTTP/2.
const WITHOUT_CONTENT: [(&str, &str, Option<&str>); 4] = [
    ("HEAD", "200", Some("99")),
    ("POST", "202", Some("0")),
    ("GET", "204", None),
    ("GET", "304", Some("99")),
];
const JSON: &str = "Content-Type: application/json\r\n";

/// Returns a page with a link to the next page.
fn page(host: &str) -> String {
    format!(r#"{{"value":[],"@odata.nextLink":"{host}/monitorodata/Machines?$skip=1"}}"#)
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[tokio::test]
async fn http2_rewritten_response_ends_its_stream_and_links_to_the_authority() {
    let upstream = Upstream::reflecting(|own| {
        let body = page(own);
        format!(
            "HTTP/1.1 200 OK\r\n{JSON}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into()
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    for _ in 0..2 {
        let request = Request::get("http://localhost:81/monitorodata/Machines")
            .body(())
            .unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        let response = within_timeout(response).await.unwrap();
        assert!(!response.headers().contains_key("content-length"));
        let (mut body, mut text) = (response.into_body(), Vec::new());
        while let Some(piece) = within_timeout(body.data()).await {
            let piece: Bytes = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            text.extend(piece);
        }
        assert!(body.is_end_stream());
        assert_eq!(
            String::from_utf8(text).unwrap(),
            page("http://localhost:81")
        );
    }
}

#[tokio::test]
async fn rfc9112_7_1_chunked_response_with_trailers_is_rewritten_whole() {
    for coding in ["", "Content-Encoding: gzip\r\n"] {
        let upstream = Upstream::reflecting(move |own| {
            let body = if coding.is_empty() {
                page(own).into_bytes()
            } else {
                gzipped(&page(own))
            };
            let head = format!("HTTP/1.1 200 OK\r\n{JSON}{coding}Trailer: x-sum\r\n");
            let (first, second) = body.split_at(body.len() / 2);
            let head = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
            [
                head.as_bytes(),
                &chunk(first),
                &chunk(second),
                b"0\r\nX-Sum: 1\r\n\r\n",
            ]
            .concat()
        })
        .await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let mut caller = gateway.connect().await;
        for _ in 0..2 {
            let fields = "Accept-Encoding: gzip\r\n";
            caller
                .write(
                    get_with("/monitorodata/Machines", fields).replace("Connection: close\r\n", ""),
                )
                .await;
            let response = caller.response().await;
            assert!(
                response.complete && response.has("transfer-encoding"),
                "{response:?}"
            );
            if coding.is_empty() {
                assert_eq!(response.text(), page("http://localhost"));
            }
        }
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn rfc9110_6_4_1_bodiless_responses_are_not_rewritten() {
    for (method, head) in [
        ("GET", "HTTP/1.1 204 No Content\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n"),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\n",
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 99\r\n",
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"),
    ] {
        let upstream = Upstream::responding(format!("{head}{JSON}\r\n")).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let request = get("/monitorodata/Machines").replace("GET", method);
        let (response, rest) = gateway.raw_head(&request).await;
        assert_eq!(
            (response.line().as_str(), rest.as_slice()),
            (head.split("\r\n").next().unwrap(), &b""[..])
        );
        let mut http2 = gateway.http2().await;
        let request = Request::builder()
            .method(method)
            .uri(gateway.url("/monitorodata/Machines"));
        let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
        let mut response = within_timeout(response).await.unwrap().into_body();
        while let Some(piece) = within_timeout(response.data()).await {
            assert!(piece.unwrap().is_empty(), "{head}");
        }
        assert_eq!(upstream.connections(), 1, "{method} {head}");
    }
}

#[tokio::test]
async fn rfc9110_6_4_1_response_without_content_keeps_its_head() {
    const FIELDS: &str = "Content-Encoding: gzip\r\nETag: \"x\"\r\nContent-Digest: sha-256=:x:\r\n";
    for (method, status, length) in [
        ("GET", "200 OK", Some("0")),
        ("POST", "202 Accepted", Some("0")),
        ("HEAD", "200 OK", Some("99")),
        ("HEAD", "200 OK", None),
        ("GET", "204 No Content", None),
        ("GET", "304 Not Modified", None),
    ] {
        let framing = length.map(|length| format!("Content-Length: {length}\r\n"));
        let framing = framing.unwrap_or_default();
        let head = format!("HTTP/1.1 {status}\r\n{JSON}{FIELDS}{framing}\r\n");
        let upstream = Upstream::responding(head.clone()).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let request = get("/monitorodata/Machines").replace("GET", method);
        for version in ["1.1", "1.0"] {
            let request = request.replace("HTTP/1.1", &format!("HTTP/{version}"));
            let (response, rest) = gateway.raw_head(request).await;
            let case = format!("{method} {head} to HTTP/{version}");
            assert_eq!(rest, b"", "{case}");
            assert_eq!(
                response.field("content-length").as_deref(),
                length,
                "{case}"
            );
            assert!(!response.has("transfer-encoding"), "{case}");
            assert_eq!(
                response.field("content-encoding").as_deref(),
                Some("gzip"),
                "{case}"
            );
            assert_eq!(response.field("etag").as_deref(), Some("\"x\""), "{case}");
            assert!(response.has("content-digest"), "{case}");
        }
        let mut http2 = gateway.http2().await;
        let request = Request::builder()
            .method(method)
            .uri(gateway.url("/monitorodata/Machines"));
        let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
        let response = within_timeout(response).await.unwrap();
        let field = |name| {
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap())
        };
        assert_eq!(field("content-length"), length, "{head}");
        assert_eq!(
            (field("content-encoding"), field("etag")),
            (Some("gzip"), Some("\"x\""))
        );
        assert!(
            within_timeout(response.into_body().data()).await.is_none(),
            "{head}"
        );
    }
}

#[tokio::test]
async fn rfc9110_6_4_1_http2_response_without_content_keeps_its_head() {
    let upstream = Http2Upstream::start().await;
    let gateway = Gateway::with_api_url(&upstream.url())
        .set("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE", &upstream.ca_file())
        .start()
        .await;
    let serve = async {
        let mut wire = upstream.connection().await;
        for (_, status, length) in WITHOUT_CONTENT {
            // END_STREAM on the head, then on an empty frame.
            for last in [true, false] {
                let (stream, _) = wire.request().await;
                let mut fields = vec![(":status", status), ("content-type", "application/json")];
                fields.push(("content-encoding", "gzip"));
                fields.extend(length.map(|length| ("content-length", length)));
                let flags = if last { END_STREAM } else { 0 };
                wire.write_fields(stream, &fields, flags).await;
                if !last {
                    wire.write(DATA, END_STREAM, stream, &[]).await;
                }
            }
        }
        wire
    };
    let call = async {
        let mut http2 = gateway.http2().await;
        for (method, _, length) in WITHOUT_CONTENT {
            let request = Request::builder()
                .method(method)
                .uri(gateway.url("/monitorodata/Machines"));
            let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
            let response = within_timeout(response).await.unwrap();
            let field = |name| {
                response
                    .headers()
                    .get(name)
                    .map(|value| value.to_str().unwrap())
            };
            assert_eq!(
                (field("content-length"), field("content-encoding")),
                (length, Some("gzip"))
            );
            assert!(within_timeout(response.into_body().data()).await.is_none());
            let request = get("/monitorodata/Machines").replace("GET", method);
            let (response, rest) = gateway.raw_head(request).await;
            assert_eq!(
                (rest.as_slice(), response.has("transfer-encoding")),
                (&b""[..], false)
            );
            assert!(response.has("content-encoding"));
        }
    };
    let (_wire, ()) = tokio::join!(serve, call);
    assert_eq!(upstream.connections(), 1);
    let metrics = gateway.metrics().await;
    assert!(!metrics.contains("code=\"499\""), "{metrics}");
}

#[tokio::test]
async fn caller_that_abandons_a_rewritten_response_releases_its_queue_permit() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller.write(get("/monitorodata/Machines")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write(format!(
        "HTTP/1.1 200 OK\r\n{JSON}Content-Length: 1000\r\n\r\n{{\"value\":["
    ))
    .await;
    assert_eq!(caller.head().await.status(), 200);
    let mut next = gateway.connect().await;
    next.write(get("/monitorodata/Users")).await;
    drop(caller);
    let mut wire = upstream.connection().await;
    assert_eq!(
        wire.request().await.line(),
        "GET /monitorodata/Users HTTP/1.1"
    );
    wire.write(OK).await;
    assert_eq!(next.response().await.text(), "{}");
}

#[tokio::test]
async fn rewritten_part_is_forwarded_before_the_rest_arrives() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller
        .write(get_with(
            "/monitorodata/Machines",
            "Accept-Encoding: gzip\r\n",
        ))
        .await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"{\"value\":[1,").unwrap();
    encoder.flush().unwrap();
    wire.write(format!(
        "HTTP/1.1 200 OK\r\n{JSON}Content-Encoding: gzip\r\nConnection: close\r\n\r\n"
    ))
    .await;
    wire.write(std::mem::take(encoder.get_mut())).await;
    assert_eq!(caller.head().await.status(), 200);
    // A chunk has a size, a line end and at least the ten bytes of the gzip header.
    assert!(!caller.bytes(16).await.is_empty());
    encoder.write_all(b"2]}").unwrap();
    wire.write(encoder.finish().unwrap()).await;
    drop(wire);
    assert!(caller.rest().await.ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn rfc9110_13_1_1_weakened_entity_tag_still_matches() {
    let upstream = Upstream::scripted_by_request(|number, request| match number {
        1 => {
            format!("HTTP/1.1 200 OK\r\n{JSON}ETag: \"v1\"\r\nContent-Length: 2\r\n\r\n{{}}").into()
        }
        _ if request
            .field("if-match")
            .unwrap()
            .split(", ")
            .any(|tag| tag == "\"v1\"") =>
        {
            OK.into()
        }
        _ => "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n".into(),
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let path = "/cvad/manage/Admin/Roles/1";
    let site = "Citrix-InstanceId: x\r\n";
    let tag = gateway
        .raw(get_with(path, site))
        .await
        .field("etag")
        .unwrap();
    assert_eq!(tag, "W/\"v1\"");
    let put = get_with(path, &format!("{site}If-Match: {tag}\r\n")).replace("GET", "PUT");
    assert_eq!(gateway.raw(put).await.status(), 200);
}
