//! A strict reader of HTTP/1 requests (RFC 9112), the reference for what the gateway forwards: whatever
//! two recipients might read differently is invalid.

use std::collections::VecDeque;

/// Empty lines before a request line (section 2.2 asks for at least one).
const MAX_EMPTY_LINES: usize = 4;

/// A request whose head is valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrictRequest {
    pub method: String,
    pub target: String,
    /// The minor version: 0 or 1.
    pub minor: u8,
    /// Names in lower case, in the order of arrival.
    pub fields: Vec<(String, Vec<u8>)>,
    /// What arrived of the content.
    pub content: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
    /// The content has ended as its framing says.
    pub is_complete: bool,
}

/// The end of what could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrictEnd {
    /// Nothing follows the last request, or it closes the connection.
    Ended,
    /// More bytes would have to arrive.
    Incomplete,
    /// What follows is no request, or has two readings.
    Invalid(&'static str),
}

/// Reads all requests of a connection.
pub fn read(bytes: &[u8]) -> (Vec<StrictRequest>, StrictEnd) {
    let (mut requests, mut reader) = (Vec::new(), Reader { rest: bytes });
    let end = loop {
        match reader.request(&mut requests) {
            Ok(true) => {}
            Ok(false) => break StrictEnd::Ended,
            Err(end) => break end,
        }
    };
    (requests, end)
}

struct Reader<'b> {
    rest: &'b [u8],
}

type Read<T> = Result<T, StrictEnd>;

fn invalid<T>(reason: &'static str) -> Read<T> {
    Err(StrictEnd::Invalid(reason))
}

impl<'b> Reader<'b> {
    /// Adds the next request. Returns `false` if none follows it.
    fn request(&mut self, requests: &mut Vec<StrictRequest>) -> Read<bool> {
        let mut empty_lines = 0;
        while self.rest.starts_with(b"\r\n") {
            self.rest = &self.rest[2..];
            empty_lines += 1;
        }
        if empty_lines > MAX_EMPTY_LINES {
            return invalid("empty lines");
        }
        if self.rest.is_empty() {
            return Ok(false);
        }
        let mut request = StrictRequest::default();
        request.read_line(self.line()?)?;
        request.fields = self.fields()?;
        let framing = Framing::of(&request)?;
        let persists = request.persists();
        requests.push(request);
        let request = requests.last_mut().expect("just added");
        self.content(framing, request)?;
        request.is_complete = true;
        Ok(persists)
    }

    /// Returns the next line, without its end.
    fn line(&mut self) -> Read<&'b [u8]> {
        let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') else {
            return Err(StrictEnd::Incomplete);
        };
        let (line, rest) = self.rest.split_at(end + 1);
        self.rest = rest;
        match line {
            [text @ .., b'\r', b'\n'] if !text.contains(&b'\r') => Ok(text),
            _ => invalid("line end"),
        }
    }

    fn fields(&mut self) -> Read<Vec<(String, Vec<u8>)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                return invalid("field without a colon");
            };
            let (name, value) = (&line[..colon], trim_space(&line[colon + 1..]));
            let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
            if !is_token(name) || !value.iter().all(is_text) {
                return invalid("field");
            }
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            fields.push((name, value.to_vec()));
        }
    }

    fn content(&mut self, framing: Framing, request: &mut StrictRequest) -> Read<()> {
        match framing {
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                self.take(length, &mut request.content)
            }
            Framing::Chunked => loop {
                let size = chunk_size(self.line()?)?;
                if size == 0 {
                    request.trailers = self.fields()?;
                    return Ok(());
                }
                self.take(size, &mut request.content)?;
                if !self.line()?.is_empty() {
                    return invalid("chunk end");
                }
            },
        }
    }

    fn take(&mut self, length: usize, content: &mut Vec<u8>) -> Read<()> {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        content.extend_from_slice(taken);
        self.rest = rest;
        if taken.len() < length {
            return Err(StrictEnd::Incomplete);
        }
        Ok(())
    }
}

/// Removes optional white space (RFC 9110 section 5.6.3).
fn trim_space(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn is_token(text: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_tchar)
}

