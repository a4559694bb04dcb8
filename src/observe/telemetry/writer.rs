//! The thread that writes the log.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select_biased};
use tokio::time::Instant;

use super::lines::LineWriter;
use crate::observe::audit::{AuditLog, QueuedLine};
use crate::observe::line_queue::{LineQueue, LostLines};

/// Time from writing lines to writing those that followed, so that busy workers neither wake the
/// thread for each nor cause a system call.
const WRITE_INTERVAL: Duration = Duration::from_millis(10);
/// Maximum number of bytes of other lines between two looks at the audit lines, one line of any
/// length excepted: a slow reader must not delay audit lines by all that is queued. It is what a
/// pipe holds.
const MAX_WRITE_BYTES: usize = 64 * 1024;
/// Wait before another attempt to write an audit line that stderr did not accept.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Time for the audit lines at the end of the process.
const AUDIT_EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the other lines after them.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Owner of the thread. Writes the queued lines when dropped.
pub(super) struct LogThread {
    stop: Arc<AtomicBool>,
    wake: Sender<()>,
    /// A message after the audit lines, and one after all.
    written: Receiver<()>,
}

/// The lines that a write of queued ones left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Queued {
    /// There were no lines.
    None,
    /// All that were taken are written.
    Written,
    /// Some of those that were taken remain.
    More,
}

/// The state of the thread.
struct LogWriter<W> {
    audit: AuditLog,
    woken: Receiver<()>,
    queue: LineQueue,
    /// Lines that were taken from the queue, of which the first bytes were written.
    lines: Vec<u8>,
    written_bytes: usize,
    lost: LostLines,
    out: LineWriter<W>,
    /// An audit line that stderr did not accept.
    unwritten: Option<QueuedLine>,
    stop: Arc<AtomicBool>,
    written: Sender<()>,
}

impl LogThread {
    /// Starts the thread. Returns the queue of lines that may be lost.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(
        audit: AuditLog,
        (wake, woken): (Sender<()>, Receiver<()>),
        lost: LostLines,
    ) -> io::Result<(Self, LineQueue)> {
        let queue = LineQueue::new(wake.clone(), lost.clone());
        let (written, all_written) = bounded(2);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = LogWriter {
            audit,
            woken,
            queue: queue.clone(),
            lines: Vec::new(),
            written_bytes: 0,
            lost,
            out: LineWriter::stderr(),
            unwritten: None,
            stop: Arc::clone(&stop),
            written,
        };
        thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(|| writer.run())?;
        let thread = Self {
            stop,
            wake,
            written: all_written,
        };
        Ok((thread, queue))
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake.try_send(()).ok();
        // A reader that does not read must not delay the exit for ever.
        if self.written.recv_timeout(AUDIT_EXIT_TIMEOUT).is_ok() {
            self.written.recv_timeout(EXIT_TIMEOUT).ok();
        }
    }
}

impl<W: Write> LogWriter<W> {
    /// Writes lines until the stop, then those that are queued. Returns the final state.
    fn run(mut self) -> Self {
        while !self.stop.load(Ordering::Acquire) {
            self.write_audit();
            let queued = self.write_queued();
            self.wait(queued);
        }
        while self.audit.queued_bytes() > 0 && self.write_audit() {}
        self.write_summaries();
        self.written.send(()).ok();
        while self.write_queued() != Queued::None {}
        self.written.send(()).ok();
        self
    }

    /// Writes the audit lines that are queued, and the summaries that are due. Returns `false` if
    /// stderr does not accept them; they are kept.
    fn write_audit(&mut self) -> bool {
        // Those that follow meanwhile are written after another line: the log explains them.
        for _ in 0..=self.audit.len() {
            let Some(line) = self.unwritten.take().or_else(|| self.audit.next()) else {
                break;
            };
            let is_written = self.out.write_line(&line.bytes);
            if !is_written && self.out.exists() {
                self.unwritten = Some(line);
                return false;
            }
            if !is_written {
                self.lost.add(1);
            }
            self.audit.written(&line);
        }
        if self
            .audit
            .summary_due()
            .is_some_and(|due| due <= Instant::now())
        {
            self.write_summaries();
        }
        true
    }

