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

/// The state of the thread.
struct LogWriter<W> {
    audit: AuditLog,
    woken: Receiver<()>,
    queue: LineQueue,
    /// Lines that were taken from the queue.
    lines: Vec<u8>,
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
            let were_queued = self.write_queued();
            self.wait(were_queued);
        }
        while self.audit.queued_bytes() > 0 && self.write_audit() {}
        self.write_summaries();
        self.written.send(()).ok();
        self.write_queued();
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

    /// Writes the other lines that are queued. Returns `true` if there were any.
    fn write_queued(&mut self) -> bool {
        self.lines.clear();
        self.queue.take(&mut self.lines);
        let lost = self.out.write_lines(&self.lines);
        if lost > 0 {
            self.lost.add(lost);
        }
        !self.lines.is_empty()
    }

    /// Waits until lines are queued, or something is due: if there were lines, those that follow.
    fn wait(&self, were_queued: bool) {
        let now = Instant::now();
        let retry = self.unwritten.as_ref().map(|_| now + RETRY_INTERVAL);
        let next = were_queued.then(|| now + WRITE_INTERVAL);
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
        assert!(writer.write_queued() && !writer.write_queued());
        assert_eq!(written(&writer), ["/1", "/2", "other"]);
        assert_eq!(writer.audit.queued_bytes(), 0);
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