fn chunk_size(line: &[u8]) -> Read<usize> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (digits, extension) = line.split_at(digits.count());
    // hyper skips an extension whatever it consists of, and none is forwarded.
    if !matches!(trim_space(extension), [] | [b';', ..]) {
        return invalid("chunk extension");
    }
    let digits = String::from_utf8_lossy(digits);
    usize::from_str_radix(&digits, 16).map_err(|_| StrictEnd::Invalid("chunk size"))
}

enum Framing {
    Length(u64),
    Chunked,
}

impl Framing {
    /// Returns the framing of the content (section 6.3).
    fn of(request: &StrictRequest) -> Read<Self> {
        let mut codings: VecDeque<_> = request.values("transfer-encoding").collect();
        let mut lengths: VecDeque<_> = request.values("content-length").collect();
        match (codings.pop_front(), lengths.pop_front()) {
            _ if !codings.is_empty() || !lengths.is_empty() => invalid("repeated framing field"),
            (None, None) => Ok(Self::Length(0)),
            (Some(_), Some(_)) => invalid("both framings"),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => {
                if request.minor == 0 {
                    return invalid("transfer coding of HTTP/1.0");
                }
                Ok(Self::Chunked)
            }
            (Some(_), None) => invalid("transfer coding"),
            (None, Some(length)) => {
                let digits = String::from_utf8_lossy(length);
                if !length.iter().all(u8::is_ascii_digit) {
                    return invalid("length");
                }
                let length = digits.parse();
                length.map_or(invalid("length"), |length| Ok(Self::Length(length)))
            }
        }
    }
}

impl StrictRequest {
    /// Returns the values of a field.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = self.fields.iter().filter(move |(other, _)| other == name);
        named.map(|(_, value)| &value[..])
    }

    fn read_line(&mut self, line: &[u8]) -> Read<()> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return invalid("request line");
        };
        self.minor = match version {
            b"HTTP/1.1" => 1,
            b"HTTP/1.0" => 0,
            _ => return invalid("version"),
        };
        let is_target = |byte: &u8| byte.is_ascii_graphic() && !b"#\"<>".contains(byte);
        if !is_token(method) || target.is_empty() || !target.iter().all(is_target) {
            return invalid("method or target");
        }
        self.method = String::from_utf8_lossy(method).into_owned();
        self.target = String::from_utf8_lossy(target).into_owned();
        Ok(())
    }

    /// Returns `true` if another request may follow on the connection (section 9.3).
    fn persists(&self) -> bool {
        let options = self.values("connection");
        let has = |option: &[u8]| {
            options
                .flat_map(|value| value.split(|byte| *byte == b','))
                .any(|text| trim_space(text).eq_ignore_ascii_case(option))
        };
        if self.minor == 0 {
            has(b"keep-alive")
        } else {
            !has(b"close")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(bytes: &[u8]) -> (usize, StrictEnd) {
        let (requests, end) = read(bytes);
        (requests.len(), end)
    }

    #[test]
    fn requests_are_read_one_after_the_other() {
        let (requests, end) = read(
            b"\r\nPOST /a?b HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\nxy\
              POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;e\r\nzz\r\n0\r\nt:  u \r\n\r\n",
        );
        assert_eq!(end, StrictEnd::Ended);
        assert_eq!(requests[0].fields[0], ("host".into(), b"c".into()));
        assert_eq!(
            (&requests[0].content[..], &requests[1].content[..]),
            (&b"xy"[..], &b"zz"[..])
        );
        assert_eq!(requests[1].trailers, [("t".into(), b"u".to_vec())]);
    }

    #[test]
    fn what_has_two_readings_is_invalid() {
        for bytes in [
            &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            b"GET /#a HTTP/1.1\r\n\r\n",
            b"GET /  HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            let (requests, end) = outcome(bytes);
            assert!(
                matches!((requests, end), (0, StrictEnd::Invalid(_))),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn bytes_after_a_request_that_closes_the_connection_are_none() {
        let close = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(outcome(close), (1, StrictEnd::Ended));
        assert_eq!(outcome(b"GET / HTTP/1.0\r\n\r\n\n"), (1, StrictEnd::Ended));
        assert_eq!(outcome(b"GET / HT"), (0, StrictEnd::Incomplete));
    }
}
