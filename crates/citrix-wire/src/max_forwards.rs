//! `Max-Forwards`, the number of servers to which an OPTIONS request may still be forwarded
//! (RFC 9110 section 7.6.2).

use http::header::MAX_FORWARDS;
use http::{HeaderMap, HeaderValue};

/// The reason why an OPTIONS request is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaxForwardsError {
    #[error("Max-Forwards is 0, and the gateway has no options of its own")]
    Exhausted,
    #[error("Max-Forwards is not one number")]
    Invalid,
}

/// Decrements the number, if the request has one.
///
/// # Errors
/// If it is zero, so that this server is the last one, or no number.
pub fn decrement(headers: &mut HeaderMap) -> Result<(), MaxForwardsError> {
    let mut fields = headers.get_all(MAX_FORWARDS).iter();
    let Some(field) = fields.next() else {
        return Ok(());
    };
    let digits = field.as_bytes();
    if fields.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(MaxForwardsError::Invalid);
    }
    // A number that does not fit becomes the maximum, as the RFC permits.
    let number: u32 = field
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(u32::MAX);
    let left = number.checked_sub(1).ok_or(MaxForwardsError::Exhausted)?;
    headers.insert(MAX_FORWARDS, HeaderValue::from(left));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_7_6_2_number_is_decremented_down_to_zero() {
        use MaxForwardsError::{Exhausted, Invalid};
        for (fields, expected) in [
            (&[][..], Ok(None)),
            (&["1"], Ok(Some("0"))),
            (&["010"], Ok(Some("9"))),
            (&["4294967296"], Ok(Some("4294967294"))),
            (&["99999999999999999999999"], Ok(Some("4294967294"))),
            (&["0"], Err(Exhausted)),
            (&["00"], Err(Exhausted)),
            (&[""], Err(Invalid)),
            (&["-1"], Err(Invalid)),
            (&["+1"], Err(Invalid)),
            (&["1, 1"], Err(Invalid)),
            (&["1", "1"], Err(Invalid)),
            (&["one"], Err(Invalid)),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(MAX_FORWARDS, HeaderValue::from_static(field));
            }
            let result = decrement(&mut headers);
            let left = headers.get(MAX_FORWARDS).map(|left| left.to_str().unwrap());
            assert_eq!(result.map(|()| left), expected, "{fields:?}");
        }
    }
}
