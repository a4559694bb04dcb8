//! The files of the status page, which requests only JSON of this listener, and the runbooks.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response};
use http_body_util::Full;
use hyper::body::Bytes;

use super::{FullResponse, runbooks};

/// Permits only this listener: no inline script or style, no frame, no other host.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                              connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
                              form-action 'self'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Path, content type and content of each file.
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page/page.css", CSS, include_str!("page/page.css")),
    ("/page/main.js", JS, include_str!("page/main.js")),
    ("/page/poll.js", JS, include_str!("page/poll.js")),
    ("/page/sections.js", JS, include_str!("page/sections.js")),
    ("/page/exchanges.js", JS, include_str!("page/exchanges.js")),
    ("/page/charts.js", JS, include_str!("page/charts.js")),
    ("/page/timeline.js", JS, include_str!("page/timeline.js")),
    ("/page/dom.js", JS, include_str!("page/dom.js")),
];

/// Returns the response for a file of the page.
pub(super) fn file(path: &str) -> Option<FullResponse> {
    if path == "/docs/runbooks.md" {
        return Some(response(HTML, runbooks::page().into()));
    }
    let (_, content_type, text) = FILES.iter().find(|(known, ..)| *known == path)?;
    Some(response(content_type, Bytes::from_static(text.as_bytes())))
}

fn response(content_type: &'static str, body: Bytes) -> FullResponse {
    let mut response = Response::new(Full::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let policy = HeaderValue::from_static(CONTENT_POLICY);
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Another version of the program has other files.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
