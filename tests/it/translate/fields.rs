//! Fields of responses that only the upstream may decide on, and the one that the gateway adds.

use http::Request;

use crate::harness::{Gateway, OK, Upstream, get, within_timeout};

/// Fields that an intermediary must not modify, and fields of one name whose order matters.
const UNCHANGED: [(&str, &str); 14] = [
    ("allow", "GET, PATCH"),
    ("www-authenticate", "CwsAuth realm=\"a, b\""),
    ("x-many", "1"),
    ("www-authenticate", "Bearer, Basic realm=\"c\""),
    ("vary", "Accept"),
    ("x-many", "2, 3"),
    ("cache-control", "max-age=5, x-own=\"a, b\""),
    ("cache-control", "no-store"),
    ("x-many", ""),
    ("age", "3"),
    ("expires", "0"),
    ("content-range", "bytes 5-4/3"),
    ("accept-ranges", "none"),
    ("retry-after", "Sunday, 06-Nov-94 08:49:37 GMT"),
];

/// Returns the values of a field in [`UNCHANGED`].
fn values(name: &str) -> Vec<&'static str> {
    let of_name = |(each, value)| (each == name).then_some(value);
    UNCHANGED.into_iter().filter_map(of_name).collect()
}

#[tokio::test]
async fn rfc9110_5_3_fields_of_the_upstream_pass_unchanged_and_in_order() {
    let fields = UNCHANGED.map(|(name, value)| format!("{name}: {value}\r\n"));
    let response = format!(
        "HTTP/1.1 405 Method Not Allowed\r\n{}Content-Length: 2\r\n\r\n{{}}",
        fields.concat()
    );
    let upstream = Upstream::responding(response).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    for path in ["/x", "/monitorodata/Machines"] {
        let over_http1 = gateway.raw(get(path)).await;
        let request = Request::get(gateway.url(path)).body(()).unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        let over_http2 = within_timeout(response).await.unwrap();
        for (name, _) in UNCHANGED {
            assert_eq!(over_http1.fields(name), values(name), "{path} {name}");
            let fields = over_http2.headers().get_all(name).iter();
            assert_eq!(fields.collect::<Vec<_>>(), values(name), "{path} {name}");
        }
    }
}

#[tokio::test]
async fn rfc9110_6_6_1_response_without_date_gets_one() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    // Citrix's response, and one of the gateway itself.
    for (authority, status) in [("localhost", 200), ("rebound.example", 421)] {
        let over_http1 = gateway.raw(get("/").replace("localhost", authority)).await;
        let request = Request::get(format!("http://{authority}/"))
            .body(())
            .unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        let over_http2 = within_timeout(response).await.unwrap();
        assert_eq!(over_http2.status(), status);
        let date = over_http2.headers().get("date").map(|date| date.to_str());
        for date in [
            over_http1.field("date").as_deref(),
            date.and_then(Result::ok),
        ] {
            let date = date.unwrap_or_else(|| panic!("{status} without Date"));
            let parsed = httpdate::parse_http_date(date).unwrap();
            // The one format that senders use (RFC 9110 section 5.6.7).
            assert_eq!(httpdate::fmt_http_date(parsed), date);
        }
    }
}

#[tokio::test]
async fn rfc9112_4_status_line_without_a_reason_keeps_its_space() {
    for line in ["HTTP/1.1 599 ", "HTTP/1.1 599"] {
        let response = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        let upstream = Upstream::responding(response).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let response = gateway.raw(get("/")).await;
        assert!(response.line().starts_with("HTTP/1.1 599 "), "{line}");
    }
}

#[tokio::test]
async fn rfc9110_7_6_1_trailer_that_connection_names_is_not_forwarded() {
    for (connection, forwarded) in [("keep-alive", true), ("keep-alive, X-Sum", false)] {
        let response = format!(
            "HTTP/1.1 200 OK\r\nConnection: {connection}\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\n{{}}\r\n0\r\nX-Sum: 1\r\n\r\n"
        );
        let upstream = Upstream::responding(response).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let mut http2 = gateway.http2().await;
        let request = Request::get(gateway.url("/")).body(()).unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        let mut body = within_timeout(response).await.unwrap().into_body();
        while let Some(data) = within_timeout(body.data()).await {
            data.unwrap();
        }
        let trailers = within_timeout(body.trailers()).await.unwrap();
        let has_sum = trailers.is_some_and(|trailers| trailers.contains_key("x-sum"));
        assert_eq!(has_sum, forwarded, "{connection}");
    }
}