    fn write_summaries(&mut self) {
        for line in self.audit.summarize(Instant::now()) {
            self.write(&line);
        }
    }

    fn write(&mut self, line: &[u8]) {
        if !self.out.write_line(line) {
            self.lost.add(1);
        }
    }

    /// Writes the first of the other lines that are queued.
    fn write_queued(&mut self) -> Queued {
        if self.written_bytes == self.lines.len() {
            self.lines.clear();
            self.written_bytes = 0;
            self.queue.take(&mut self.lines);
        }
        let lines = first_lines(&self.lines[self.written_bytes..]);
        self.written_bytes += lines.len();
        let (is_empty, lost) = (lines.is_empty(), self.out.write_lines(lines));
        if lost > 0 {
            self.lost.add(lost);
        }
        match self.lines.len() - self.written_bytes {
            _ if is_empty => Queued::None,
            0 => Queued::Written,
            _ => Queued::More,
        }
    }

    /// Waits until lines are queued, or something is due: lines that followed those written.
    fn wait(&self, queued: Queued) {
        let now = Instant::now();
        let retry = self.unwritten.as_ref().map(|_| now + RETRY_INTERVAL);
        let next = match queued {
            Queued::More => return,
            Queued::Written => Some(now + WRITE_INTERVAL),
            Queued::None => None,
        };
        let due = [retry, next, self.audit.summary_due()];
        let timer = match due.into_iter().flatten().min() {
            Some(time) => crossbeam_channel::at(time.into_std()),
            None => crossbeam_channel::never(),
        };
        select_biased! {
            recv(self.woken) -> _ => {}
            recv(timer) -> _ => {}
        }
    }
}

