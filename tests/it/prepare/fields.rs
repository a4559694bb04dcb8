//! Fields of requests that only the caller may decide on, and the one that is counted down.

use http::Request;
use testkit::http2::{HEADERS, Http2Upstream};

use super::forwarded;
use crate::harness::{Gateway, Message, OK, Upstream, get_with, within_timeout};
use crate::send::http2::in_front_of;

/// Conditions, ranges and cache directives, which only an origin server or a cache evaluates, and
/// fields of one name whose order matters.
const UNCHANGED: [(&str, &str); 12] = [
    ("x-many", "1"),
    ("if-none-match", "\"a\", W/\"b\""),
    ("x-many", "2, 3"),
    ("if-none-match", "\"c\""),
    ("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT"),
    ("if-unmodified-since", "not a date"),
    ("range", "bytes=5-4, pages=1-2"),
    ("if-range", "W/\"weak\""),
    ("cache-control", "no-cache, x-own=\"a, b\""),
    ("x-many", ""),
    ("cache-control", "no-transform"),
    ("pragma", "no-cache"),
];

fn assert_unchanged(request: &Message, sent_as: &str) {
    for (name, _) in UNCHANGED {
        let of_name = |(each, value)| (each == name).then_some(value);
        let sent: Vec<_> = UNCHANGED.into_iter().filter_map(of_name).collect();
        assert_eq!(request.fields(name), sent, "{sent_as} {name}");
    }
}

#[tokio::test]
async fn rfc9110_13_2_1_conditions_ranges_and_directives_are_left_to_the_upstream() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    let fields = UNCHANGED.map(|(name, value)| format!("{name}: {value}\r\n"));
    for path in ["/x", "/monitorodata/Machines"] {
        let response = gateway.raw(get_with(path, &fields.concat())).await;
        assert_eq!(response.status(), 200);
        assert_unchanged(&upstream.request().await, "HTTP/1.1");
        let request = Request::get(gateway.url(path));
        let request = UNCHANGED
            .into_iter()
            .fold(request, |request, (name, value)| {
                request.header(name, value)
            });
        let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(within_timeout(response).await.unwrap().status(), 200);
        assert_unchanged(&upstream.request().await, "HTTP/2");
    }
}

#[tokio::test]
async fn rfc9110_7_6_2_options_request_is_forwarded_as_often_as_it_permits() {
    let options = |fields: &str| get_with("/x", fields).replace("GET", "OPTIONS");
    for (sent, left) in [
        ("", None),
        ("Max-Forwards: 1\r\n", Some("0")),
        ("Max-Forwards: 10\r\n", Some("9")),
    ] {
        let request = forwarded(options(sent)).await;
        assert_eq!(request.field("max-forwards").as_deref(), left, "{sent}");
    }
    // It has no meaning for other methods.
    let request = forwarded(get_with("/x", "Max-Forwards: 0\r\n")).await;
    assert_eq!(request.field("max-forwards").as_deref(), Some("0"));

    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for fields in ["Max-Forwards: 0\r\n", "Max-Forwards: x\r\n"] {
        let response = gateway.raw(options(fields)).await;
        response.problem(400, "bad_request");
    }
    let mut http2 = gateway.http2().await;
    let request = Request::options(gateway.url("/x")).header("max-forwards", "0");
    let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
    assert_eq!(within_timeout(response).await.unwrap().status(), 400);
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn rfc9110_7_6_1_trailer_that_connection_names_is_not_forwarded() {
    // Over HTTP/1.1 no trailers are forwarded.
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let mut wire = None;
    for (connection, is_forwarded) in [("close", true), ("close, X-Sum", false)] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
        );
        let serve = async {
            let mut wire = match wire.take() {
                Some(wire) => wire,
                None => upstream.connection().await,
            };
            wire.head().await;
            let last = loop {
                let frame = wire.next().await.unwrap();
                if frame.ends_stream() {
                    break frame;
                }
            };
            let has_trailers = last.kind == HEADERS && !last.payload.is_empty();
            assert_eq!(has_trailers, is_forwarded, "{connection}");
            wire.respond(last.stream, "{}").await;
            wire
        };
        let (response, served) = tokio::join!(gateway.raw(request), serve);
        assert_eq!(response.status(), 200);
        wire = Some(served);
    }
}
