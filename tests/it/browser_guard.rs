//! Requests that a real browser sends for a page of another site (interface §4.1). The heads are
//! those of Chromium 156 without the fields that no guard could use, with other origins and ports.

use http::Request;

use crate::harness::{Gateway, OK, Upstream, get, within_timeout};

/// The gateway's authority as the page names it, and the fields that the browser adds.
struct Page {
    host: &'static str,
    origin: &'static str,
    /// `true` if the browser sends `Sec-Fetch-Site`: only if it considers the gateway's origin
    /// trustworthy.
    sends_site: bool,
    status: u16,
    reason: &'static str,
}

const PAGES: [Page; 6] = [
    // A page at another port of this machine, and a remote one.
    other_site("127.0.0.1:8080", "http://127.0.0.1:3000"),
    other_site("localhost:8080", "http://evil.example"),
    // DNS rebinding: the name resolves to this machine after the page has loaded, so the browser
    // sees one origin.
    rebound("evil.example:8080", "http://evil.example:8080"),
    rebound(
        "localhost.evil.example:8080",
        "http://localhost.evil.example:8080",
    ),
    // An alternative form of loopback that the browser does not recognize as loopback.
    rebound("0.0.0.0:8080", "http://evil.example"),
    rebound("[::ffff:7f00:1]:8080", "http://evil.example"),
];

const fn other_site(host: &'static str, origin: &'static str) -> Page {
    Page {
        host,
        origin,
        sends_site: true,
        status: 403,
        reason: "caller_forbidden",
    }
}

const fn rebound(host: &'static str, origin: &'static str) -> Page {
    Page {
        host,
        origin,
        sends_site: false,
        status: 421,
        reason: "foreign_host",
    }
}

/// Requests that a page can send: kind, method, whether `Origin` is sent, mode, destination, other
/// fields.
const REQUEST_KINDS: &[(&str, &str, bool, &str, &str, &str)] = &[
    ("fetch", "GET", true, "cors", "empty", ""),
    ("fetch without cors", "GET", false, "no-cors", "empty", ""),
    (
        "fetch that posts",
        "POST",
        true,
        "no-cors",
        "empty",
        "Content-Type: text/plain;charset=UTF-8\r\n",
    ),
    (
        "XMLHttpRequest",
        "POST",
        true,
        "cors",
        "empty",
        "Content-Type: text/plain;charset=UTF-8\r\n",
    ),
    (
        "preflight of JSON",
        "OPTIONS",
        true,
        "cors",
        "empty",
        "Access-Control-Request-Method: POST\r\n\
        Access-Control-Request-Headers: content-type\r\n",
    ),
    (
        "preflight of PUT",
        "OPTIONS",
        true,
        "cors",
        "empty",
        "Access-Control-Request-Method: PUT\r\n",
    ),
    (
        "sendBeacon",
        "POST",
        true,
        "no-cors",
        "empty",
        "Content-Type: text/plain\r\n",
    ),
    (
        "sendBeacon of a form",
        "POST",
        true,
        "no-cors",
        "empty",
        "Content-Type: application/x-www-form-urlencoded;charset=UTF-8\r\n",
    ),
    (
        "ping of a link",
        "POST",
        true,
        "no-cors",
        "empty",
        "Content-Type: text/ping\r\nPing-From: http://evil.example/\r\nPing-To: http://localhost/\r\n",
    ),
    ("image", "GET", false, "no-cors", "image", ""),
    ("script", "GET", false, "no-cors", "script", ""),
    ("module", "GET", true, "cors", "script", ""),
    ("style", "GET", false, "no-cors", "style", ""),
    (
        "video",
        "GET",
        false,
        "no-cors",
        "video",
        "Range: bytes=0-\r\n",
    ),
    (
        "prefetch",
        "GET",
        false,
        "no-cors",
        "empty",
        "Sec-Purpose: prefetch\r\nPurpose: prefetch\r\n",
    ),
    (
        "frame",
        "GET",
        false,
        "navigate",
        "iframe",
        "Upgrade-Insecure-Requests: 1\r\n",
    ),
    (
        "object",
        "GET",
        false,
        "navigate",
        "object",
        "Upgrade-Insecure-Requests: 1\r\n",
    ),
    (
        "link",
        "GET",
        false,
        "navigate",
        "document",
        "Upgrade-Insecure-Requests: 1\r\nSec-Fetch-User: ?1\r\n",
    ),
    (
        "form",
        "POST",
        true,
        "navigate",
        "document",
        "Upgrade-Insecure-Requests: 1\r\nContent-Type: application/x-www-form-urlencoded\r\n",
    ),
    (
        "form as text",
        "POST",
        true,
        "navigate",
        "iframe",
        "Upgrade-Insecure-Requests: 1\r\nContent-Type: text/plain\r\n",
    ),
    (
        "form as parts",
        "POST",
        true,
        "navigate",
        "iframe",
        "Upgrade-Insecure-Requests: 1\r\nContent-Type: multipart/form-data; boundary=----WebKitFormBoundaryRQW0\r\n",
    ),
    (
        "EventSource",
        "GET",
        true,
        "cors",
        "empty",
        "Cache-Control: no-cache\r\n",
    ),
    // For a WebSocket the browser sends `Origin` only.
    (
        "WebSocket",
        "GET",
        true,
        "",
        "",
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ),
];

