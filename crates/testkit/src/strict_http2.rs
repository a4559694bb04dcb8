//! A strict reader of the frames of an HTTP/2 client (RFC 9113), with a decoder of field sections that
//! is not the gateway's: the reference for what the gateway forwards.

use std::collections::BTreeMap;

/// A decoder of field blocks.
pub use httlib_hpack::Decoder;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

type Field = (Vec<u8>, Vec<u8>);

/// A request with a valid head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrictStream {
    pub method: Vec<u8>,
    pub scheme: Vec<u8>,
    pub authority: Option<Vec<u8>>,
    pub path: Vec<u8>,
    pub fields: Vec<Field>,
    pub content: Vec<u8>,
    pub trailers: Vec<Field>,
    /// It has ended, with the announced length.
    pub is_complete: bool,
}

/// Reads the requests of a connection in the order of their streams, up to the first frame that ends
/// the connection. The preface is not part of `bytes`.
pub fn read(bytes: &[u8]) -> Vec<StrictStream> {
    let mut reader = Reader::default();
    let mut rest = bytes;
    while let Some((frame, after)) = Frame::read(rest) {
        rest = after;
        if reader.frame(&frame).is_none() {
            break;
        }
    }
    let valid = reader.streams.into_values();
    valid.filter_map(|stream| stream.request).collect()
}

struct Frame<'b> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'b [u8],
}

impl<'b> Frame<'b> {
    fn read(bytes: &'b [u8]) -> Option<(Self, &'b [u8])> {
        let (&[a, b, c, kind, flags, s1, s2, s3, s4], rest) = bytes.split_first_chunk()?;
        let length = u32::from_be_bytes([0, a, b, c]);
        let (payload, rest) = rest.split_at_checked(length as usize)?;
        let stream = u32::from_be_bytes([s1, s2, s3, s4]) & (u32::MAX >> 1);
        let frame = Self {
            kind,
            flags,
            stream,
            payload,
        };
        Some((frame, rest))
    }

    /// Returns the payload without padding and priority.
    fn content(&self) -> Option<&'b [u8]> {
        let mut content = self.payload;
        let mut padding = 0;
        if self.flags & PADDED != 0 {
            let (length, rest) = content.split_first()?;
            (padding, content) = (usize::from(*length), rest);
        }
        if self.kind == HEADERS && self.flags & PRIORITY != 0 {
            content = content.get(5..)?;
        }
        content.get(..content.len().checked_sub(padding)?)
    }
}

#[derive(Default)]
struct Stream {
    /// `None` for one whose head is malformed.
    request: Option<StrictStream>,
    has_ended: bool,
}

#[derive(Default)]
struct Reader {
    decoder: Decoder<'static>,
    streams: BTreeMap<u32, Stream>,
    /// The block that CONTINUATION continues, with the flags of its first frame.
    block: Option<(u32, u8, Vec<u8>)>,
}

impl Reader {
    /// Reads a frame. Returns `None` if it ends the connection.
    fn frame(&mut self, frame: &Frame<'_>) -> Option<()> {
        match (&mut self.block, frame.kind) {
            (Some((stream, ..)), CONTINUATION) if *stream == frame.stream => {
                let (stream, flags, mut block) = self.block.take()?;
                block.extend_from_slice(frame.payload);
                self.fragment(stream, flags | frame.flags & END_HEADERS, block)
            }
            (Some(_), _) | (None, CONTINUATION) => None,
            (None, HEADERS) if frame.stream % 2 == 1 => {
                let block = frame.content()?.to_vec();
                self.fragment(frame.stream, frame.flags, block)
            }
            (None, HEADERS) => None,
            (None, DATA) => self.data(frame),
            (None, RST_STREAM) => {
                self.streams.get_mut(&frame.stream)?.has_ended = true;
                Some(())
            }
            _ => Some(()),
        }
    }

    fn fragment(&mut self, stream: u32, flags: u8, mut block: Vec<u8>) -> Option<()> {
        if flags & END_HEADERS == 0 {
            self.block = Some((stream, flags, block));
            return Some(());
        }
        if !is_whole(&block) {
            return None;
        }
        let mut fields = Vec::new();
        self.decoder.decode(&mut block, &mut fields).ok()?;
        let fields = fields.into_iter().map(|(name, value, _)| (name, value));
        let fields: Vec<Field> = fields.collect();
        let ends = flags & END_STREAM != 0;
        match self.streams.get_mut(&stream) {
            None => {
                if self
                    .streams
                    .keys()
                    .next_back()
                    .is_some_and(|last| stream < *last)
                {
                    return None;
                }
                let mut request = StrictStream::of(fields);
                if let Some(request) = request.as_mut().filter(|_| ends) {
                    request.end();
                }
                let has_ended = ends;
                self.streams.insert(stream, Stream { request, has_ended });
            }
            Some(stream) => stream.trailers(fields, ends),
        }
        Some(())
    }

