//! Content codings (RFC 9110 section 8.4), undone and done again as a body streams by.
//!
//! Both directions work on what is there: a decoder is asked for the next slice and says when it needs more, an encoder
//! gives what it has whenever it is asked. So memory is bounded by the slice, whatever a body expands to.

mod accepted;
mod decoder;
mod encoder;

#[cfg(test)]
mod tests;

use std::io;

use http::HeaderMap;
use http::header::CONTENT_ENCODING;

pub use accepted::retain_decodable;
pub use decoder::{Decoder, SLICE};
pub use encoder::Encoder;

/// A coding that can be undone and done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip` (RFC 1952), also under its old name `x-gzip`.
    Gzip,
    /// `deflate`: zlib's format (RFC 1950), or without its frame (RFC 1951), as many servers have it.
    Deflate,
    /// `br` (RFC 7932).
    Brotli,
}

/// A coding, or several on top of each other, that has to pass as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body has a Content-Encoding other than gzip, deflate or br")]
pub struct UnsupportedCoding;

impl Coding {
    /// The coding of a body with these headers; `None` for a body without one.
    ///
    /// # Errors
    /// When it is one that passes as it is.
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

    /// The format of a body that begins with this byte.
    pub fn format(self, first: u8) -> Format {
        match self {
            Self::Gzip => Format::Gzip,
            // A window size and the method 8; no deflate encoder begins with a stored block padded like that.
            Self::Deflate if first & 0x0f == 8 && first >> 4 <= 7 => Format::Zlib,
            Self::Deflate => Format::Deflate,
            Self::Brotli => Format::Brotli,
        }
    }
}

/// What the bytes of a coded body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 1952, of any number of members.
    Gzip,
    /// RFC 1950.
    Zlib,
    /// RFC 1951 alone.
    Deflate,
    /// RFC 7932.
    Brotli,
}

/// A coded body that cannot be read to its end. The answer has to be cut off.
#[derive(Debug, thiserror::Error)]
pub enum CodingError {
    /// It broke off, or is not what its `Content-Encoding` says.
    #[error("the body broke off, or is not in the coding that its head names")]
    Broken(#[source] io::Error),
    /// Something comes after its end.
    #[error("there is something behind the end of the coded body")]
    Trailing,
}
