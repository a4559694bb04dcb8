//! Writes log lines to stderr.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Wait before another write to a non-blocking stderr whose reader is slow.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Writes each line as a whole, or reports that it did not.
pub(super) struct LineWriter<W> {
    /// `None` if there is no stderr.
    out: Option<W>,
    /// The last line was written in part, and no line end follows it.
    torn: bool,
}

impl LineWriter<io::Stderr> {
    /// Returns a writer to stderr.
    pub(super) fn stderr() -> Self {
        Self::new((!stderr_was_closed()).then(io::stderr))
    }
}

impl<W: Write> LineWriter<W> {
    pub(super) fn new(out: Option<W>) -> Self {
        Self { out, torn: false }
    }

    /// Returns `true` if lines can be written, perhaps later.
    pub(super) fn exists(&self) -> bool {
        self.out.is_some()
    }

    /// Writes a line. Returns `true` if all of it was written.
    pub(super) fn write_line(&mut self, line: &[u8]) -> bool {
        self.write_lines(line) == 0
    }

    /// Writes lines, all at once if stderr accepts them. Returns the number of those that were not
    /// written as a whole.
    pub(super) fn write_lines(&mut self, lines: &[u8]) -> u64 {
        let (mut rest, mut lost) = (lines, 0);
        while !rest.is_empty() {
            let separated = !self.torn || self.pass(b"\n") == 1;
            let written = if separated { self.pass(rest) } else { 0 };
            rest = &rest[written..];
            if rest.is_empty() {
                self.torn = false;
                break;
            }
            // The line that was not accepted, as a whole or in part, is lost.
            if separated {
                self.torn = lines[..lines.len() - rest.len()]
                    .last()
                    .is_some_and(|last| *last != b'\n');
            }
            let end = rest.iter().position(|byte| *byte == b'\n');
            rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
            lost += 1;
        }
        lost
    }

    /// Returns the number of bytes that were written.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let Some(out) = &mut self.out else {
            return 0;
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            match out.write(rest) {
                Ok(count @ 1..) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // As with a blocking stderr, lines queue meanwhile.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(RETRY_INTERVAL);
                }
                Ok(0) | Err(_) => break,
            }
        }
        bytes.len() - rest.len()
    }
}

/// Returns `true` if the program was started without stderr. The standard library then opens
/// `/dev/null` in its place, for reading and writing; a redirection opens it for writing only.
fn stderr_was_closed() -> bool {
    let is_null = fs::read_link("/proc/self/fd/2").is_ok_and(|file| file == Path::new("/dev/null"));
    let is_read_write = || {
        let info = fs::read_to_string("/proc/self/fdinfo/2").unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        // O_ACCMODE is 3, O_RDWR is 2.
        flags
            .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
            .is_some_and(|flags| flags & 3 == 2)
    };
    is_null && is_read_write()
}

#[cfg(test)]
impl<W> LineWriter<W> {
    pub(super) fn get_ref(&self) -> Option<&W> {
        self.out.as_ref()
    }

    pub(super) fn get_mut(&mut self) -> Option<&mut W> {
        self.out.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Accepts or rejects writes as scripted, then everything.
    #[derive(Default)]
    struct Script {
        results: VecDeque<io::Result<usize>>,
        written: String,
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.results.pop_front().unwrap_or(Ok(bytes.len()))?;
            self.written
                .push_str(str::from_utf8(&bytes[..count]).unwrap());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes the lines `one` and `two`. Returns what was written and the number of lost lines.
    fn after(results: Vec<io::Result<usize>>) -> (String, u64) {
        let script = Script {
            results: results.into(),
            ..Script::default()
        };
        let mut lines = LineWriter::new(Some(script));
        let lost = lines.write_lines(b"one\ntwo\n");
        (lines.out.unwrap().written, lost)
    }

    fn full() -> io::Result<usize> {
        Err(ErrorKind::StorageFull.into())
    }

    #[test]
    fn partial_interrupted_and_delayed_writes_lose_nothing() {
        let both = ("one\ntwo\n".to_owned(), 0);
        assert_eq!(after(vec![]), both);
        assert_eq!(after(vec![Ok(1), Ok(2)]), both);
        assert_eq!(after(vec![Ok(4), Ok(2)]), both);
        let interrupted = Err(ErrorKind::Interrupted.into());
        assert_eq!(after(vec![Ok(2), interrupted]), both);
        let delayed = Err(ErrorKind::WouldBlock.into());
        assert_eq!(after(vec![delayed, Ok(3)]), both);
    }

    #[test]
    fn failed_line_is_counted_and_the_next_is_written() {
        assert_eq!(after(vec![full()]), ("two\n".to_owned(), 1));
        assert_eq!(after(vec![Ok(4), full()]), ("one\n".to_owned(), 1));
        assert_eq!(after(vec![Ok(0)]), ("two\n".to_owned(), 1));
        assert_eq!(after(vec![full(), full()]), (String::new(), 2));
    }

    #[test]
    fn line_after_a_torn_one_begins_on_a_line_of_its_own() {
        assert_eq!(after(vec![Ok(2), full()]), ("on\ntwo\n".to_owned(), 1));
        assert_eq!(after(vec![Ok(2), full(), full()]), ("on".to_owned(), 2));
        assert_eq!(after(vec![Ok(6), full()]), ("one\ntw".to_owned(), 1));
    }

    #[test]
    fn lines_without_stderr_are_lost() {
        let mut lines = LineWriter::<io::Stderr>::new(None);
        assert!(!lines.exists() && !lines.write_line(b"one\n"));
    }
}
