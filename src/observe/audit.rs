//! The audit log: who was admitted to do what, and who was rejected (docs/decisions/audit-log.md).
//!
//! Lines of admitted requests, logins and operators are never dropped: they have a bounded queue of
//! their own, which the log's thread serves first, and a request waits until its line is in it.
//! Rejections never wait. In a flood they are counted, and a line for each owner has the number.

mod line;
mod queue;
mod rejections;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use humantime::format_duration;
use tokio::time::{Instant, timeout};

use crate::config::LogFormat;
use crate::error::{Failure, LIMIT_RETRY_AFTER, Reason};
use crate::limit::owner::OwnerKey;
use crate::observe::summary::client_text;
pub use line::AuditLine;
use queue::Queue;
pub(super) use queue::QueuedLine;
use rejections::{Counted, Rejections};

/// Time that a request waits until its line is queued.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The party that causes an audit line; the queue and the number of lines are divided among them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AuditOwner {
    /// A configured caller, by its name.
    Caller(Arc<str>),
    /// A client without a caller.
    Client(OwnerKey),
    /// The operators of the admin listener.
    Operator,
}

impl AuditOwner {
    /// Returns the owner at an address; `None` on a Unix socket.
    pub fn at(address: Option<IpAddr>) -> Self {
        Self::Client(OwnerKey::at(address))
    }
}

/// The audit log; clones share it.
#[derive(Clone, Debug)]
pub struct AuditLog(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    format: LogFormat,
    queue: Queue,
    rejections: Rejections,
    /// Wakes the log's thread.
    wake: Sender<()>,
}

/// A line that waits for a place in the queue.
#[derive(Debug)]
pub struct UnqueuedLine {
    log: Arc<Shared>,
    owner: AuditOwner,
    bytes: Vec<u8>,
}

/// A line was not queued within [`AUDIT_TIMEOUT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditTimeout;

impl From<AuditTimeout> for Failure {
    fn from(_: AuditTimeout) -> Self {
        let limit = format_duration(AUDIT_TIMEOUT);
        let detail =
            format!("no room in the audit log within {limit}; the reader of the log is too slow");
        Self::new(Reason::Overloaded, detail).retry_after(LIMIT_RETRY_AFTER)
    }
}

impl AuditLog {
    /// Creates a log whose lines a thread writes, which `wake` wakes.
    pub(super) fn new(format: LogFormat, wake: Sender<()>) -> Self {
        Self(Some(Arc::new(Shared {
            format,
            queue: Queue::default(),
            rejections: Rejections::default(),
            wake,
        })))
    }

    /// Creates a log for a program that has its own: lines are events with the target `audit`.
    pub fn embedded() -> Self {
        Self(None)
    }

    /// Queues a line that must not be lost.
    ///
    /// # Errors
    /// If the owner's share of the queue is in use. The line can wait for a place.
    pub fn record(&self, owner: AuditOwner, line: &AuditLine<'_>) -> Result<(), UnqueuedLine> {
        let Some(log) = &self.0 else {
            line.emit();
            return Ok(());
        };
        let bytes = line.format(log.format);
        log.push(&owner, bytes).map_err(|bytes| UnqueuedLine {
            log: Arc::clone(log),
            owner,
            bytes,
        })
    }

    /// Queues the line of a rejection, or counts it. Returns `true` if the rejection has a line of
    /// its own.
    pub fn record_rejection(
        &self,
        owner: AuditOwner,
        reason: Reason,
        line: &AuditLine<'_>,
    ) -> bool {
        let Some(log) = &self.0 else {
            line.emit();
            return true;
        };
        let counted = Counted {
            owner,
            verdict: line.verdict,
            listener: line.listener,
            reason,
        };
        let shortened = AuditLine {
            method: line.method.map(client_text),
            path: line.path.map(client_text),
            ..line.clone()
        };
        let line = match counted.owner {
            AuditOwner::Client(_) => &shortened,
            AuditOwner::Caller(_) | AuditOwner::Operator => line,
        };
        let queued = log.rejections.permits_line(&counted.owner, Instant::now())
            && log
                .queue
                .push_rejection(&counted.owner, line.format(log.format));
        // In a flood the thread is not woken for each.
        if queued || log.rejections.count(counted, Instant::now()) {
            log.wake();
        }
        queued
    }

