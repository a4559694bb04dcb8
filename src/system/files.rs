//! Files that change while the program runs: configuration, certificates, client secrets, the
//! egress proxy's URL.
//!
//! They are polled: volumes that a platform mounts are replaced through a symbolic link in a parent
//! directory, and network volumes report no changes at all. A [`Poller`] reads its files together
//! on one blocking thread, so a volume that hangs holds one thread and delays nothing else.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use secrecy::zeroize::Zeroizing;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::blocking::{BlockingCall, Unfinished};
use super::descriptors;
use super::digest::{Sha256, Sha256Builder};

/// Time between two reads of a file. A change that needs two reads takes effect within 10 s
/// (interface §3.2): two intervals and two [`READ_TIMEOUT`]s.
pub const READ_INTERVAL: Duration = Duration::from_secs(3);
/// Deadline of one read of all files of a [`Poller`].
pub const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The use of a file, which determines its maximum size and the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The configuration file, and keys and roots that are part of the configuration.
    Configuration,
    /// Certificate, key and client authorities of `[listen.tls]`.
    Certificate,
    /// `client_secret` and `client_secret_next` of a credential.
    ClientSecret,
    /// `upstream.proxy_url`.
    EgressProxy,
}

impl FileKind {
    const ALL: [Self; 4] = [
        Self::Configuration,
        Self::Certificate,
        Self::ClientSecret,
        Self::EgressProxy,
    ];

    /// Returns the value of the label `kind`.
    const fn label(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Certificate => "certificate",
            Self::ClientSecret => "client_secret",
            Self::EgressProxy => "egress_proxy",
        }
    }

    /// Returns the maximum size in bytes, far above any valid file of the kind.
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::Configuration => 16 << 20,
            // Four times the size of all public roots together.
            Self::Certificate => 1 << 20,
            Self::ClientSecret | Self::EgressProxy => 64 << 10,
        }
    }

    /// Returns `true` if a change takes effect only when two consecutive reads agree, so that
    /// neither a half-written file nor a certificate without its key is used.
    const fn needs_two_reads(self) -> bool {
        matches!(self, Self::Configuration | Self::Certificate)
    }
}

/// The reason why a file has no content.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// An error of the operating system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A directory, pipe, socket or device. Opening a pipe would block until another process writes
    /// to it.
    #[error("not a regular file")]
    NotRegular,
    /// Larger than this many bytes.
    #[error("larger than {0} bytes")]
    TooLarge(usize),
    /// The volume did not respond within [`READ_TIMEOUT`].
    #[error("read timed out after {}", humantime::format_duration(READ_TIMEOUT))]
    TimedOut,
}

/// The bytes of a file, wiped when dropped, or the reason why there are none.
pub type FileContent = Result<Zeroizing<Vec<u8>>, ReadError>;

/// Reads a regular file. Blocks.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path, kind: FileKind) -> FileContent {
    let max = kind.max_bytes();
    // Before `open`, which would block on a pipe.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(ReadError::NotRegular);
    }
    let length = usize::try_from(metadata.len()).map_or(max, |length| length.min(max));
    // The whole capacity at once, since growing would leave copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    File::open(path)?
        .take(max as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(ReadError::TooLarge(max));
    }
    Ok(bytes)
}

/// A path, and the digest of the file's content or of the error that reading it returned.
#[derive(Clone, PartialEq, Eq)]
pub struct FileDigest {
    path: PathBuf,
    digest: Sha256,
}

impl FileDigest {
    /// Reads the file at `path`. Blocks.
    pub fn of(path: &Path, kind: FileKind) -> Self {
        Self::of_content(path, &read(path, kind))
    }

