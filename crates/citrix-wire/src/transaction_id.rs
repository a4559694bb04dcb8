//! Ids that let one exchange be found again: ours, and Citrix's (contract §3).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::citrix::headers::CITRIX_TRANSACTION_ID;

/// The id of an exchange with this proxy, on every answer and in the access log.
pub const X_PROXY_REQUEST_ID: HeaderName = HeaderName::from_static("x-proxy-request-id");

/// The longest id of a caller's that is taken over; Citrix's own are 36 characters.
const LONGEST: usize = 128;

/// A fresh random id, as a header value.
pub fn generate() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let text = Uuid::new_v4().hyphenated().encode_lower(&mut text);
    // A hyphenated UUID is always a legal header value; the fallback is never taken.
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(text.as_bytes()))
        .unwrap_or_else(|_| HeaderValue::from_static("00000000-0000-4000-8000-000000000000"))
}

/// The caller's own `Citrix-TransactionId`, when it is one that can be sent on: a single, visible, short value.
pub fn from_caller(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(CITRIX_TRANSACTION_ID).iter();
    let value = values.next()?;
    let usable = values.next().is_none()
        && (1..=LONGEST).contains(&value.len())
        && value.as_bytes().iter().all(u8::is_ascii_graphic);
    usable.then(|| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ids_are_uuids_and_differ() {
        let (one, two) = (generate(), generate());
        assert_ne!(one, two);
        assert!(Uuid::parse_str(one.to_str().unwrap()).is_ok());
    }

    #[test]
    fn only_a_single_visible_id_of_a_caller_is_taken_over() {
        let long = "x".repeat(LONGEST + 1);
        let cases: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&["abc-1"], Some("abc-1")),
            (&["one", "two"], None),
            (&[""], None),
            (&["with blank"], None),
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
