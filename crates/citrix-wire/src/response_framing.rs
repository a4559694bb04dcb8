//! Framing fields of responses (RFC 9110 section 8.6, RFC 9112 section 6).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode, Version};

/// Maximum length of a body; larger ones are not written by any server.
const MAX_LENGTH: u64 = i64::MAX as u64;

/// Framing fields with which a response cannot be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseFramingError {
    /// Only chunked is decoded; the field that names another coding is not forwarded.
    #[error("transfer coding other than chunked")]
    TransferCoding,
    #[error("contradicting or invalid Content-Length values")]
    ContentLength,
    /// Recipients differ in the field that they believe (RFC 9112 section 6.3).
    #[error("both Transfer-Encoding and Content-Length")]
    Both,
}

/// The end of a response body over HTTP/1.1 (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// The number of its bytes.
    Length(u64),
    /// The last chunk.
    LastChunk,
    /// The close of the connection.
    Close,
}

/// The framing fields of a response head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FramingFields {
    length: Field<u64>,
    coding: Field<()>,
    /// A length is repeated, or not written as other recipients expect it.
    is_unusual: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field<T> {
    #[default]
    Absent,
    Valid(T),
    Invalid,
}

impl FramingFields {
    /// Returns those of `headers`.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut fields = Self::default();
        for value in headers.get_all(CONTENT_LENGTH) {
            fields.add_content_length(value);
        }
        for value in headers.get_all(TRANSFER_ENCODING) {
            fields.add_transfer_encoding(value);
        }
        fields
    }

    /// Adds a `Content-Length` field. All values and list elements must agree.
    pub fn add_content_length(&mut self, value: &HeaderValue) {
        self.is_unusual |= self.length != Field::Absent || !is_canonical(value.as_bytes());
        for element in value.as_bytes().split(|&byte| byte == b',') {
            self.length = match (self.length, parse_length(element.trim_ascii())) {
                (Field::Absent, Some(length)) => Field::Valid(length),
                (Field::Valid(first), Some(length)) if first == length => Field::Valid(length),
                _ => Field::Invalid,
            };
        }
    }

    /// Adds a `Transfer-Encoding` field.
    pub fn add_transfer_encoding(&mut self, value: &HeaderValue) {
        let is_chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
        self.coding = match self.coding {
            Field::Absent if is_chunked => Field::Valid(()),
            _ => Field::Invalid,
        };
    }

    /// Returns the end of the body of a response that may have content.
    ///
    /// # Errors
    /// When the fields can be read in more than one way, or not at all.
    pub fn delimiter(self, version: Version) -> Result<Delimiter, ResponseFramingError> {
        match (self.coding, self.length()?) {
            (Field::Absent, Some(length)) => Ok(Delimiter::Length(length)),
            (Field::Absent, None) => Ok(Delimiter::Close),
            // HTTP/1.0 has no transfer codings.
            _ if version == Version::HTTP_10 => Err(ResponseFramingError::TransferCoding),
            _ => Ok(Delimiter::LastChunk),
        }
    }

    /// Reduces equal `Content-Length` values to one in `headers`, whose framing fields these are.
    ///
    /// # Errors
    /// For a transfer coding other than chunked, for contradicting or invalid lengths, and for both
    /// fields.
    pub fn normalize(self, headers: &mut HeaderMap) -> Result<(), ResponseFramingError> {
        if let Some(length) = self.length()?
            && self.is_unusual
        {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Ok(())
    }

    /// Returns the length, if it is known.
    fn length(self) -> Result<Option<u64>, ResponseFramingError> {
        match (self.coding, self.length) {
            (Field::Invalid, _) => Err(ResponseFramingError::TransferCoding),
            (Field::Valid(()), Field::Valid(_) | Field::Invalid) => Err(ResponseFramingError::Both),
            (_, Field::Invalid) => Err(ResponseFramingError::ContentLength),
            (_, Field::Valid(length)) => Ok(Some(length)),
            (_, Field::Absent) => Ok(None),
        }
    }
}

/// Returns `false` for a status without content: no body follows, whatever the fields say
/// (RFC 9112 section 6.3).
pub fn may_have_content(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Reduces equal `Content-Length` values to one.
///
/// # Errors
/// See [`FramingFields::normalize`].
pub fn normalize(headers: &mut HeaderMap) -> Result<(), ResponseFramingError> {
    FramingFields::of(headers).normalize(headers)
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

/// Returns the number that consists of digits alone.
pub(crate) fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    // Unlike `parse`, without a sign.
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        number.checked_mul(10)?.checked_add(digit.into())
    });
    number.filter(|length| *length <= MAX_LENGTH)
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
            (&["9223372036854775807"], Ok(Some("9223372036854775807"))),
            (&["9223372036854775808"], REJECTED),
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
    fn rfc9112_6_3_delimiter_has_one_reading_or_none() {
        use Delimiter::{Close, LastChunk, Length};
        use ResponseFramingError::{Both, ContentLength, TransferCoding};
        const TWO: &[&str] = &["2"];
        type Row<'a> = (
            &'a [&'a str],
            &'a [&'a str],
            Result<Delimiter, ResponseFramingError>,
        );
        let rows: [Row<'_>; 11] = [
            (&[], &[], Ok(Close)),
            (TWO, &[], Ok(Length(2))),
            (&["2, 2", "2"], &[], Ok(Length(2))),
            (&["2", "3"], &[], Err(ContentLength)),
            (&[], &["Chunked"], Ok(LastChunk)),
            (TWO, &["chunked"], Err(Both)),
            (&["x"], &["chunked"], Err(Both)),
            (&[], &["gzip, chunked"], Err(TransferCoding)),
            (TWO, &["gzip"], Err(TransferCoding)),
            (&[], &["gzip", "chunked"], Err(TransferCoding)),
            (&[], &["chunked", "chunked"], Err(TransferCoding)),
        ];
        for (lengths, codings, expected) in rows {
            let mut headers = HeaderMap::new();
            for (name, values) in [(CONTENT_LENGTH, lengths), (TRANSFER_ENCODING, codings)] {
                for value in values {
                    headers.append(&name, HeaderValue::from_str(value).unwrap());
                }
            }
            let fields = FramingFields::of(&headers);
            assert_eq!(fields.delimiter(Version::HTTP_11), expected, "{headers:?}");
            let over_http10 = match expected {
                Ok(LastChunk) => Err(TransferCoding),
                expected => expected,
            };
            assert_eq!(
                fields.delimiter(Version::HTTP_10),
                over_http10,
                "{headers:?}"
            );
            assert_eq!(normalize(&mut headers).err(), expected.err());
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
