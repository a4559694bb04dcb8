//! Changes of files that belong together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::reader::{FileReader, WatchedFile};
use super::{FileDigest, FileKind, FileSnapshot, READ_INTERVAL, ReadError};
use crate::system::digest::Sha256;

/// A read that [`Poller::next`] reports.
#[derive(Debug)]
pub struct Update {
    pub snapshot: FileSnapshot,
    /// The content differs from that of the previous update.
    pub changed: bool,
    /// The read was requested through a [`ReadTrigger`].
    pub requested: bool,
}

/// Requests an immediate read of a [`Poller`].
#[derive(Clone, Debug, Default)]
pub struct ReadTrigger(Arc<Notify>);

impl ReadTrigger {
    /// Makes the poller read its files now and report them after one read.
    pub fn request(&self) {
        self.0.notify_one();
    }
}

/// Reads files every [`READ_INTERVAL`].
#[derive(Debug)]
pub struct Poller {
    kind: FileKind,
    reader: FileReader,
    pub(super) files: Vec<WatchedFile>,
    /// The error of the last read of each file, once it was logged.
    errors: Vec<Option<String>>,
    /// The digests that the poller started with or [`Poller::next`] reported last.
    reported: Vec<FileDigest>,
    /// A change that was read once and awaits a second read.
    pending: Option<Vec<FileDigest>>,
    trigger: ReadTrigger,
    /// A request that no read has served yet.
    requested: bool,
    phase: Duration,
    /// `false` if files are read on request only.
    polls: bool,
    /// `None` if files are read on request only, or there are none.
    next_read: Option<Instant>,
}

impl Poller {
    /// Creates a poller of the files of `known`. It reports when they no longer have that content.
    pub fn new(kind: FileKind, known: Vec<FileDigest>, reader: &FileReader) -> Self {
        let mut poller = Self {
            kind,
            reader: reader.clone(),
            files: Vec::new(),
            errors: Vec::new(),
            reported: Vec::new(),
            pending: None,
            trigger: ReadTrigger::default(),
            requested: false,
            phase: Duration::ZERO,
            polls: true,
            next_read: None,
        };
        poller.follow(known);
        poller
    }

    /// Creates a poller of `paths`, whose content is unknown: the first read is reported.
    pub fn unread(
        kind: FileKind,
        paths: impl IntoIterator<Item = PathBuf>,
        reader: &FileReader,
    ) -> Self {
        // Differs from the digest of any content or error, which starts with a part that names the
        // case.
        let unread = |path| FileDigest {
            path,
            digest: Sha256::of(&[]),
        };
        Self::new(kind, paths.into_iter().map(unread).collect(), reader)
    }

    /// Reads files on request only from now on.
    pub fn read_on_request_only(&mut self) {
        (self.polls, self.next_read) = (false, None);
    }

    /// Replaces the files and their content to compare with by those of `known`.
    pub fn follow(&mut self, known: Vec<FileDigest>) {
        let paths = known.iter().map(FileDigest::path);
        if !paths.clone().eq(self.files.iter().map(WatchedFile::path)) {
            self.files = paths
                .map(|path| WatchedFile::new(path.to_owned()))
                .collect();
            self.errors = vec![None; known.len()];
            self.next_read = None;
            if self.polls && !known.is_empty() {
                self.phase = self.reader.phase();
                self.next_read = Some(self.reader.due_after(Instant::now(), self.phase));
            }
        }
        (self.reported, self.pending) = (known, None);
    }

    /// Returns a trigger of this poller.
    pub fn trigger(&self) -> ReadTrigger {
        self.trigger.clone()
    }

    /// Waits for the next change or request. Cancel safe: a read in progress and a request are
    /// kept.
    pub async fn next(&mut self) -> Update {
        loop {
            if !self.files.iter().any(|file| file.is_pending()) {
                self.wait_until_due().await;
            }
            let snapshot = self.read().await;
            // From the end of the read, so that a slow volume is read less often.
            if let Some(next_read) = &mut self.next_read {
                let earliest = Instant::now() + READ_INTERVAL / 4;
                *next_read = self.reader.due_after(earliest, self.phase);
            }
            if !snapshot.lacks_descriptors()
                && let Some(update) = self.evaluate(snapshot)
            {
                return update;
            }
        }
    }

    /// Reads the files now, or waits for reads in progress. A file that could not be read in time
    /// has [`ReadError::TimedOut`]. The result is no update: [`Poller::next`] still reports a
    /// change from the previous one.
    pub async fn read(&mut self) -> FileSnapshot {
        let (reader, kind) = (&self.reader, self.kind);
        let reads = self.files.iter_mut().map(|file| file.read(reader, kind));
        let contents = join_all(reads).await;
        for (index, content) in contents.iter().enumerate() {
            self.record(index, content.as_ref().err());
        }
        FileSnapshot::new(self.files.iter().map(WatchedFile::path), contents)
    }

    async fn wait_until_due(&mut self) {
        // Without polling, a request whose read timed out is repeated after an interval.
        let repeat_at = self.requested.then(|| Instant::now() + READ_INTERVAL);
        let requested = self.trigger.0.notified();
        self.requested |= match self.next_read.or(repeat_at) {
            Some(due) => timeout_at(due, requested).await.is_ok(),
            None => {
                requested.await;
                true
            }
        };
    }

    /// Counts a failed read. Unless the user of the poller does, logs the first of a series with the
    /// same error, and the end of the series.
    fn record(&mut self, index: usize, error: Option<&ReadError>) {
        let (Some(last), Some(file)) = (self.errors.get_mut(index), self.files.get(index)) else {
            return;
        };
        let (kind, file) = (self.kind.label(), file.path().display());
        let Some(error) = error else {
            if last.take().is_some() && self.kind.is_logged() {
                tracing::info!(kind, %file, "file is readable again");
            }
            return;
        };
        self.reader.count_failure(self.kind);
        let text = error.to_string();
        if last.as_ref() != Some(&text) && self.kind.is_logged() {
            tracing::warn!(
                kind,
                %file,
                %error,
                "failed to read file; previous content stays in use"
            );
        }
        *last = Some(text);
    }

    /// Returns the update to report: a confirmed change, or the result of a requested read.
    fn evaluate(&mut self, snapshot: FileSnapshot) -> Option<Update> {
        // Files that belong together are used together only.
        if self.kind.needs_two_reads() && snapshot.timed_out() {
            return None;
        }
        let found = &snapshot.digests;
        let requested = std::mem::take(&mut self.requested);
        let changed = *found != self.reported;
        let confirmed = requested
            || !self.kind.needs_two_reads()
            || self
                .pending
                .as_ref()
                .is_some_and(|pending| pending == found);
        if changed && !confirmed {
            self.pending = Some(found.clone());
            return None;
        }
        self.pending = None;
        if !changed && !requested {
            return None;
        }
        self.reported.clone_from(found);
        Some(Update {
            snapshot,
            changed,
            requested,
        })
    }
}
