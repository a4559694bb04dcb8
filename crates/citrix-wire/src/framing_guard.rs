//! Rejects request heads that hyper accepts but another HTTP implementation may frame differently.
//!
//! hyper accepts a bare LF as a line ending, repeated Content-Length fields with one value, and
//! Content-Length beside Transfer-Encoding; it drops a fragment from the target. A proxy in front
//! of the gateway may read the same bytes differently (RFC 9112 sections 2.2, 3.2 and 6.3), which
//! enables request smuggling.
//!
//! The guard splits the stream into portions, and passes hyper one at a time: a head, or a chunked
//! body with its trailers. Both end with an empty line (CR LF CR LF), so a head ends where a portion
//! ends, and the findings of the last portion belong to the head that hyper parsed. The guard takes
//! the kind and length of each body from hyper. It follows the framing of a chunked one, because
//! hyper reads trailers up to CR LF CR LF: where one of their lines ends with a bare LF, they would
//! contain the next request.

use memchr::memchr;

use crate::http1::chunk_framing::{ChunkFraming, ChunkFramingError, Span};

/// Permitted empty lines before a request line; RFC 9112 section 2.2 asks servers to ignore at
/// least one.
const MAX_BLANK_LINES: u8 = 4;
/// Permitted framing of a chunked body beyond [`FRAMING_PER_BYTE`]: slack.
const MAX_FRAMING: u64 = 256 * 1024;
/// Permitted framing of each byte of data. A chunk of one byte takes five.
const FRAMING_PER_BYTE: u64 = 8;
const CONTENT_LENGTH: &[u8] = b"content-length:";

/// A defect of a head that hyper accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// A line ends with LF alone.
    #[error("a line of the request head ends with a bare LF")]
    BareLineFeed,
    /// Too many empty lines precede the request line.
    #[error("more than {MAX_BLANK_LINES} empty lines precede the request line")]
    BlankLines,
    /// More than one Content-Length field, even with one value.
    #[error("the request has more than one Content-Length")]
    RepeatedContentLength,
    /// Content-Length beside Transfer-Encoding.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    ContentLengthWithTransferEncoding,
    /// A target with a fragment, which clients never send (RFC 9112 section 3.2).
    #[error("the request target has a fragment (#)")]
    Fragment,
}

/// A defect of a chunked body. hyper accepts bodies with some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkedBodyError {
    /// Chunks with more than one reading.
    #[error(transparent)]
    Framing(#[from] ChunkFramingError),
    /// The body consists almost only of chunk sizes, extensions and trailers.
    #[error("the chunked body has far more framing than data")]
    ExcessiveFraming,
    /// A line of the trailers ends with LF alone.
    #[error("a line of the trailers ends with a bare LF")]
    BareLineFeed,
}

/// The length of a body, as hyper parsed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// Content-Length, or 0 without a body.
    Bytes(u64),
    Chunked,
}

impl Default for BodyLength {
    fn default() -> Self {
        Self::Bytes(0)
    }
}

/// Inspects the stream of one connection.
#[derive(Debug, Default)]
pub struct FramingGuard {
    /// Bytes of a body of known length that have not arrived.
    skip: u64,
    /// Bytes that had arrived at the last scan and may not be passed yet.
    behind: usize,
    /// The chunked body that is arriving.
    chunked: Option<ChunkedBody>,
    /// The part of the last body that hyper has not returned.
    unread: BodyLength,
    portion: Portion,
}

#[derive(Debug, Default)]
struct ChunkedBody {
    chunks: ChunkFraming,
    /// Framing so far, minus what its data permits.
    excess: u64,
}

/// Findings of the current portion, or of the last one once it has ended.
#[derive(Debug, Default)]
struct Portion {
    error: Option<FramingError>,
    /// It ended with an empty line; the next byte begins another portion.
    ended: bool,
    /// Empty lines before its first other line, including those of preceding blank portions.
    blank_lines: u8,
    /// A line that is not empty has begun.
    begun: bool,
    /// The current line is the request line.
    in_request_line: bool,
    content_lengths: u8,
    /// The preceding line ended with CR LF.
    after_crlf: bool,
    /// Length of the current line so far; only 0 and 1 matter.
    line_length: usize,
    /// The last byte was CR.
    after_cr: bool,
    /// Length of the prefix of [`CONTENT_LENGTH`] that the line consists of so far; `None` for any
    /// other line.
    name_matched: Option<u8>,
}

