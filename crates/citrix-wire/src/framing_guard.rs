//! Looks at requests' heads as they come in, for what a lenient parser takes without a word.
//!
//! hyper reads heads and frames bodies; it takes a bare LF for a line's end, a repeated Content-Length for one, a
//! Content-Length beside a transfer coding for nothing, and cuts a target at `#`. Whoever stands in front of the
//! gateway may read the same bytes otherwise (RFC 9112 sections 2.2, 3.2, 6.3), so such a head is refused.
//!
//! There is no second parser of framing here. The watch cuts the stream into portions that end with an empty line
//! (CR LF CR LF), and it is told by hyper how long each body is. So hyper gets one portion at a time, a head ends
//! where a portion ends, and what is said of the last portion is said of the head that hyper read. A chunked body
//! needs no more: it ends with an empty line itself, and so on a portion's end.

use memchr::memchr;

/// Blank lines that may stand before a request; RFC 9112 section 2.2 asks to bear with one.
const MAX_BLANK_LINES: u8 = 4;
/// How much more than its data a chunked body may take, besides eight times the data: what hyper reads ahead, the
/// next head, and room. Chunks of one byte take five bytes more each; a size may have zeros in front without end.
const MAX_FRAMING: u64 = 256 * 1024;
const CONTENT_LENGTH: &[u8] = b"content-length:";

/// What is wrong with a head, though hyper took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// A line ends with LF alone.
    #[error("a line of the request's head ends with a bare LF")]
    BareLineFeed,
    /// More than a few empty lines before the request line.
    #[error("empty lines stand before the request")]
    BlankLines,
    /// More than one Content-Length.
    #[error("the request has more than one Content-Length")]
    RepeatedContentLength,
    /// Content-Length beside Transfer-Encoding.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    ContentLengthWithTransferEncoding,
    /// A target with a fragment, which is never sent (RFC 9112 section 3.2).
    #[error("the request target has a fragment (#)")]
    Fragment,
}

/// A chunked body that is hardly anything but sizes and extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunked body has far more framing than data")]
pub struct ExcessiveFraming;

/// How long the body behind a head is, as hyper read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes, or none.
    Bytes(u64),
    /// Chunks.
    Chunked,
}

/// Watches one connection's stream.
#[derive(Debug, Default)]
pub struct FramingGuard {
    /// Bytes of a body of known length that are still to come.
    skip: u64,
    /// Bytes of it that nobody has read yet.
    unread: u64,
    /// Bytes that were handed out since the head of a request with chunks, less what they may be.
    framing: Option<u64>,
    portion: Portion,
}

/// What was seen of the portion that is coming in, or that came last.
#[derive(Debug, Default)]
struct Portion {
    fault: Option<FramingError>,
    /// It ended with an empty line; the next byte begins another one.
    ended: bool,
    /// Empty lines before its first line, with those of blank portions before it.
    blank_lines: u8,
    /// A line that is not empty has begun.
    begun: bool,
    /// That line is the first one, and not over yet.
    in_request_line: bool,
    lengths: u8,
    /// The line before this one ended with CR LF.
    after_crlf: bool,
    /// Length of the line so far; it is only asked whether it is 0 or 1.
    line: usize,
    /// The last byte was CR.
    after_cr: bool,
    /// How much of [`CONTENT_LENGTH`] the line began with; `None` when it is another line.
    length_name: Option<u8>,
}

impl FramingGuard {
    /// Takes note of bytes that are about to be handed to hyper and returns how many of them may be: at least one
    /// where there is one. The rest is to be shown again.
    ///
    /// # Errors
    /// When the body that is being read is all framing.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<usize, ExcessiveFraming> {
        if self.skip > 0 {
            let passed = usize::try_from(self.skip)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            self.skip -= passed as u64;
            return Ok(passed);
        }
        let passed = self.portion.take(bytes);
        if let Some(framing) = &mut self.framing {
            *framing += passed as u64;
            if *framing > MAX_FRAMING {
                return Err(ExcessiveFraming);
            }
        }
        Ok(passed)
    }

    /// hyper has read so many bytes of a body's data.
    pub fn record_data(&mut self, length: usize) {
        self.unread = self.unread.saturating_sub(length as u64);
        if let Some(framing) = &mut self.framing {
            *framing = framing.saturating_sub((length as u64).saturating_mul(9));
        }
    }

    /// hyper has read a body to its end.
    pub fn end_body(&mut self) {
        (self.unread, self.framing) = (0, None);
    }

    /// Whether the last request's body was read to its end. Then what comes next is another request.
    pub fn is_body_complete(&self) -> bool {
        self.unread == 0 && self.framing.is_none()
    }

    /// hyper has read a head, and a body of this length follows.
    ///
    /// # Errors
    /// With what is wrong with the head. The connection must not be read on then.
    pub fn check_head(&mut self, body: BodyLength) -> Result<(), FramingError> {
        (self.skip, self.framing) = match body {
            BodyLength::Bytes(length) => (length, None),
            BodyLength::Chunked => (0, Some(0)),
        };
        self.unread = self.skip;
        let portion = &self.portion;
        match portion.fault {
            Some(fault) => Err(fault),
            // For hyper the head was over before it was for us.
            None if !portion.ended || !portion.begun => Err(FramingError::BareLineFeed),
            None if portion.blank_lines > MAX_BLANK_LINES => Err(FramingError::BlankLines),
            None if portion.lengths > 1 => Err(FramingError::RepeatedContentLength),
            None if portion.lengths > 0 && body == BodyLength::Chunked => {
                Err(FramingError::ContentLengthWithTransferEncoding)
            }
            None => Ok(()),
        }
    }
}

