//! One answer to what can be read in two ways: 400, and the connection is closed.
//!
//! What hyper refuses by itself never comes here. What it takes, and another server might read otherwise, does.

use http::request::Parts;

use crate::error::{Failure, Reason};
use citrix_wire::framing_guard::FramingError;
use citrix_wire::lookalikes::is_lookalike;

/// As many as hyper takes over HTTP/1. HTTP/2 bounds their size alone.
const MAX_FIELDS: usize = 100;

/// Refuses a head that is ambiguous, or has too many fields.
///
/// # Errors
/// `bad_request` or `headers_too_large`.
pub fn check(head: &Parts) -> Result<(), Failure> {
    let bad = |detail: String| Err(Failure::new(Reason::BadRequest, detail));
    // Seen by who reads the connection; it is not to be seen in what hyper made of it.
    if let Some(fault) = head.extensions.get::<FramingError>() {
        return bad(fault.to_string());
    }
    if head.headers.len() > MAX_FIELDS {
        let detail = format!("a request may have {MAX_FIELDS} header fields at most");
        return Err(Failure::new(Reason::HeadersTooLarge, detail));
    }
    let uri = &head.uri;
    // `http` takes no other sign that a target may not have, and in a query not this one either.
    if uri.path().contains('"') {
        return bad("a quotation mark in the request target must be escaped (%22)".to_owned());
    }
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        return bad("the scheme of the request target is neither http nor https".to_owned());
    }
    if let Some(name) = head.headers.keys().find(|name| is_lookalike(name.as_str())) {
        return bad(format!("the header {name} may be taken for another one"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn refused(request: http::request::Builder) -> Option<&'static str> {
        check(&request.body(()).unwrap().into_parts().0)
            .err()
            .map(|failure| failure.reason().as_str())
    }

    #[test]
    fn a_head_that_can_be_read_in_two_ways_is_refused() {
        assert_eq!(
            refused(Request::get("/a%22b?c='d'").header("x_custom", "1")),
            None
        );
        assert_eq!(refused(Request::get("https://localhost/a")), None);
        for request in [
            Request::get("/a\"b"),
            Request::get("ftp://localhost/a"),
            Request::get("/").header("citrix_customerid", "other"),
            Request::get("/").extension(FramingError::RepeatedContentLength),
        ] {
            assert_eq!(refused(request), Some("bad_request"));
        }
    }

    #[test]
    fn rfc6585_5_the_number_of_fields_is_bounded_in_http2_as_well() {
        let with = |count: usize| {
            (0..count).fold(Request::get("/"), |request, number| {
                request.header(format!("x-{}", number / 2), "v")
            })
        };
        assert_eq!(refused(with(MAX_FIELDS)), None);
        assert_eq!(refused(with(MAX_FIELDS + 1)), Some("headers_too_large"));
    }
}