impl FramingGuard {
    /// Inspects bytes that are about to be passed to hyper and returns how many may be: at least
    /// one of a non-empty slice. The rest must be scanned again.
    ///
    /// # Errors
    /// If the current chunked body is ambiguous or consists almost only of framing. The connection
    /// must be closed then.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<usize, ChunkedBodyError> {
        let passed = self.scan_portion(bytes)?;
        self.behind = bytes.len() - passed;
        Ok(passed)
    }

    fn scan_portion(&mut self, bytes: &[u8]) -> Result<usize, ChunkedBodyError> {
        if self.skip > 0 {
            let passed = usize::try_from(self.skip)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            self.skip -= passed as u64;
            return Ok(passed);
        }
        let Some(body) = &mut self.chunked else {
            return Ok(self.portion.scan(bytes));
        };
        let passed = body.scan(bytes, &mut self.portion)?;
        if self.portion.ended {
            self.chunked = None;
        }
        Ok(passed)
    }

    /// Records bytes of body data that hyper returned.
    pub fn record_data(&mut self, length: usize) {
        if let BodyLength::Bytes(unread) = &mut self.unread {
            *unread = unread.saturating_sub(length as u64);
        }
    }

    /// Records that hyper returned the end of a body.
    pub fn end_body(&mut self) {
        self.unread = BodyLength::Bytes(0);
    }

    /// Returns `true` if hyper has read the last request's body to its end, so that the next byte
    /// begins a request.
    pub fn is_body_complete(&self) -> bool {
        self.unread == BodyLength::Bytes(0)
    }

    /// Returns `true` if hyper skips what it has not returned of the last body, and reads the next
    /// request: it reads once more after the response, which is too little for chunks and for what
    /// has not arrived.
    pub fn is_rest_skipped(&self) -> bool {
        self.skip <= self.behind as u64 && self.unread != BodyLength::Chunked
    }

    /// Returns `true` if the next byte to scan belongs to a head.
    pub fn is_head_due(&self) -> bool {
        self.skip == 0 && self.chunked.is_none()
    }

    /// Checks the head that hyper parsed last; `body` is the length of the body that follows.
    ///
    /// # Errors
    /// If the head is ambiguous. The connection must be closed then.
    pub fn check_head(&mut self, body: BodyLength) -> Result<(), FramingError> {
        (self.skip, self.chunked) = match body {
            BodyLength::Bytes(length) => (length, None),
            BodyLength::Chunked => (0, Some(ChunkedBody::default())),
        };
        self.unread = body;
        let portion = match body {
            BodyLength::Bytes(_) => &self.portion,
            BodyLength::Chunked => &std::mem::replace(&mut self.portion, Portion::trailers()),
        };
        match portion.error {
            Some(error) => Err(error),
            // hyper saw the end of the head before the guard did.
            None if !portion.ended || !portion.begun => Err(FramingError::BareLineFeed),
            None if portion.blank_lines > MAX_BLANK_LINES => Err(FramingError::BlankLines),
            None if portion.content_lengths > 1 => Err(FramingError::RepeatedContentLength),
            None if portion.content_lengths > 0 && body == BodyLength::Chunked => {
                Err(FramingError::ContentLengthWithTransferEncoding)
            }
            None => Ok(()),
        }
    }
}

impl ChunkedBody {
    /// Scans up to the end of the body, which is that of the portion of its trailers.
    fn scan(&mut self, bytes: &[u8], trailers: &mut Portion) -> Result<usize, ChunkedBodyError> {
        let mut scanned = 0;
        while scanned < bytes.len() && !trailers.ended {
            let rest = &bytes[scanned..];
            scanned += match self.chunks.next(rest)? {
                Span::Data(length) => {
                    let permitted = (length as u64).saturating_mul(FRAMING_PER_BYTE);
                    self.excess = self.excess.saturating_sub(permitted);
                    length
                }
                Span::Framing(length) => self.count(length)?,
                Span::Trailers => self.count(trailers.scan(rest))?,
            };
        }
        match trailers.error {
            Some(_) => Err(ChunkedBodyError::BareLineFeed),
            None => Ok(scanned),
        }
    }

    fn count(&mut self, framing: usize) -> Result<usize, ChunkedBodyError> {
        self.excess += framing as u64;
        if self.excess > MAX_FRAMING {
            return Err(ChunkedBodyError::ExcessiveFraming);
        }
        Ok(framing)
    }
}

