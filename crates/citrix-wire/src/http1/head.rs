//! Response heads and trailers (RFC 9112 sections 4 and 5).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};

pub use super::head_error::HeadError;
pub use super::section::SectionEnd;
use crate::head_limit::{HeadSize, HeadTooLarge, MAX_FIELDS};
use crate::known_fields::KnownFields;
use crate::response_framing::FramingFields;

/// Groups with the fields that determine where a body and the connection end.
const EXAMINED: KnownFields = KnownFields::CONTENT_LENGTH.and(KnownFields::HOP_BY_HOP);

/// The head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub version: Version,
    /// The reason phrase, if it is not the usual one of the status.
    pub reason: Option<Bytes>,
    pub headers: HeaderMap,
    /// The fields that `headers` has.
    pub fields: KnownFields,
    /// The framing fields among `headers`.
    pub framing: FramingFields,
    /// `true` if the server keeps the connection open after the response (RFC 9112 section 9.3).
    pub persists: bool,
}

/// Returns `true` if `bytes` can begin a response.
pub fn may_begin(bytes: &[u8]) -> bool {
    const START: &[u8] = b"HTTP/1.";
    let length = bytes.len().min(START.len());
    bytes[..length] == START[..length]
}

/// Parses a head as [`SectionEnd`] delimits it. Its fields, which share its memory, are added to
/// `headers`; equal lengths become one.
///
/// # Errors
/// When it is malformed, exceeds [`head_limit`](crate::head_limit) or has framing fields that contradict each other.
pub fn parse(head: &Bytes, mut headers: HeaderMap) -> Result<ResponseHead, HeadError> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = ParserConfig::default();
    let length = parser.parse_response_with_uninit_headers(&mut parsed, head, &mut fields);
    all_of(head, complete(length)?)?;
    let (Some(code), Some(version), Some(reason)) = (parsed.code, parsed.version, parsed.reason)
    else {
        return Err(HeadError::Syntax(httparse::Error::Status));
    };
    let status =
        StatusCode::from_u16(code).map_err(|_| HeadError::Syntax(httparse::Error::Status))?;
    let version = match version {
        0 => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let mut framing = FramingFields::default();
    let mut connection = ConnectionOptions::default();
    let (mut fields, mut size) = (KnownFields::default(), HeadSize::default());
    for field in parsed.headers.iter() {
        size.add(field.name.len(), field.value.len())?;
        let (name, groups) = decode_name(field)?;
        let value = decode_value(head, field)?;
        if groups.has(EXAMINED) {
            match name {
                CONTENT_LENGTH => framing.add_content_length(&value),
                TRANSFER_ENCODING => framing.add_transfer_encoding(&value),
                CONNECTION => connection.add(&value),
                _ => {}
            }
        }
        fields = fields.and(groups);
        headers.append(name, value);
    }
    framing.normalize(&mut headers)?;
    let is_usual = status.canonical_reason() == Some(reason);
    Ok(ResponseHead {
        status,
        version,
        reason: (!is_usual).then(|| head.slice_ref(reason.as_bytes())),
        headers,
        fields,
        framing,
        persists: connection.persists(version),
    })
}

/// Parses a trailer section with its empty line.
///
/// # Errors
/// When it is malformed or exceeds [`head_limit`](crate::head_limit).
pub fn parse_trailers(section: &Bytes) -> Result<HeaderMap, HeadError> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let (length, fields) = complete(httparse::parse_headers(section, &mut fields))?;
    all_of(section, length)?;
    let (mut trailers, mut size) = (HeaderMap::new(), HeadSize::default());
    for field in fields {
        size.add(field.name.len(), field.value.len())?;
        let (name, _) = decode_name(field)?;
        trailers.append(name, decode_value(section, field)?);
    }
    Ok(trailers)
}

fn complete<T>(parsed: httparse::Result<T>) -> Result<T, HeadError> {
    match parsed {
        Ok(Status::Complete(parsed)) => Ok(parsed),
        Ok(Status::Partial) => Err(HeadError::Syntax(httparse::Error::NewLine)),
        Err(httparse::Error::TooManyHeaders) => Err(HeadTooLarge.into()),
        Err(error) => Err(HeadError::Syntax(error)),
    }
}

/// Checks that the parser has read all bytes: an empty line before the head is none of its end.
fn all_of(bytes: &[u8], parsed: usize) -> Result<(), HeadError> {
    if parsed == bytes.len() {
        Ok(())
    } else {
        Err(HeadError::Syntax(httparse::Error::NewLine))
    }
}

fn decode_name(field: &Header<'_>) -> Result<(HeaderName, KnownFields), HeadError> {
    KnownFields::parse_name(field.name.as_bytes())
        .map_err(|_| HeadError::Syntax(httparse::Error::HeaderName))
}

fn decode_value(head: &Bytes, field: &Header<'_>) -> Result<HeaderValue, HeadError> {
    HeaderValue::from_maybe_shared(head.slice_ref(field.value))
        .map_err(|_| HeadError::Syntax(httparse::Error::HeaderValue))
}

/// The options of `Connection` that concern persistence.
#[derive(Default)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
}

impl ConnectionOptions {
    fn add(&mut self, value: &HeaderValue) {
        let Ok(options) = value.to_str() else {
            self.close = true;
            return;
        };
        for option in options.split(',').map(str::trim) {
            self.close |= option.eq_ignore_ascii_case("close");
            self.keep_alive |= option.eq_ignore_ascii_case("keep-alive");
        }
    }

    fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }
}

#[cfg(test)]
mod tests;
