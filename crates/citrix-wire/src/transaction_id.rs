//! Identifiers of an exchange: the gateway's request id and Citrix's transaction id (contract §3).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::citrix::headers::CITRIX_TRANSACTION_ID;

/// The gateway's request id, in every response and in the access log.
pub const X_PROXY_REQUEST_ID: HeaderName = HeaderName::from_static("x-proxy-request-id");

/// Maximum length of a forwarded transaction id; Citrix's own have 36 characters.
const MAX_LENGTH: usize = 128;

/// Returns a random UUID as a header value.
pub fn generate() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let text = Uuid::new_v4().hyphenated().encode_lower(&mut text);
    // A hyphenated UUID is always a valid header value.
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(text.as_bytes()))
        .unwrap_or_else(|_| HeaderValue::from_static("00000000-0000-4000-8000-000000000000"))
}

/// Returns the caller's `Citrix-TransactionId` if it is one field of 1 to 128 visible ASCII
/// characters.
pub fn from_caller(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(CITRIX_TRANSACTION_ID).iter();
    let value = values.next()?;
    let usable = values.next().is_none()
        && (1..=MAX_LENGTH).contains(&value.len())
        && value.as_bytes().iter().all(u8::is_ascii_graphic);
    usable.then(|| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_distinct_uuids() {
        let (one, two) = (generate(), generate());
        assert_ne!(one, two);
        assert!(Uuid::parse_str(one.to_str().unwrap()).is_ok());
    }

    #[test]
    fn repeated_invisible_or_long_caller_id_is_ignored() {
        let long = "x".repeat(MAX_LENGTH + 1);
        let cases: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&["abc-1"], Some("abc-1")),
            (&["one", "two"], None),
            (&[""], None),
            (&["with space"], None),
            (&[&long], None),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in *values {
                headers.append(CITRIX_TRANSACTION_ID, value.parse().unwrap());
            }
            assert_eq!(
                from_caller(&headers).as_ref().map(|v| v.to_str().unwrap()),
                *expected
            );
        }
    }
}
