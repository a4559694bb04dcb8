//! Request heads and chunks (RFC 9112 sections 3 and 7.1).

use std::io::Write as _;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method};

use crate::response_framing::parse_length;

/// The framing of a request body, as its head states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFraming {
    /// No body.
    Absent,
    Length(u64),
    Chunked,
}

/// The last chunk, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The end of a chunk, then [`LAST_CHUNK`].
pub const END_AND_LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
/// The end of a chunk.
pub const END_OF_CHUNK: &[u8] = b"\r\n";

/// Appends a request head to `out`, and returns the framing that its fields state. With `closes`,
/// the connection ends after the exchange.
pub fn write_head<'f>(
    out: &mut Vec<u8>,
    method: &Method,
    target: &str,
    fields: impl IntoIterator<Item = (&'f HeaderName, &'f HeaderValue)>,
    closes: bool,
) -> RequestFraming {
    let mut framing = RequestFraming::Absent;
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in fields {
        match *name {
            // Never together: `upstream::framing` writes one of them.
            CONTENT_LENGTH => {
                framing = RequestFraming::Length(parse_length(value.as_bytes()).unwrap_or(0));
            }
            TRANSFER_ENCODING => framing = RequestFraming::Chunked,
            _ => {}
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if closes {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    framing
}

/// Appends the first line of a chunk.
pub fn write_chunk_size(out: &mut Vec<u8>, size: u64) {
    // A vector accepts all.
    let _ = write!(out, "{size:X}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &'static str)], closes: bool) -> (String, RequestFraming) {
        let fields = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        let fields = fields.collect::<Vec<_>>();
        let mut out = b"before".to_vec();
        let lent = fields.iter().map(|(name, value)| (name, value));
        let framing = write_head(&mut out, &Method::POST, "/a?b", lent, closes);
        let written = String::from_utf8(out).unwrap();
        (written.strip_prefix("before").unwrap().to_owned(), framing)
    }

    #[test]
    fn rfc9112_3_head_has_request_line_fields_and_framing() {
        use RequestFraming::{Absent, Chunked, Length};
        assert_eq!(
            head(&[("host", "h"), ("x", "")], false),
            (
                "POST /a?b HTTP/1.1\r\nhost: h\r\nx: \r\n\r\n".to_owned(),
                Absent
            )
        );
        assert_eq!(
            head(&[("content-length", "17")], true),
            (
                "POST /a?b HTTP/1.1\r\ncontent-length: 17\r\nconnection: close\r\n\r\n".to_owned(),
                Length(17)
            )
        );
        assert_eq!(head(&[("transfer-encoding", "chunked")], false).1, Chunked);
    }

    #[test]
    fn rfc9112_7_1_chunk_sizes_are_hexadecimal() {
        for size in [0, 1, 15, 16, 255, 4096, 65_537, u64::MAX] {
            let mut out = Vec::new();
            write_chunk_size(&mut out, size);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{size:X}\r\n"));
        }
    }
}
