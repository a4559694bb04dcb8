//! Reads of files on few blocking threads.
//!
//! A thread reads all files that are due, one after another, so that a thousand files cost a few
//! wake-ups. A file that hangs keeps its thread; further files get another one.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::{FileContent, FileKind, READ_INTERVAL, READ_TIMEOUT, ReadError, read};

/// Threads of the process that read files. A read that hangs keeps its thread until it returns.
const MAX_THREADS: usize = 8;
/// Threads that read from one file system, so that one that hangs leaves threads to the others.
const MAX_THREADS_PER_DEVICE: usize = 2;
/// Deadline for the start of a read, while all threads hang or read from a slow volume.
const THREAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait for the start of a read after which its file system gets another thread.
const SLOW_START: Duration = Duration::from_millis(100);
/// Parts of an interval. Files that are due in the same part are read by one thread.
const PHASES: u32 = 10;

/// Reads the watched files of the process. Clones share the threads and the counters.
#[derive(Clone, Debug)]
pub struct FileReader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queues: Mutex<Queues>,
    pollers: AtomicU32,
    /// Start of the first interval.
    began: Instant,
    failures: IntCounterVec,
}

/// The reads that have not started.
#[derive(Debug, Default)]
struct Queues {
    /// By device; `None` for files that have not been read yet. Only those with reads or threads.
    by_device: BTreeMap<Option<u64>, Queue>,
    threads: usize,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<ReadJob>,
    threads: usize,
}

/// The content, and the device of the file system.
type ReadResult = (FileContent, Option<u64>);

#[derive(Debug)]
struct ReadJob {
    path: PathBuf,
    kind: FileKind,
    started: oneshot::Sender<()>,
    result: oneshot::Sender<ReadResult>,
}

impl ReadJob {
    /// Reads the file unless no poller waits for it any more.
    fn run(self) {
        if self.started.send(()).is_ok() {
            let result = (read(&self.path, self.kind), device(&self.path));
            // An error means that the poller is gone.
            let _ = self.result.send(result);
        }
    }
}

impl Queues {
    /// Returns `true` if the device gets another thread, which is counted from now on.
    fn add_thread(&mut self, device: Option<u64>) -> bool {
        let Some(queue) = self.by_device.get_mut(&device) else {
            return false;
        };
        let is_permitted = self.threads < MAX_THREADS
            && queue.threads < MAX_THREADS_PER_DEVICE
            && !queue.jobs.is_empty();
        if is_permitted {
            self.threads += 1;
            queue.threads += 1;
        }
        is_permitted
    }

    /// Returns the next read of a device. Without one, the thread that asks has ended.
    fn next(&mut self, device: Option<u64>) -> Option<ReadJob> {
        let queue = self.by_device.get_mut(&device)?;
        if let Some(job) = queue.jobs.pop_front() {
            return Some(job);
        }
        queue.threads -= 1;
        self.threads -= 1;
        if queue.threads == 0 {
            self.by_device.remove(&device);
        }
        None
    }
}

