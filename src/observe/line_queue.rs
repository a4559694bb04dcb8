//! The queue of log lines that may be lost, and their number.

use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use tracing_subscriber::fmt::MakeWriter;

/// Maximum number of bytes that are queued, besides as many that are being written; further lines
/// are dropped and counted.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;
/// Maximum size of a buffer that is kept.
const MAX_KEPT_BYTES: usize = 1024 * 1024;

/// Counts the log lines that found the queue full, or that stderr did not accept as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct LostLines(Arc<AtomicU64>);

impl LostLines {
    /// Counts lines.
    pub(super) fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }

    /// Returns their number since the start.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Lines for the log's thread; clones share them. Drops lines rather than delaying requests.
#[derive(Clone, Debug)]
pub(crate) struct LineQueue {
    pending: Arc<Mutex<Pending>>,
    lost: LostLines,
    wake: Sender<()>,
}

#[derive(Debug, Default)]
struct Pending {
    lines: Vec<u8>,
    /// The thread has been woken, or comes by itself.
    is_expected: bool,
}

impl LineQueue {
    /// Creates a queue for the thread that `wake` wakes.
    pub(super) fn new(wake: Sender<()>, lost: LostLines) -> Self {
        Self {
            pending: Arc::default(),
            lost,
            wake,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // A panic leaves nothing half updated.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, which ends with a line end.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut pending = self.lock();
        if pending.lines.len() + line.len() > MAX_QUEUED_BYTES {
            drop(pending);
            self.lost.add(1);
            return;
        }
        pending.lines.extend_from_slice(line);
        if !mem::replace(&mut pending.is_expected, true) {
            drop(pending);
            // If there is a message already, the thread wakes anyway.
            self.wake.try_send(()).ok();
        }
    }

    /// Exchanges `lines`, which must be empty, for all queued ones. If there are any, the thread is
    /// not woken again before it has found none.
    pub(super) fn take(&self, lines: &mut Vec<u8>) {
        if lines.capacity() > MAX_KEPT_BYTES {
            *lines = Vec::new();
        }
        let mut pending = self.lock();
        mem::swap(&mut pending.lines, lines);
        pending.is_expected = !lines.is_empty();
    }
}

impl Write for &LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'q> MakeWriter<'q> for LineQueue {
    type Writer = &'q LineQueue;

    fn make_writer(&'q self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn thread_is_woken_once_until_it_has_found_no_line() {
        let (wake, woken) = bounded(1);
        let queue = LineQueue::new(wake, LostLines::default());
        let mut lines = Vec::new();
        let mut take = || {
            lines.clear();
            queue.take(&mut lines);
            String::from_utf8(lines.clone()).unwrap()
        };
        queue.push(b"1\n");
        queue.push(b"2\n");
        assert_eq!(woken.try_iter().count(), 1);
        assert_eq!(take(), "1\n2\n");
        queue.push(b"3\n");
        assert_eq!(woken.try_iter().count(), 0);
        assert_eq!((take(), take()), ("3\n".to_owned(), String::new()));
        queue.push(b"4\n");
        assert_eq!(woken.try_iter().count(), 1);
    }

    #[test]
    fn lines_beyond_the_limit_are_dropped_and_counted() {
        let lost = LostLines::default();
        let queue = LineQueue::new(bounded(1).0, lost.clone());
        queue.push(&vec![b'x'; MAX_QUEUED_BYTES]);
        queue.push(b"\n");
        assert_eq!(lost.count(), 1);
        queue.take(&mut Vec::new());
        queue.push(b"\n");
        assert_eq!(lost.count(), 1);
    }
}