/// Returns every kind of request from every page to `path`.
fn attacks(path: &str) -> Vec<(String, String, &'static Page)> {
    let mut attacks = Vec::new();
    for page in &PAGES {
        for (kind, method, sends_origin, mode, dest, fields) in REQUEST_KINDS {
            let mut head = format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}",
                page.host
            );
            if *sends_origin {
                head += &format!("Origin: {}\r\n", page.origin);
            }
            if page.sends_site && !mode.is_empty() {
                let site = if page.origin.contains("evil") {
                    "cross-site"
                } else {
                    "same-site"
                };
                head += &format!(
                    "Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\nSec-Fetch-Dest: {dest}\r\n"
                );
            }
            if *method == "POST" {
                head += "Content-Length: 0\r\n";
            }
            attacks.push((
                format!("{kind} to {}{path}", page.host),
                head + "\r\n",
                page,
            ));
        }
    }
    // A form in a sandboxed frame has the opaque origin `null`.
    for page in &PAGES {
        let site = if page.sends_site {
            "Sec-Fetch-Site: cross-site\r\n"
        } else {
            ""
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nOrigin: null\r\n{site}Content-Length: 0\r\n\r\n",
            page.host
        );
        attacks.push((format!("sandbox to {}{path}", page.host), head, page));
    }
    attacks
}

#[tokio::test]
async fn cross_site_page_reaches_no_upstream() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for path in ["/cvad/manage/me", "/cctrustoauth2/root/tokens/clients"] {
        for (name, request, page) in attacks(path) {
            let response = gateway.raw(request).await;
            // A login is always a POST.
            let expected = [(page.status, page.reason), (405, "bad_request")];
            let outcome = (
                response.status(),
                response.field("x-proxy-error").unwrap_or_default(),
            );
            assert!(
                expected.contains(&(outcome.0, outcome.1.as_str())),
                "{name}: {outcome:?}"
            );
            assert!(outcome.0 != 405 || path.ends_with("clients"), "{name}");
            assert!(
                !response
                    .names()
                    .iter()
                    .any(|field| field.starts_with("access-control")),
                "{name}"
            );
        }
    }
    upstream.assert_no_more_requests().await;
    // A literal loopback address belongs to no site.
    assert_eq!(gateway.raw(get("/cvad/manage/me")).await.status(), 200);
}

#[tokio::test]
async fn cross_site_page_reaches_no_admin_endpoint() {
    let upstream = Upstream::responding(OK).await;
    let open = Gateway::in_front_of(&upstream).start().await;
    // The browser may have the secret and add it by itself.
    let secret = "107b4a7857be75269640d3541c2ec7eb2f44d648e7b741017e0752e9387756c2";
    let closed = Gateway::in_front_of(&upstream)
        .set("CITRIX_AUTH_PROXY_ADMIN__SECRET_SHA256", secret)
        .start()
        .await;
    let with_secret = "\r\nAuthorization: Basic OkNBTkFSWS1hZG1pbg==\r\nConnection: close\r\n";
    for path in [
        "/",
        "/status.json",
        "/log-level",
        "/tokens/acme/refresh",
        "/metrics",
        "/livez",
    ] {
        for (name, request, page) in attacks(path) {
            for (gateway, request) in [
                (&open, request.clone()),
                (
                    &closed,
                    request.replace("\r\nConnection: close\r\n", with_secret),
                ),
            ] {
                let response = gateway.admin(request).await;
                assert_eq!(response.status(), page.status, "{name}");
                assert_eq!(
                    response.field("x-proxy-error").as_deref(),
                    Some(page.reason),
                    "{name}"
                );
            }
        }
    }
    for gateway in [&open, &closed] {
        assert_eq!(gateway.logins.count(), 1);
    }
}

#[tokio::test]
async fn rfc3986_3_2_2_host_name_with_a_trailing_dot_is_the_same_name() {
    let upstream = Upstream::responding(OK).await;
    let listen = "[listen]\nhosts = ['gw.example.net', 'dot.example.net.']\n\
                  public_url = 'https://public.example.net.'";
    let gateway = Gateway::in_front_of(&upstream).with(listen).start().await;
    for (host, fields, status) in [
        ("gw.example.net", "", 200),
        ("gw.example.net.", "", 200),
        ("GW.example.net.:8080", "", 200),
        ("dot.example.net", "", 200),
        ("dot.example.net.", "", 200),
        ("public.example.net", "", 200),
        ("public.example.net.:443", "", 200),
        ("localhost.", "", 200),
        ("gw.example.net..", "", 421),
        ("gw.example.net.evil.example.", "", 421),
        ("gw.example.net.", "Origin: http://gw.example.net\r\n", 200),
        ("gw.example.net", "Origin: https://gw.example.net.\r\n", 200),
        (
            "gw.example.net.:8080",
            "Origin: http://gw.example.net:8080\r\n",
            200,
        ),
        (
            "gw.example.net.:8080",
            "Origin: http://gw.example.net.\r\n",
            403,
        ),
        ("gw.example.net.", "Origin: http://evil.example.\r\n", 403),
    ] {
        let head = format!("Host: {host}\r\nConnection: close\r\n{fields}\r\n");
        for target in ["/x".to_owned(), format!("http://{host}/x")] {
            let response = gateway
                .raw(format!("GET {target} HTTP/1.1\r\n{head}"))
                .await;
            assert_eq!(response.status(), status, "{target} {head}");
        }
        let admin = gateway
            .admin(format!("GET /status.json HTTP/1.1\r\n{head}"))
            .await;
        assert_eq!(admin.status(), status, "{head}");
        let mut request = Request::get(format!("http://{host}/x"));
        if let Some(origin) = fields.trim().strip_prefix("Origin: ") {
            request = request.header("origin", origin);
        }
        let mut http2 = gateway.http2().await;
        let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(
            within_timeout(response).await.unwrap().status(),
            status,
            "{host}"
        );
    }
    let both = "GET http://gw.example.net./x HTTP/1.1\r\nHost: gw.example.net\r\nConnection: close\r\n\r\n";
    assert_eq!(gateway.raw(both).await.status(), 200);
}