    /// Returns the digest of content that has been read from `path`.
    pub fn of_content<B: AsRef<[u8]>, E: fmt::Display>(
        path: &Path,
        content: &Result<B, E>,
    ) -> Self {
        let mut digest = Sha256Builder::default();
        match content {
            Ok(bytes) => {
                digest.part(b"content");
                digest.bytes(bytes.as_ref());
            }
            Err(error) => {
                digest.part(b"error");
                digest.bytes(error.to_string().as_bytes());
            }
        }
        Self {
            path: path.to_owned(),
            digest: digest.finish(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// The result of one read of all files of a [`Poller`], in their order.
#[derive(Debug)]
pub struct FileSnapshot {
    digests: Vec<FileDigest>,
    contents: Vec<FileContent>,
}

impl FileSnapshot {
    /// Reads the files. Blocks.
    pub fn read(paths: &[PathBuf], kind: FileKind) -> Self {
        Self::read_with(paths, kind, &AtomicUsize::new(0))
    }

    /// Stores the index of the file that is being read in `position`.
    fn read_with(paths: &[PathBuf], kind: FileKind, position: &AtomicUsize) -> Self {
        let read = |(index, path): (usize, &PathBuf)| {
            position.store(index, Ordering::Relaxed);
            read(path, kind)
        };
        Self::new(paths, paths.iter().enumerate().map(read).collect())
    }

    fn timed_out(paths: &[PathBuf]) -> Self {
        Self::new(
            paths,
            paths.iter().map(|_| Err(ReadError::TimedOut)).collect(),
        )
    }

    fn new(paths: &[PathBuf], contents: Vec<FileContent>) -> Self {
        let digests = paths.iter().zip(&contents);
        Self {
            digests: digests
                .map(|(path, content)| FileDigest::of_content(path, content))
                .collect(),
            contents,
        }
    }

    /// Returns the digests of all files.
    pub fn digests(&self) -> &[FileDigest] {
        &self.digests
    }

    /// Returns the contents of all files.
    pub fn into_contents(self) -> Vec<FileContent> {
        self.contents
    }

    /// Returns `true` if a file was not read for lack of file descriptors, which says nothing about
    /// its content.
    fn lacks_descriptors(&self) -> bool {
        let is_shortage = |content: &FileContent| matches!(content, Err(ReadError::Io(error)) if descriptors::is_shortage(error));
        self.contents.iter().any(is_shortage)
    }

    /// Returns `true` if every file was read.
    pub fn is_complete(&self) -> bool {
        self.contents.iter().all(Result::is_ok)
    }
}

/// A read that [`Poller::next`] reports.
#[derive(Debug)]
pub struct Update {
    pub snapshot: FileSnapshot,
    /// The content differs from that of the previous update.
    pub changed: bool,
    /// The read was requested through a [`ReadTrigger`].
    pub requested: bool,
}

/// Failed reads of files, by [`FileKind`]: `file_read_failures_total`.
#[derive(Clone, Debug)]
pub struct ReadFailures(IntCounterVec);

impl ReadFailures {
    /// Registers the counters, all at 0.
    ///
    /// # Errors
    /// If the registry has a metric of this name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "citrix_auth_proxy_file_read_failures_total",
            "Failed reads of files that are read repeatedly, by kind.",
        );
        let counters = IntCounterVec::new(opts, &["kind"])?;
        for kind in FileKind::ALL {
            counters.with_label_values(&[kind.label()]);
        }
        registry.register(Box::new(counters.clone()))?;
        Ok(Self(counters))
    }
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
    /// The digests that the poller started with or [`Poller::next`] reported last.
    reported: Vec<FileDigest>,
    /// A change that was read once and awaits a second read.
    pending: Option<Vec<FileDigest>>,
    call: BlockingCall<FileSnapshot>,
    /// The index of the file that the call is reading.
    position: Arc<AtomicUsize>,
    trigger: ReadTrigger,
    /// A request that no read has served yet.
    requested: bool,
    /// `false` if files are read on request only.
    polls: bool,
    /// `None` if files are read on request only, or there are none.
    next_read: Option<Instant>,
    /// The error of the last read of each file, and whether it was logged.
    errors: Vec<Option<(String, bool)>>,
    failures: Option<IntCounter>,
}

impl Poller {
    /// Creates a poller of the files of `known`. It reports when they no longer have that content.
    pub fn new(kind: FileKind, known: Vec<FileDigest>) -> Self {
        let mut poller = Self {
            kind,
            reported: Vec::new(),
            pending: None,
            call: BlockingCall::default(),
            position: Arc::default(),
            trigger: ReadTrigger::default(),
            requested: false,
            polls: true,
            next_read: None,
            errors: Vec::new(),
            failures: None,
        };
        poller.follow(known);
        poller
    }

    /// Creates a poller of `paths`, whose content is unknown: the first read is reported.
    pub fn unread(kind: FileKind, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        // Differs from the digest of any content or error, which starts with a part that names the
        // case.
        let unread = |path| FileDigest {
            path,
            digest: Sha256::of(&[]),
        };
        Self::new(kind, paths.into_iter().map(unread).collect())
    }

    /// Counts failed reads.
    #[must_use]
    pub fn counted_by(mut self, failures: &ReadFailures) -> Self {
        self.count_failures(failures);
        self
    }

    /// Counts failed reads from now on.
    pub fn count_failures(&mut self, failures: &ReadFailures) {
        self.failures = Some(failures.0.with_label_values(&[self.kind.label()]));
    }

    /// Reads files on request only from now on.
    pub fn read_on_request_only(&mut self) {
        (self.polls, self.next_read) = (false, None);
    }

    /// Replaces the files and their content to compare with by those of `known`.
    pub fn follow(&mut self, known: Vec<FileDigest>) {
        let same_paths = known
            .iter()
            .map(FileDigest::path)
            .eq(self.reported.iter().map(FileDigest::path));
        if !same_paths {
            self.call = BlockingCall::default();
            self.errors = vec![None; known.len()];
            self.next_read =
                (self.polls && !known.is_empty()).then(|| Instant::now() + READ_INTERVAL);
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
            if !self.call.is_pending() {
                self.wait_until_due().await;
            }
            if let Ok(snapshot) = self.try_read().await
                && !snapshot.lacks_descriptors()
                && let Some(update) = self.evaluate(snapshot)
            {
                return update;
            }
        }
    }

    /// Reads the files now, or waits for a read in progress. A file that could not be read in time
    /// has [`ReadError::TimedOut`]. The result is no update: [`Poller::next`] still reports a
    /// change from the previous one.
    pub async fn read(&mut self) -> FileSnapshot {
        match self.try_read().await {
            Ok(snapshot) => snapshot,
            Err(Unfinished) => FileSnapshot::timed_out(&self.paths()),
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.reported.iter().map(|file| file.path.clone()).collect()
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

    async fn try_read(&mut self) -> Result<FileSnapshot, Unfinished> {
        let (paths, kind, position) = (self.paths(), self.kind, Arc::clone(&self.position));
        let call = move || FileSnapshot::read_with(&paths, kind, &position);
        let read = self.call.run(READ_TIMEOUT, call).await;
        if let Some(next_read) = &mut self.next_read {
            *next_read = Instant::now() + READ_INTERVAL;
        }
        match &read {
            Ok(snapshot) => {
                for (index, content) in snapshot.contents.iter().enumerate() {
                    self.record(index, content.as_ref().err());
                }
            }
            Err(Unfinished) => {
                let hanging = self.position.load(Ordering::Relaxed);
                self.record(hanging, Some(&ReadError::TimedOut));
            }
        }
        read
    }

    /// Counts a failed read, and logs it once: when two consecutive reads failed with the same
    /// error, since a file that is being replaced may be absent for a moment. Requested reads and
    /// timeouts are logged at once.
    fn record(&mut self, index: usize, error: Option<&ReadError>) {
        let (Some(last), Some(file)) = (self.errors.get_mut(index), self.reported.get(index))
        else {
            return;
        };
        let Some(error) = error else {
            *last = None;
            return;
        };
        if let Some(failures) = &self.failures {
            failures.inc();
        }
        let text = error.to_string();
        let (again, logged) = match last {
            Some((before, logged)) if *before == text => (true, *logged),
            _ => (false, false),
        };
        let log = !logged && (again || self.requested || matches!(error, ReadError::TimedOut));
        if log {
            tracing::warn!(
                kind = self.kind.label(),
                file = %file.path.display(),
                %error,
                "failed to read file; previous content stays in use"
            );
        }
        *last = Some((text, logged || log));
    }

    /// Returns the update to report: a confirmed change, or the result of a requested read.
    fn evaluate(&mut self, snapshot: FileSnapshot) -> Option<Update> {
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

#[cfg(test)]
mod tests;
