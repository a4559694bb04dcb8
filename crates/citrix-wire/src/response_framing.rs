//! Framing fields of responses (RFC 9110 section 8.6, RFC 9112 section 6).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};

/// Framing fields with which a response cannot be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseFramingError {
    /// hyper decodes chunked only; the field that names another coding is not forwarded.
    #[error("the upstream's response has a transfer coding other than chunked")]
    TransferCoding,
    #[error("the upstream's response has contradicting or invalid Content-Length values")]
    ContentLength,
}

/// Returns `false` for a status without content: no body follows, whatever the fields say
/// (RFC 9112 section 6.3).
pub fn may_have_content(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Reduces equal `Content-Length` values to one, and removes the field beside `Transfer-Encoding`,
/// which overrides it.
///
/// # Errors
/// For a transfer coding other than chunked, and for contradicting or invalid lengths.
pub fn normalize(headers: &mut HeaderMap) -> Result<(), ResponseFramingError> {
    if headers.contains_key(TRANSFER_ENCODING) {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let only = codings.next().filter(|_| codings.next().is_none());
        if !only.is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(ResponseFramingError::TransferCoding);
        }
        headers.remove(CONTENT_LENGTH);
        return Ok(());
    }
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = values.next() else {
        return Ok(());
    };
    if values.next().is_none() && is_canonical(first.as_bytes()) {
        return Ok(());
    }
    let length = single_length(headers).ok_or(ResponseFramingError::ContentLength)?;
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(())
}

/// Returns `true` for a number that fits 64 bits without leading zeros.
fn is_canonical(value: &[u8]) -> bool {
    let is_number = value.iter().all(u8::is_ascii_digit);
    is_number
        && matches!(
            (value.len(), value.first()),
            (1, _) | (2..=19, Some(b'1'..))
        )
}

/// Returns the length on which all values and list elements agree.
fn single_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(parse_length);
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

fn parse_length(element: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(element.trim_ascii()).ok()?;
    // `parse` accepts a sign.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REJECTED: Result<Option<&str>, ResponseFramingError> =
        Err(ResponseFramingError::ContentLength);

    fn normalized(name: &str, values: &[&str]) -> Result<Option<String>, ResponseFramingError> {
        let mut headers = HeaderMap::new();
        for value in values {
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        normalize(&mut headers)?;
        let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
        assert!(lengths.len() <= 1, "{lengths:?}");
        Ok(lengths
            .first()
            .map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn rfc9110_8_6_equal_lengths_become_one_and_others_are_rejected() {
        for (values, expected) in [
            (&[][..], Ok(None)),
            (&["0"], Ok(Some("0"))),
            (&["2"], Ok(Some("2"))),
            (&["2, 2"], Ok(Some("2"))),
            (&["2,2 ,\t2"], Ok(Some("2"))),
            (&["2", "2"], Ok(Some("2"))),
            (&["2", "02, 2"], Ok(Some("2"))),
            (&["18446744073709551615"], Ok(Some("18446744073709551615"))),
            (&["18446744073709551616"], REJECTED),
            (&["2", "3"], REJECTED),
            (&["2, 3"], REJECTED),
            (&["2", "2, 3"], REJECTED),
            (&["2,"], REJECTED),
            (&[""], REJECTED),
            (&["2", ""], REJECTED),
            (&["+2"], REJECTED),
            (&["-1"], REJECTED),
            (&["2 2"], REJECTED),
            (&["two"], REJECTED),
        ] {
            let got = normalized("content-length", values);
            assert_eq!(
                got.as_ref().map(Option::as_deref).map_err(|e| *e),
                expected,
                "{values:?}"
            );
        }
    }

    #[test]
    fn rfc9112_6_3_only_chunked_is_accepted_and_overrides_the_length() {
        let with = |codings: &[&'static str]| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
            for coding in codings {
                headers.append(TRANSFER_ENCODING, HeaderValue::from_static(coding));
            }
            normalize(&mut headers).map(|()| headers.contains_key(CONTENT_LENGTH))
        };
        assert_eq!(with(&[]), Ok(true));
        assert_eq!(with(&["Chunked"]), Ok(false));
        for codings in [
            &["gzip, chunked"][..],
            &["gzip"],
            &["gzip", "chunked"],
            &["chunked", "chunked"],
        ] {
            assert_eq!(
                with(codings),
                Err(ResponseFramingError::TransferCoding),
                "{codings:?}"
            );
        }
    }

    #[test]
    fn rfc9112_6_3_some_statuses_have_no_content() {
        for (status, expected) in [
            (200, true),
            (202, true),
            (204, false),
            (206, true),
            (304, false),
        ] {
            assert_eq!(
                may_have_content(StatusCode::from_u16(status).unwrap()),
                expected
            );
        }
    }
}
