//! Framing of request bodies sent to an upstream (RFC 9112 section 6).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method};
use http_body::Body;

/// Returns the field that frames a body as it is sent, if it needs one.
pub(super) fn framing_field(
    method: &Method,
    body: &impl Body,
) -> Option<(HeaderName, HeaderValue)> {
    if body.is_end_stream() {
        // Citrix returns 411 without it.
        return expects_body(method).then_some((CONTENT_LENGTH, HeaderValue::from_static("0")));
    }
    Some(match body.size_hint().exact() {
        Some(length) => (CONTENT_LENGTH, length.into()),
        None => (TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
    })
}

/// Returns `true` if an upstream may leave the body unread, because the method gives it no meaning
/// (RFC 9110 section 9.3). It would then take the body for the beginning of the next request on an
/// HTTP/1.1 connection (RFC 9112 section 11.2).
pub(super) fn may_be_ignored(method: &Method, body: &impl Body) -> bool {
    !expects_body(method) && !body.is_end_stream()
}

fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body::Frame;

    use super::*;

    /// A body of unknown length.
    struct Unsized;

    impl Body for Unsized {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Pending
        }
    }

    fn framed(method: Method, body: &impl Body) -> (Option<String>, Option<String>) {
        let (name, value) = framing_field(&method, body).unzip();
        let text = |expected: HeaderName| {
            let value = value.as_ref().filter(|_| name == Some(expected))?;
            Some(value.to_str().unwrap().to_owned())
        };
        (text(CONTENT_LENGTH), text(TRANSFER_ENCODING))
    }

    #[test]
    fn rfc9112_6_framing_describes_the_body_that_is_sent() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(framed(Method::GET, &String::new()), (None, None));
        assert_eq!(framed(Method::POST, &String::new()), (some("0"), None));
        assert_eq!(framed(Method::PUT, &"abc".to_owned()), (some("3"), None));
        assert_eq!(framed(Method::DELETE, &"abc".to_owned()), (some("3"), None));
        assert_eq!(framed(Method::DELETE, &Unsized), (None, some("chunked")));
        assert_eq!(framed(Method::POST, &Unsized), (None, some("chunked")));
    }

    #[test]
    fn rfc9110_9_3_body_of_a_method_without_a_meaning_for_it_may_be_ignored() {
        for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert!(may_be_ignored(&method, &"x".to_owned()), "{method}");
            assert!(may_be_ignored(&method, &Unsized), "{method}");
            assert!(!may_be_ignored(&method, &String::new()), "{method}");
        }
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            assert!(!may_be_ignored(&method, &"x".to_owned()), "{method}");
        }
    }
}