    /// Returns the number of bytes in the queue.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |log| log.queue.bytes())
    }

    /// Returns the number of rejections without a line of their own.
    pub(crate) fn summarized_rejections(&self) -> u64 {
        self.0.as_ref().map_or(0, |log| log.rejections.total())
    }

    /// Returns the number of lines in the queue.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |log| log.queue.len())
    }

    /// Returns the next line. It counts as queued until [`AuditLog::written`].
    pub(super) fn next(&self) -> Option<QueuedLine> {
        self.0.as_ref()?.queue.next()
    }

    /// Releases the place of a line.
    pub(super) fn written(&self, line: &QueuedLine) {
        if let Some(log) = &self.0 {
            log.queue.release(line);
        }
    }

    /// Returns the time at which rejections are summarized, if there are any.
    pub(super) fn summary_due(&self) -> Option<Instant> {
        self.0.as_ref()?.rejections.due()
    }

    /// Returns the lines with the numbers of rejections up to now.
    pub(super) fn summarize(&self, now: Instant) -> Vec<Vec<u8>> {
        let Some(log) = &self.0 else {
            return Vec::new();
        };
        let format = |line: &AuditLine<'_>| line.format(log.format);
        log.rejections.summarize(now, format)
    }
}

impl Shared {
    fn push(&self, owner: &AuditOwner, line: Vec<u8>) -> Result<(), Vec<u8>> {
        self.queue.push(owner, line)?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // Full if the thread is about to wake anyway.
        self.wake.try_send(()).ok();
    }
}

impl UnqueuedLine {
    /// Queues the line once its owner's share permits it.
    ///
    /// # Errors
    /// After [`AUDIT_TIMEOUT`]; the event must not happen then, and is counted as a rejection.
    pub async fn queue(self) -> Result<(), AuditTimeout> {
        let Self { log, owner, bytes } = self;
        let mut unqueued = Some(bytes);
        let queued = timeout(AUDIT_TIMEOUT, async {
            loop {
                let freed = log.queue.freed();
                let Some(bytes) = unqueued.take() else {
                    return;
                };
                unqueued = log.push(&owner, bytes).err();
                if unqueued.is_some() {
                    freed.await;
                }
            }
        });
        if queued.await.is_ok() {
            return Ok(());
        }
        let counted = Counted {
            owner,
            verdict: line::REFUSED,
            listener: None,
            reason: Reason::Overloaded,
        };
        if log.rejections.count(counted, Instant::now()) {
            log.wake();
        }
        Err(AuditTimeout)
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;
    use tokio::task;

    use super::*;

    fn log() -> AuditLog {
        AuditLog::new(LogFormat::Json, bounded(1).0)
    }

    #[test]
    fn long_path_is_shortened_in_the_line_of_a_client_without_a_caller_only() {
        let (log, path) = (log(), format!("/{}", "é".repeat(30_000)));
        let line = AuditLine {
            path: Some(&path),
            ..AuditLine::default()
        };
        for (owner, expected) in [(AuditOwner::at(None), 1023), (caller("a"), path.len())] {
            assert!(log.record_rejection(owner, Reason::CallerUnknown, &line));
            let line = log.next().unwrap();
            let line: serde_json::Value = serde_json::from_slice(&line.bytes).unwrap();
            assert_eq!(line["path"].as_str().unwrap().len(), expected);
        }
    }

    fn caller(name: &str) -> AuditOwner {
        AuditOwner::Caller(name.into())
    }

    /// Adds lines until the share of `name` is in use. Returns the one without a place.
    fn fill(log: &AuditLog, name: &str) -> UnqueuedLine {
        let line = AuditLine::default();
        loop {
            if let Err(unqueued) = log.record(caller(name), &line) {
                return unqueued;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn line_without_a_place_is_rejected_after_the_timeout_and_counted() {
        let log = log();
        let began = Instant::now();
        assert_eq!(fill(&log, "greedy").queue().await, Err(AuditTimeout));
        assert_eq!(began.elapsed(), AUDIT_TIMEOUT);
        assert_eq!(log.summarized_rejections(), 1);
        let summary = log.summarize(Instant::now());
        let summary: serde_json::Value = serde_json::from_slice(&summary[0]).unwrap();
        let fields = ["verdict", "caller", "reason"].map(|name| summary[name].as_str().unwrap());
        assert_eq!(fields, ["refused", "greedy", "overloaded"]);
        assert_eq!(summary["count"], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_lines_are_queued_when_earlier_ones_are_written() {
        let log = log();
        let waiting: Vec<_> = (0..3)
            .map(|_| task::spawn(fill(&log, "greedy").queue()))
            .collect();
        task::yield_now().await;
        // Others do not wait meanwhile.
        assert!(log.record(caller("modest"), &AuditLine::default()).is_ok());
        let before = log.len();
        for _ in 0..6 {
            log.written(&log.next().unwrap());
            task::yield_now().await;
        }
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), Ok(()));
        }
        assert_eq!(log.len(), before - 3);
    }

    #[tokio::test(start_paused = true)]
    async fn rejections_never_wait_and_leave_room_for_lines_that_must_not_be_lost() {
        let log = log();
        let line = AuditLine::default();
        let reason = Reason::CallerForbidden;
        while log.record_rejection(caller("greedy"), reason, &line) {}
        assert_eq!(log.summarized_rejections(), 1);
        assert!(log.record(caller("greedy"), &line).is_ok());
        assert!(log.record_rejection(AuditOwner::at(None), reason, &line));
    }
}
