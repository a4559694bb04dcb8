//! The end of a header section (RFC 9112 section 2.1).

use super::head_error::HeadError;
use crate::head_limit::{HeadTooLarge, MAX_BYTES};

/// Bytes of a section beyond those of its fields: the status line, and white space around values.
const MAX_EXTRA: usize = 8 * 1024;

/// Searches the empty line after a section that arrives in pieces. Each byte is searched once, so
/// that a section in many pieces costs no more than one in a few.
#[derive(Clone, Copy, Debug, Default)]
pub struct SectionEnd {
    scanned: usize,
    /// Start of the line that is not complete yet.
    line: usize,
}

impl SectionEnd {
    /// Returns the length of the section with its empty line, once it is complete. `bytes` are all
    /// that have arrived, from the start of the section.
    ///
    /// # Errors
    /// For a line that ends without CR, and for a section that is too large.
    pub fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        let mut found = None;
        while let Some(at) = memchr::memchr(b'\n', &bytes[self.scanned..]) {
            let feed = self.scanned + at;
            if feed == self.line || bytes[feed - 1] != b'\r' {
                return Err(HeadError::LineEnd);
            }
            let is_empty = feed - 1 == self.line;
            (self.scanned, self.line) = (feed + 1, feed + 1);
            if is_empty {
                found = Some(self.scanned);
                break;
            }
        }
        if found.is_none() {
            self.scanned = bytes.len();
        }
        if self.scanned > MAX_BYTES + MAX_EXTRA {
            return Err(HeadTooLarge.into());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9112_2_1_section_ends_at_its_empty_line() {
        for (bytes, expected) in [
            ("", Ok(None)),
            ("\r", Ok(None)),
            ("\r\n", Ok(Some(2))),
            ("a: b\r\n", Ok(None)),
            ("a: b\r\n\r", Ok(None)),
            ("a: b\r\n\r\nbody\n", Ok(Some(8))),
            ("a: b\r\r\n\r\n", Ok(Some(9))),
            ("\n", Err(HeadError::LineEnd)),
            ("a: b\n\r\n", Err(HeadError::LineEnd)),
            ("a: b\r\n\n", Err(HeadError::LineEnd)),
        ] {
            assert_eq!(
                SectionEnd::default().find(bytes.as_bytes()),
                expected,
                "{bytes:?}"
            );
            // The same in pieces.
            let mut end = SectionEnd::default();
            let found = (0..=bytes.len()).map(|length| end.find(&bytes.as_bytes()[..length]));
            let found = found.collect::<Vec<_>>();
            let first = found.iter().copied().find(|found| *found != Ok(None));
            assert_eq!(first.unwrap_or(Ok(None)), expected, "{bytes:?}");
        }
    }

    #[test]
    fn sections_are_bounded() {
        let large = "x".repeat(MAX_BYTES + MAX_EXTRA);
        assert_eq!(SectionEnd::default().find(large.as_bytes()), Ok(None));
        for rest in ["x", "\r\n\r\n"] {
            let larger = format!("{large}{rest}");
            let found = SectionEnd::default().find(larger.as_bytes());
            assert_eq!(found, Err(HeadTooLarge.into()));
        }
    }
}