impl Portion {
    /// Returns the portion that begins after the last chunk.
    fn trailers() -> Self {
        Self {
            begun: true,
            after_crlf: true,
            ..Self::default()
        }
    }

    /// Resets for the next portion. Findings among blank lines belong to the request that follows
    /// them.
    fn restart(&mut self) {
        let (blank_lines, error) = if self.begun {
            (0, None)
        } else {
            (self.blank_lines, self.error)
        };
        *self = Self {
            blank_lines,
            error,
            ..Self::default()
        };
    }

    fn scan(&mut self, bytes: &[u8]) -> usize {
        if self.ended && !bytes.is_empty() {
            self.restart();
        }
        let mut scanned = 0;
        while scanned < bytes.len() {
            let rest = &bytes[scanned..];
            let Some(line_end) = memchr(b'\n', rest) else {
                self.scan_line_part(rest);
                return bytes.len();
            };
            let line = &rest[..line_end];
            if self.line_length == 0 {
                self.scan_line(line);
            } else {
                self.scan_line_part(line);
                self.end_line();
            }
            scanned += line_end + 1;
            if self.ended && (self.begun || self.blank_lines <= MAX_BLANK_LINES) {
                break;
            }
            if self.ended {
                // The request will be rejected. hyper rescans its buffer with each portion, so that
                // further blank portions would cost quadratic time.
                self.restart();
            }
        }
        scanned
    }

    /// Scans a line without its LF, as `scan_line_part` and `end_line` do, but with less state:
    /// nearly all lines arrive whole.
    fn scan_line(&mut self, line: &[u8]) {
        let crlf = line.last() == Some(&b'\r');
        if let Some(&first) = line.first()
            && !self.begun
            && first != b'\r'
        {
            self.begun = true;
            if memchr(b'#', line).is_some() {
                self.error.get_or_insert(FramingError::Fragment);
            }
        }
        if !crlf {
            self.error.get_or_insert(FramingError::BareLineFeed);
        }
        if !self.begun {
            self.blank_lines = self.blank_lines.saturating_add(1);
        }
        // Most names already differ in the first letter.
        if let [b'c' | b'C', ..] = line
            && let Some(name) = line.get(..CONTENT_LENGTH.len())
            && name.eq_ignore_ascii_case(CONTENT_LENGTH)
        {
            self.content_lengths = self.content_lengths.saturating_add(1);
        }
        self.ended = crlf && line.len() == 1 && self.after_crlf;
        self.after_crlf = crlf;
    }

    /// Scans part of a line, without its LF.
    fn scan_line_part(&mut self, part: &[u8]) {
        let Some(&last) = part.last() else { return };
        if self.line_length == 0 {
            self.name_matched = Some(0);
            if !self.begun && part[0] != b'\r' {
                (self.begun, self.in_request_line) = (true, true);
            }
        }
        self.line_length = self.line_length.saturating_add(part.len());
        self.after_cr = last == b'\r';
        if self.in_request_line && memchr(b'#', part).is_some() {
            self.error.get_or_insert(FramingError::Fragment);
        }
        self.match_content_length(part);
    }

    /// Counts the lines that begin with `Content-Length:`.
    fn match_content_length(&mut self, part: &[u8]) {
        let Some(matched) = self.name_matched else {
            return;
        };
        let expected = &CONTENT_LENGTH[usize::from(matched)..];
        let common = part.len().min(expected.len());
        if !part[..common].eq_ignore_ascii_case(&expected[..common]) {
            self.name_matched = None;
        } else if common == expected.len() {
            self.name_matched = None;
            self.content_lengths = self.content_lengths.saturating_add(1);
        } else {
            self.name_matched = Some(matched + u8::try_from(common).unwrap_or_default());
        }
    }

    fn end_line(&mut self) {
        let (crlf, empty) = (self.after_cr, self.after_cr && self.line_length == 1);
        if !crlf {
            self.error.get_or_insert(FramingError::BareLineFeed);
        }
        if !self.begun {
            self.blank_lines = self.blank_lines.saturating_add(1);
        }
        self.ended = empty && self.after_crlf;
        (self.after_crlf, self.in_request_line) = (crlf, false);
        (self.line_length, self.after_cr, self.name_matched) = (0, false, None);
    }
}

#[cfg(test)]
mod tests;