    fn data(&mut self, frame: &Frame<'_>) -> Option<()> {
        let content = frame.content()?;
        let stream = self.streams.get_mut(&frame.stream)?;
        if stream.has_ended {
            return Some(());
        }
        stream.has_ended = frame.flags & END_STREAM != 0;
        if let Some(request) = &mut stream.request {
            request.content.extend_from_slice(content);
            if stream.has_ended {
                request.end();
            }
        }
        Some(())
    }
}

impl Stream {
    fn trailers(&mut self, fields: Vec<Field>, ends: bool) {
        if self.has_ended {
            return;
        }
        self.has_ended = true;
        let is_valid = ends && fields.iter().all(is_valid_field);
        if let Some(request) = self.request.as_mut().filter(|_| is_valid) {
            request.trailers = fields;
            request.end();
        }
    }
}

impl StrictStream {
    /// Returns the request of a field section, unless it is malformed (sections 8.2 and 8.3).
    fn of(section: Vec<Field>) -> Option<Self> {
        let first = section.iter().position(|(name, _)| !name.starts_with(b":"));
        let (pseudo, fields) = section.split_at(first.unwrap_or(section.len()));
        let mut request = Self::default();
        let mut seen = Vec::new();
        for (name, value) in pseudo {
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            match &name[..] {
                b":method" => request.method = value.clone(),
                b":scheme" => request.scheme = value.clone(),
                b":path" => request.path = value.clone(),
                b":authority" => request.authority = Some(value.clone()),
                _ => return None,
            }
        }
        let required = [&request.method, &request.scheme, &request.path];
        let is_path = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
        let is_valid = required.iter().all(|value| !value.is_empty())
            && request.path.iter().all(is_path)
            && fields.iter().all(is_valid_field)
            && fields
                .iter()
                .filter(|(name, _)| name == b"content-length")
                .count()
                <= 1;
        request.fields = fields.to_vec();
        is_valid.then_some(request)
    }

    fn end(&mut self) {
        let length = self
            .fields
            .iter()
            .find(|(name, _)| name == b"content-length");
        self.is_complete = length.is_none_or(|(_, length)| {
            str::from_utf8(length).is_ok_and(|length| {
                length.bytes().all(|byte| byte.is_ascii_digit())
                    && length.parse() == Ok(self.content.len())
            })
        });
    }
}

/// Returns `true` if no field of a block is truncated, for which the decoder is not made.
fn is_whole(mut block: &[u8]) -> bool {
    while let Some(first) = block.first() {
        let (prefix, is_literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let Some(index) = integer(&mut block, prefix) else {
            return false;
        };
        let strings = if !is_literal {
            0
        } else {
            1 + usize::from(index == 0)
        };
        for _ in 0..strings {
            let length = integer(&mut block, 7);
            let Some(rest) = length.and_then(|length| block.get(length..)) else {
                return false;
            };
            block = rest;
        }
    }
    true
}

/// Reads an integer (RFC 7541 section 5.1) of at most four bytes.
fn integer(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let max = (1 << prefix) - 1;
    let mut value = usize::from(*first) & max;
    if value == max {
        for shift in [0, 7, 14, 21] {
            let (byte, after) = rest.split_first()?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

/// Returns `true` for a regular field that is not about the connection (sections 8.2.1 and 8.2.2).
fn is_valid_field((name, value): &Field) -> bool {
    const CONNECTION: [&[u8]; 5] = [
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    ];
    let is_name =
        |byte: &u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && *byte != b':';
    let is_value = |byte: &u8| !matches!(byte, 0 | b'\r' | b'\n');
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !name.is_empty()
        && name.iter().all(is_name)
        && value.iter().all(is_value)
        && !is_space(value.first())
        && !is_space(value.last())
        && !CONNECTION.contains(&&name[..])
        && (name != b"te" || value == b"trailers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    #[test]
    fn request_with_trailers_is_read() {
        let bytes = [
            frame(HEADERS, 0, 1, b"\x83\x86"),
            frame(CONTINUATION, END_HEADERS, 1, b"\x84\x40\x01a\x01b"),
            frame(DATA, PADDED, 1, b"\x02xy\0\0"),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xbe"),
        ];
        let [request] = &read(&bytes.concat())[..] else {
            panic!("one request");
        };
        assert_eq!(
            (&request.method[..], &request.path[..]),
            (&b"POST"[..], &b"/"[..])
        );
        assert_eq!(request.fields, [(b"a".to_vec(), b"b".to_vec())]);
        assert_eq!(request.content, b"xy");
        assert_eq!(request.trailers, request.fields);
        assert!(request.is_complete);
    }

    #[test]
    fn malformed_requests_are_none() {
        for block in [
            &b"\x82\x86"[..],
            b"\x82\x82\x86\x84",
            b"\x82\x86\x84\x00\x01A\x01b",
            b"\x82\x86\x84\x00\x02te\x01x",
            b"\x82\x86\x44\x03/#a",
            b"\x82\x86\x00\x01a\x01b\x84",
        ] {
            let bytes = frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
            assert_eq!(read(&bytes), [], "{block:?}");
        }
    }
}
