//! Framing of request bodies sent to an upstream (RFC 9112 section 6).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method};
use http_body::Body;

/// Replaces the caller's framing fields with those of the body as it is sent. To be called again if the body changes.
pub fn frame(method: &Method, headers: &mut HeaderMap, body: &impl Body) {
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRANSFER_ENCODING);
    let may_have_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    if body.is_end_stream() {
        if may_have_body {
            // Citrix returns 411 without it.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if let Some(length) = body.size_hint().exact() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    } else if !may_have_body {
        // Without it hyper sends no body of unknown length with GET or DELETE.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}