/// Returns as many whole lines as [`MAX_WRITE_BYTES`] contain, or the first one.
fn first_lines(lines: &[u8]) -> &[u8] {
    if lines.len() <= MAX_WRITE_BYTES {
        return lines;
    }
    let (first, rest) = lines.split_at(MAX_WRITE_BYTES);
    let is_end = |byte: &u8| *byte == b'\n';
    let end = match first.iter().rposition(is_end) {
        Some(end) => end + 1,
        None => {
            MAX_WRITE_BYTES
                + rest
                    .iter()
                    .position(is_end)
                    .map_or(rest.len(), |end| end + 1)
        }
    };
    &lines[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::observe::audit::{AuditLine, AuditOwner};

    /// Accepts lines unless it is broken.
    #[derive(Default)]
    struct Output {
        broken: bool,
        written: String,
    }

    impl Write for Output {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if self.broken {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written += str::from_utf8(line).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns a thread's state, and the receiver of the last messages.
    fn writer(out: Option<Output>) -> (LogWriter<Output>, Receiver<()>) {
        let (wake, woken) = bounded(1);
        let (written, all_written) = bounded(2);
        let lost = LostLines::default();
        let writer = LogWriter {
            audit: AuditLog::new(LogFormat::Text, wake.clone()),
            woken,
            queue: LineQueue::new(wake, lost.clone()),
            lines: Vec::new(),
            written_bytes: 0,
            lost,
            out: LineWriter::new(out),
            unwritten: None,
            stop: Arc::default(),
            written,
        };
        (writer, all_written)
    }

    fn record(writer: &LogWriter<Output>, path: &str) {
        let line = AuditLine {
            path: Some(path),
            ..AuditLine::default()
        };
        let owner = AuditOwner::Caller("a".into());
        writer.audit.record(owner, &line).unwrap();
    }

    /// Returns the paths of audit lines, and the other lines, in the order of their output.
    fn written(writer: &LogWriter<Output>) -> Vec<String> {
        let text = &writer.out.get_ref().unwrap().written;
        let name = |line: &str| match line.split_once("path=") {
            Some((_, path)) => path.trim_matches('"').to_owned(),
            None => line.to_owned(),
        };
        text.lines().map(name).collect()
    }

    #[test]
    fn audit_lines_are_written_before_other_lines() {
        let (mut writer, _) = writer(Some(Output::default()));
        writer.queue.push(b"other\n");
        for path in ["/1", "/2"] {
            record(&writer, path);
        }
        writer.write_audit();
        assert_eq!(writer.write_queued(), Queued::Written);
        assert_eq!(writer.write_queued(), Queued::None);
        assert_eq!(written(&writer), ["/1", "/2", "other"]);
        assert_eq!(writer.audit.queued_bytes(), 0);
    }

    #[test]
    fn many_other_lines_delay_audit_lines_by_one_write_only() {
        let (mut writer, _) = writer(Some(Output::default()));
        let line = "x".repeat(999) + "\n";
        for _ in 0..200 {
            writer.queue.push(line.as_bytes());
        }
        assert_eq!(writer.write_queued(), Queued::More);
        record(&writer, "/1");
        while writer.write_audit() && writer.write_queued() == Queued::More {}
        let written = written(&writer);
        let other = |lines: &[String]| lines.iter().all(|written| *written == line.trim_end());
        assert_eq!(written.len(), 201);
        assert_eq!(written[MAX_WRITE_BYTES / 1000], "/1");
        assert!(other(&written[..65]) && other(&written[66..]));
    }

    #[test]
    fn line_longer_than_a_write_stays_whole() {
        for (lines, first) in [
            (vec![10, 20], 30),
            (vec![MAX_WRITE_BYTES], MAX_WRITE_BYTES),
            (vec![MAX_WRITE_BYTES, 10], MAX_WRITE_BYTES),
            (vec![MAX_WRITE_BYTES + 1, 10], MAX_WRITE_BYTES + 1),
            (vec![10, MAX_WRITE_BYTES], 10),
            (vec![2 * MAX_WRITE_BYTES], 2 * MAX_WRITE_BYTES),
        ] {
            let line = |length: &usize| "x".repeat(length - 1) + "\n";
            let text: String = lines.iter().map(line).collect();
            assert_eq!(first_lines(text.as_bytes()).len(), first, "{lines:?}");
        }
    }

    #[test]
    fn audit_lines_that_stderr_does_not_accept_are_kept_and_other_lines_counted() {
        let (mut writer, _) = writer(Some(Output {
            broken: true,
            ..Output::default()
        }));
        record(&writer, "/1");
        record(&writer, "/2");
        writer.queue.push(b"lost\n");
        for _ in 0..3 {
            assert!(!writer.write_audit());
            writer.write_queued();
        }
        assert_eq!(writer.lost.count(), 1);
        writer.out.get_mut().unwrap().broken = false;
        assert!(writer.write_audit());
        assert_eq!(written(&writer), ["/1", "/2"]);
        assert_eq!(writer.lost.count(), 1);
    }

    #[test]
    fn audit_lines_without_stderr_are_counted_as_lost() {
        let (mut writer, _) = writer(None);
        record(&writer, "/1");
        assert!(writer.write_audit());
        assert_eq!(writer.lost.count(), 1);
        assert_eq!(writer.audit.queued_bytes(), 0);
    }

    #[test]
    fn stop_writes_audit_lines_then_other_lines() {
        let (writer, all_written) = writer(Some(Output::default()));
        writer.queue.push(b"other\n");
        record(&writer, "/1");
        writer.stop.store(true, Ordering::Release);
        let writer = writer.run();
        assert_eq!(written(&writer), ["/1", "other"]);
        assert_eq!(all_written.try_iter().count(), 2);
    }
}