impl FileReader {
    /// Creates a reader and registers `file_read_failures_total`, with all counters at 0.
    ///
    /// # Errors
    /// If the registry has a metric of this name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "citrix_auth_proxy_file_read_failures_total",
            "Failed reads of files that are read repeatedly, by kind.",
        );
        let failures = IntCounterVec::new(opts, &["kind"])?;
        for kind in FileKind::ALL {
            failures.with_label_values(&[kind.label()]);
        }
        registry.register(Box::new(failures.clone()))?;
        Ok(Self(Arc::new(Shared {
            queues: Mutex::default(),
            pollers: AtomicU32::new(0),
            began: Instant::now(),
            failures,
        })))
    }

    /// Returns the phase of a new poller: its reads are due that long after the start of an
    /// interval.
    pub(super) fn phase(&self) -> Duration {
        let number = self.0.pollers.fetch_add(1, Ordering::Relaxed);
        READ_INTERVAL / PHASES * (number % PHASES)
    }

    /// Returns the first time after `earliest` at which reads of a phase are due.
    pub(super) fn due_after(&self, earliest: Instant, phase: Duration) -> Instant {
        let first = self.0.began + phase;
        let Some(since) = earliest.checked_duration_since(first) else {
            return first;
        };
        let intervals = since.as_nanos() / READ_INTERVAL.as_nanos();
        first + READ_INTERVAL * (u32::try_from(intervals).unwrap_or(u32::MAX - 1) + 1)
    }

    pub(super) fn count_failure(&self, kind: FileKind) {
        self.0.failures.with_label_values(&[kind.label()]).inc();
    }

    /// Queues a read for the device's thread. Starts one if there is none.
    fn submit(&self, device: Option<u64>, path: PathBuf, kind: FileKind) -> PendingRead {
        let (started, start) = oneshot::channel();
        let (result, receiver) = oneshot::channel();
        let job = ReadJob {
            path,
            kind,
            started,
            result,
        };
        let is_first = {
            let mut queues = self.lock();
            let queue = queues.by_device.entry(device).or_default();
            queue.jobs.push_back(job);
            queue.threads == 0
        };
        if is_first {
            self.add_thread(device);
        }
        PendingRead {
            start: Some(start),
            result: receiver,
            overdue: false,
        }
    }

    /// Starts another thread for the queued reads of a device, if the limits permit it.
    fn add_thread(&self, device: Option<u64>) {
        if self.lock().add_thread(device) {
            let reader = self.clone();
            spawn_blocking(move || {
                loop {
                    // The lock is not held while a file is read.
                    let job = reader.lock().next(device);
                    match job {
                        Some(job) => job.run(),
                        None => break,
                    }
                }
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read that is queued or in progress.
#[derive(Debug)]
pub(super) struct PendingRead {
    /// `None` once the read has started.
    start: Option<oneshot::Receiver<()>>,
    result: oneshot::Receiver<ReadResult>,
    /// The deadline has passed once; later waits return at once.
    overdue: bool,
}

impl PendingRead {
    /// Returns a read in progress.
    #[cfg(test)]
    pub(super) fn in_progress(result: oneshot::Receiver<ReadResult>) -> Self {
        Self {
            start: None,
            result,
            overdue: false,
        }
    }

    /// Waits for the start of the read; `false` if it does not start in time.
    async fn starts(&mut self, reader: &FileReader, device: Option<u64>) -> bool {
        let Some(start) = &mut self.start else {
            return true;
        };
        let started = timeout(THREAD_TIMEOUT, async {
            loop {
                tokio::select! {
                    biased;
                    started = &mut *start => return started.is_ok(),
                    () = sleep(SLOW_START) => reader.add_thread(device),
                }
            }
        });
        let is_started = started.await.unwrap_or(false);
        if is_started {
            self.start = None;
        }
        is_started
    }

    /// Waits for the result; `None` if there is none in time.
    async fn result(&mut self) -> Option<ReadResult> {
        let limit = if self.overdue {
            Duration::ZERO
        } else {
            READ_TIMEOUT
        };
        let result = timeout(limit, &mut self.result).await;
        self.overdue = result.is_err();
        result.ok()?.ok()
    }
}

/// A file that is read again and again, by at most one thread at a time.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    /// The device of the file system at the last successful read.
    device: Option<u64>,
    pub(super) pending: Option<PendingRead>,
}

impl WatchedFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            device: None,
            pending: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns `true` if a read is in progress that may still meet its deadline.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.as_ref().is_some_and(|read| !read.overdue)
    }

    /// Reads the file, or waits for a read in progress. Cancel safe: the next call returns the
    /// result of a read that this one started.
    ///
    /// # Errors
    /// [`ReadError::TimedOut`] if there is no result in time.
    pub(super) async fn read(&mut self, reader: &FileReader, kind: FileKind) -> FileContent {
        let device = self.device;
        let pending = self
            .pending
            .get_or_insert_with(|| reader.submit(device, self.path.clone(), kind));
        if !pending.starts(reader, device).await {
            // Not overdue: no thread has seen the file.
            self.pending = None;
            return Err(ReadError::TimedOut);
        }
        let result = pending.result().await;
        if !pending.overdue {
            self.pending = None;
        }
        let (content, device) = result.ok_or(ReadError::TimedOut)?;
        self.device = device.or(self.device);
        content
    }
}

#[cfg(unix)]
fn device(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Some(std::fs::metadata(path).ok()?.dev())
}

#[cfg(not(unix))]
fn device(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> FileReader {
        FileReader::register(&Registry::new()).unwrap()
    }

    /// Queues a read of `device` that no thread takes.
    fn queue(reader: &FileReader, device: u64) {
        let (started, _) = oneshot::channel();
        let (result, _) = oneshot::channel();
        let job = ReadJob {
            path: PathBuf::new(),
            kind: FileKind::ClientSecret,
            started,
            result,
        };
        let mut queues = reader.lock();
        let queue = queues.by_device.entry(Some(device)).or_default();
        queue.jobs.push_back(job);
    }

    #[test]
    fn device_that_hangs_leaves_threads_to_the_others() {
        let reader = reader();
        for device in [1, 2] {
            queue(&reader, device);
        }
        let mut queues = reader.lock();
        for _ in 0..MAX_THREADS_PER_DEVICE {
            assert!(queues.add_thread(Some(1)));
        }
        assert!(!queues.add_thread(Some(1)));
        assert!(queues.add_thread(Some(2)));
    }

    #[test]
    fn threads_are_bounded_over_all_devices_and_end_without_reads() {
        let reader = reader();
        for device in 0..=MAX_THREADS as u64 {
            queue(&reader, device);
        }
        let mut queues = reader.lock();
        for device in 0..MAX_THREADS as u64 {
            assert!(queues.add_thread(Some(device)));
        }
        let last = Some(MAX_THREADS as u64);
        assert!(!queues.add_thread(last));
        assert!(queues.next(Some(0)).is_some());
        assert!(queues.next(Some(0)).is_none());
        assert!(queues.add_thread(last));
        assert!(!queues.by_device.contains_key(&Some(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn read_without_a_thread_times_out_and_is_queued_again() {
        let reader = reader();
        reader.lock().threads = MAX_THREADS;
        let path = std::env::current_exe().unwrap();
        let mut file = WatchedFile::new(path.parent().unwrap().to_owned());
        let kind = FileKind::ClientSecret;
        let timed_out = file.read(&reader, kind).await;
        assert!(matches!(timed_out, Err(ReadError::TimedOut)));
        reader.lock().threads = 0;
        let read = file.read(&reader, kind).await;
        assert!(matches!(read, Err(ReadError::NotRegular)), "{read:?}");
    }

    #[test]
    fn reads_are_spread_over_the_interval() {
        let reader = reader();
        let mut phases = BTreeMap::new();
        for _ in 0..1000 {
            *phases.entry(reader.phase()).or_insert(0) += 1;
        }
        assert_eq!(phases.len(), PHASES as usize);
        assert!(phases.values().all(|count| *count == 100), "{phases:?}");
        assert!(phases.keys().all(|phase| *phase < READ_INTERVAL));
    }
}
