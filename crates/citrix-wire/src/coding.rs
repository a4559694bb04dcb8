//! Streaming decoders and encoders of content codings (RFC 9110 section 8.4).
//!
//! A decoder returns one slice at a time, so that memory is bounded however far a body expands.

mod accepted;
mod decoder;
mod encoder;

#[cfg(test)]
mod tests;

use std::io;

use http::HeaderMap;
use http::header::CONTENT_ENCODING;

pub use accepted::retain_decodable;
pub use decoder::{ContentDecoder, SLICE};
pub use encoder::ContentEncoder;

/// A supported content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCoding {
    /// `gzip` (RFC 1952), or its alias `x-gzip`.
    Gzip,
    /// `deflate`: the zlib format (RFC 1950), or a bare deflate stream (RFC 1951), which many
    /// servers send.
    Deflate,
    /// `br` (RFC 7932).
    Brotli,
}

/// Another coding, or several; the body must be forwarded unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body has a Content-Encoding other than gzip, deflate or br")]
pub struct UnsupportedCoding;

impl ContentCoding {
    /// Parses `Content-Encoding`; `None` without a coding.
    ///
    /// # Errors
    /// If the coding is not supported.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, UnsupportedCoding> {
        let mut fields = headers.get_all(CONTENT_ENCODING).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return if headers.contains_key(CONTENT_ENCODING) {
                Err(UnsupportedCoding)
            } else {
                Ok(None)
            };
        };
        let name = field.as_bytes().trim_ascii();
        let known = [
            ("identity", None),
            ("gzip", Some(Self::Gzip)),
            ("x-gzip", Some(Self::Gzip)),
            ("deflate", Some(Self::Deflate)),
            ("br", Some(Self::Brotli)),
        ];
        let known = known
            .into_iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        known.map(|(_, coding)| coding).ok_or(UnsupportedCoding)
    }

    /// Returns the format of a body with this first byte.
    pub fn format(self, first: u8) -> CodingFormat {
        match self {
            Self::Gzip => CodingFormat::Gzip,
            // RFC 1950 section 2.2: method 8 and a window size. As deflate it would be a stored
            // block with padding that no encoder writes.
            Self::Deflate if first & 0x0f == 8 && first >> 4 <= 7 => CodingFormat::Zlib,
            Self::Deflate => CodingFormat::Deflate,
            Self::Brotli => CodingFormat::Brotli,
        }
    }
}

/// The format of an encoded body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodingFormat {
    /// RFC 1952, with any number of members.
    Gzip,
    /// RFC 1950.
    Zlib,
    /// RFC 1951 without a zlib frame.
    Deflate,
    /// RFC 7932.
    Brotli,
}

/// An encoded body that cannot be decoded to its end. The response must be aborted.
#[derive(Debug, thiserror::Error)]
pub enum CodingError {
    /// Truncated, or not in the format of its `Content-Encoding`.
    #[error("the body is truncated or not in its Content-Encoding")]
    Invalid(#[source] io::Error),
    /// Data after the end of the encoded body.
    #[error("data follows the end of the encoded body")]
    Trailing,
}