impl Portion {
    fn begin(&mut self) {
        // What was found among blank lines belongs to the request behind them.
        let (blank_lines, fault) = if self.begun {
            (0, None)
        } else {
            (self.blank_lines, self.fault)
        };
        *self = Self {
            blank_lines,
            fault,
            ..Self::default()
        };
    }

    fn take(&mut self, bytes: &[u8]) -> usize {
        if self.ended && !bytes.is_empty() {
            self.begin();
        }
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            let Some(line_end) = memchr(b'\n', rest) else {
                self.see(rest);
                return bytes.len();
            };
            self.see(&rest[..line_end]);
            taken += line_end + 1;
            self.end_line();
            if self.ended && (self.begun || self.blank_lines <= MAX_BLANK_LINES) {
                break;
            }
            if self.ended {
                // It will be refused. hyper reads all that it has with each portion: these would cost the square.
                self.begin();
            }
        }
        taken
    }

    /// A part of a line, without its LF.
    fn see(&mut self, part: &[u8]) {
        let Some(&last) = part.last() else { return };
        if self.line == 0 {
            self.length_name = Some(0);
            if !self.begun && part[0] != b'\r' {
                (self.begun, self.in_request_line) = (true, true);
            }
        }
        self.line = self.line.saturating_add(part.len());
        self.after_cr = last == b'\r';
        if self.in_request_line && memchr(b'#', part).is_some() {
            self.fault.get_or_insert(FramingError::Fragment);
        }
        self.see_name(part);
    }

    /// Counts the lines that begin with `Content-Length:`.
    fn see_name(&mut self, part: &[u8]) {
        let Some(known) = self.length_name else {
            return;
        };
        let wanted = &CONTENT_LENGTH[usize::from(known)..];
        let common = part.len().min(wanted.len());
        if !part[..common].eq_ignore_ascii_case(&wanted[..common]) {
            self.length_name = None;
        } else if common == wanted.len() {
            self.length_name = None;
            self.lengths = self.lengths.saturating_add(1);
        } else {
            self.length_name = Some(known + u8::try_from(common).unwrap_or_default());
        }
    }

    fn end_line(&mut self) {
        let (ended_well, empty) = (self.after_cr, self.after_cr && self.line == 1);
        if !ended_well {
            self.fault.get_or_insert(FramingError::BareLineFeed);
        }
        if !self.begun {
            self.blank_lines = self.blank_lines.saturating_add(1);
        }
        self.ended = empty && self.after_crlf;
        (self.after_crlf, self.in_request_line) = (ended_well, false);
        (self.line, self.after_cr, self.length_name) = (0, false, None);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Shows the bytes in pieces of this size; where the portions end.
    fn portions(watch: &mut FramingGuard, bytes: &[u8], piece: usize) -> Vec<usize> {
        let (mut ends, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            at += watch
                .scan(&bytes[at..(at + piece).min(bytes.len())])
                .unwrap();
            if watch.skip == 0 && watch.portion.ended {
                ends.push(at);
            }
        }
        ends
    }

    fn judged(head: &str, body: BodyLength) -> Result<(), FramingError> {
        let verdicts = [1, 2, 3, 7, usize::MAX / 2].map(|piece| {
            let mut watch = FramingGuard::default();
            portions(&mut watch, head.as_bytes(), piece);
            watch.check_head(body)
        });
        assert!(
            verdicts.iter().all(|verdict| *verdict == verdicts[0]),
            "{head:?} {verdicts:?}"
        );
        verdicts[0]
    }

    #[test]
    fn rfc9112_heads_that_can_be_read_in_two_ways_are_told() {
        use BodyLength::{Bytes, Chunked};
        let cases = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Bytes(0), Ok(())),
            ("GET / HTTP/1.1\r\n\r\n", Bytes(0), Ok(())),
            (
                "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                Bytes(0),
                Ok(()),
            ),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Bytes(0), Ok(())),
            (
                "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                Bytes(0),
                Err(FramingError::BlankLines),
            ),
            (
                "\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                Bytes(0),
                Err(FramingError::BareLineFeed),
            ),
            (
                "\nGET / HTTP/1.1\r\n\r\n",
                Bytes(0),
                Err(FramingError::BareLineFeed),
            ),
            (
                "GET / HTTP/1.1\nHost: a\r\n\r\n",
                Bytes(0),
                Err(FramingError::BareLineFeed),
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\n\r\n",
                Bytes(0),
                Err(FramingError::BareLineFeed),
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\n\n",
                Bytes(0),
                Err(FramingError::BareLineFeed),
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\n\nX: \r\n\r\n",
                Bytes(0),
                Err(FramingError::BareLineFeed),
            ),
            (
                "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
                Bytes(0),
                Err(FramingError::Fragment),
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX: #a\r\n\r\n",
                Bytes(0),
                Ok(()),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
                Bytes(5),
                Ok(()),
            ),
            (
                "POST / HTTP/1.1\r\nX-Content-Length: 5\r\ncontent-length:5\r\n\r\n",
                Bytes(5),
                Ok(()),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 5\r\nCONTENT-LENGTH:5\r\n\r\n",
                Bytes(5),
                Err(FramingError::RepeatedContentLength),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
                Chunked,
                Err(FramingError::ContentLengthWithTransferEncoding),
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Chunked,
                Ok(()),
            ),
        ];
        for (head, body, expected) in cases {
            assert_eq!(judged(head, body), expected, "{head:?}");
        }
    }

    #[test]
    fn blank_lines_without_end_are_not_cut_into_portions_and_end_with_a_head_all_the_same() {
        let mut watch = FramingGuard::default();
        let heads = "\r\n".repeat(1000) + "GET / HTTP/1.1\r\n\r\n" + "GET / HTTP/1.1\r\n\r\n";
        assert_eq!(
            portions(&mut watch, heads.as_bytes(), usize::MAX / 2),
            [4, 8, 2018, 2036]
        );
        assert_eq!(
            judged(&heads[..2018], BodyLength::Bytes(0)),
            Err(FramingError::BlankLines)
        );
    }

    #[test]
    fn a_body_of_known_length_is_not_looked_at() {
        let mut watch = FramingGuard::default();
        let head = b"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(
            watch.scan(&[head, &b"\n\r\n\r\n#\nGET"[..]].concat()),
            Ok(head.len())
        );
        assert_eq!(watch.check_head(BodyLength::Bytes(7)), Ok(()));
        assert_eq!(watch.scan(b"\n\r\n"), Ok(3));
        assert_eq!(watch.scan(b"\r\n#\nGET"), Ok(4));
        portions(&mut watch, b"GET / HTTP/1.1\r\n\r\n", 5);
        assert_eq!(watch.check_head(BodyLength::Bytes(0)), Ok(()));
    }

    #[test]
    fn chunks_may_be_small_but_not_all_framing() {
        let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut watch = FramingGuard::default();
        watch.scan(head).unwrap();
        watch.check_head(BodyLength::Chunked).unwrap();
        for _ in 0..100_000 {
            assert_eq!(watch.scan(b"1\r\nx\r\n"), Ok(6));
            watch.record_data(1);
        }
        let zeros = [b'0'; 1024];
        let passed = (0..1024).take_while(|_| watch.scan(&zeros).is_ok()).count();
        assert_eq!(passed, 256);
    }

    proptest! {
        /// Whatever a chunked body holds, hyper's buffer is empty at its end: a portion ends there.
        #[test]
        fn rfc9112_7_1_a_chunked_body_ends_where_a_portion_ends(
            chunks in prop::collection::vec("[\r\n0a;:#]{1,12}", 0..6),
            extension in "(;[a0]{0,3})?",
            trailers in prop::collection::vec("[a-c\n]{1,3}: [a-c\n]{0,3}", 0..3),
            piece in 1_usize..40,
        ) {
            let mut body = String::new();
            for chunk in &chunks {
                body += &format!("{:x}{extension}\r\n{chunk}\r\n", chunk.len());
            }
            body += &format!("0{extension}\r\n");
            for trailer in &trailers {
                body += &format!("{trailer}\r\n");
            }
            body += "\r\n";
            let next = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            let mut watch = FramingGuard::default();
            let ends = portions(&mut watch, format!("{body}{next}").as_bytes(), piece);
            prop_assert!(ends.contains(&body.len()), "{body:?} {ends:?}");
            prop_assert_eq!(ends.last(), Some(&(body.len() + next.len())));
            prop_assert_eq!(watch.check_head(BodyLength::Bytes(0)), Ok(()));
        }
    }
}
