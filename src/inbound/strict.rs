//! Rejects ambiguous request heads, which hyper accepts but another server may read differently,
//! with 400.

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Version};

use crate::error::{Failure, Reason};
use citrix_wire::framing_guard::FramingError;
use citrix_wire::known_fields::KnownFields;
use citrix_wire::lookalikes::is_lookalike;

/// Maximum number of header fields, which is hyper's for HTTP/1. HTTP/2 limits their size only.
const MAX_FIELDS: usize = 100;

/// Rejects a head that is ambiguous or has too many fields. `fields` are those of the head.
///
/// # Errors
/// `bad_request` or `headers_too_large`.
pub fn check(head: &Parts, fields: KnownFields) -> Result<(), Failure> {
    let bad = |detail: String| Err(Failure::new(Reason::BadRequest, detail));
    // Found by the framing guard in the bytes; the parsed head does not show it.
    if let Some(fault) = head.extensions.get::<FramingError>() {
        return bad(fault.to_string());
    }
    if head.version == Version::HTTP_2
        && let Some(fault) = http2_fault(&head.headers)
    {
        return bad(fault);
    }
    if head.headers.len() > MAX_FIELDS {
        let detail = format!("request has more than {MAX_FIELDS} header fields");
        return Err(Failure::new(Reason::HeadersTooLarge, detail));
    }
    let uri = &head.uri;
    // The only character that `http` accepts in a path although RFC 3986 does not.
    if uri.path().contains('"') {
        return bad("quotation mark in the request target; encode it as %22".to_owned());
    }
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        return bad("scheme of the request target is neither http nor https".to_owned());
    }
    if fields.has(KnownFields::UNUSUAL)
        && let Some(name) = head.headers.keys().find(|name| is_lookalike(name.as_str()))
    {
        return bad(format!("header {name} resembles another header"));
    }
    Ok(())
}

/// Returns the defect of header fields that `h2` accepts. Over HTTP/1.1, the framing guard finds
/// those of the length; whitespace is no part of a value there.
fn http2_fault(headers: &HeaderMap) -> Option<String> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    // `h2` takes an empty one for 0.
    if lengths.next().is_some_and(HeaderValue::is_empty) {
        return Some("header content-length is empty".to_owned());
    }
    if lengths.next().is_some() {
        return Some(FramingError::RepeatedContentLength.to_string());
    }
    // RFC 9113 section 8.2.1.
    let has_edge = |value: &HeaderValue| {
        let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        is_space(value.as_bytes().first()) || is_space(value.as_bytes().last())
    };
    let (name, _) = headers.iter().find(|(_, value)| has_edge(value))?;
    Some(format!(
        "the value of header {name} begins or ends with whitespace"
    ))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn rejection(request: http::request::Builder) -> Option<&'static str> {
        let head = request.body(()).unwrap().into_parts().0;
        check(&head, KnownFields::of(&head.headers))
            .err()
            .map(|failure| failure.reason().as_str())
    }

    #[test]
    fn ambiguous_head_is_rejected() {
        assert_eq!(
            rejection(Request::get("/a%22b?c='d'").header("x_custom", "1")),
            None
        );
        assert_eq!(rejection(Request::get("https://localhost/a")), None);
        for request in [
            Request::get("/a\"b"),
            Request::get("ftp://localhost/a"),
            Request::get("/").header("citrix_customerid", "other"),
            Request::get("/").extension(FramingError::RepeatedContentLength),
            Request::get("/")
                .version(Version::HTTP_2)
                .header(CONTENT_LENGTH, ""),
        ] {
            assert_eq!(rejection(request), Some("bad_request"));
        }
    }

    #[test]
    fn rfc6585_5_number_of_fields_is_limited() {
        let with = |count: usize| {
            (0..count).fold(Request::get("/"), |request, number| {
                request.header(format!("x-{}", number / 2), "v")
            })
        };
        assert_eq!(rejection(with(MAX_FIELDS)), None);
        assert_eq!(rejection(with(MAX_FIELDS + 1)), Some("headers_too_large"));
    }
}
