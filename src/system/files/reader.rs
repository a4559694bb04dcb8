//! Reads of files on few blocking threads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{FileContent, FileKind, READ_INTERVAL, READ_TIMEOUT, ReadError, read};
use crate::system::blocking::BlockingCall;

/// Concurrent reads of the process. A read that hangs keeps its thread until it returns.
const MAX_THREADS: usize = 8;
/// Concurrent reads of one file system, so that one that hangs leaves threads to the others.
const MAX_THREADS_PER_DEVICE: usize = 2;
/// Deadline for a thread, all of which hang or read from a slow volume.
const THREAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Steps per turn of [`FileReader::phase`]: the golden ratio spreads any number of pollers evenly.
const PHASE_STEP: f64 = 0.618_033_988_749_895;

/// Reads the watched files of the process. Clones share the threads and the counters.
#[derive(Clone, Debug)]
pub struct FileReader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    threads: Arc<Semaphore>,
    /// By device; `None` for files that have not been read yet. At most one per mounted file
    /// system.
    devices: Mutex<BTreeMap<Option<u64>, Arc<Semaphore>>>,
    pollers: AtomicU32,
    failures: IntCounterVec,
}

/// A thread for one read.
struct ThreadPermit {
    _of_device: OwnedSemaphorePermit,
    _of_process: OwnedSemaphorePermit,
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
            threads: Arc::new(Semaphore::new(MAX_THREADS)),
            devices: Mutex::default(),
            pollers: AtomicU32::new(0),
            failures,
        })))
    }

    /// Returns the time by which a new poller reads earlier than a whole interval from now.
    pub(super) fn phase(&self) -> Duration {
        let number = self.0.pollers.fetch_add(1, Ordering::Relaxed);
        READ_INTERVAL.mul_f64((f64::from(number) * PHASE_STEP).fract())
    }

    pub(super) fn count_failure(&self, kind: FileKind) {
        self.0.failures.with_label_values(&[kind.label()]).inc();
    }

    /// Waits for a thread; `None` if none becomes free in time.
    async fn thread(&self, device: Option<u64>) -> Option<ThreadPermit> {
        let of_device = self.device(device);
        let permits = async {
            // The device first: a file that waits for its device keeps no thread from others.
            Some(ThreadPermit {
                _of_device: of_device.acquire_owned().await.ok()?,
                _of_process: Arc::clone(&self.0.threads).acquire_owned().await.ok()?,
            })
        };
        timeout(THREAD_TIMEOUT, permits).await.ok().flatten()
    }

    fn device(&self, device: Option<u64>) -> Arc<Semaphore> {
        let mut devices = self
            .0
            .devices
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = devices.get(&device) {
            return Arc::clone(known);
        }
        // A file system that was unmounted.
        devices.retain(|_, threads| threads.available_permits() < MAX_THREADS_PER_DEVICE);
        let threads = Arc::new(Semaphore::new(MAX_THREADS_PER_DEVICE));
        devices.insert(device, Arc::clone(&threads));
        threads
    }
}

/// A file that is read again and again, by at most one thread at a time.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    /// The device of the file system at the last successful read.
    device: Option<u64>,
    pub(super) call: BlockingCall<(FileContent, Option<u64>)>,
}

impl WatchedFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            device: None,
            call: BlockingCall::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file, or waits for a read in progress. Cancel safe: the next call returns the
    /// result of a read that this one started.
    ///
    /// # Errors
    /// [`ReadError::TimedOut`] if there is no result in time.
    pub(super) async fn read(&mut self, reader: &FileReader, kind: FileKind) -> FileContent {
        let thread = if self.call.is_started() {
            None
        } else {
            let thread = reader.thread(self.device).await;
            Some(thread.ok_or(ReadError::TimedOut)?)
        };
        let path = self.path.clone();
        let call = move || {
            let _thread = thread;
            (read(&path, kind), device(&path))
        };
        let (content, device) = self
            .call
            .run(READ_TIMEOUT, call)
            .await
            .map_err(|_| ReadError::TimedOut)?;
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

    #[tokio::test(start_paused = true)]
    async fn device_that_hangs_leaves_threads_to_the_others() {
        let reader = reader();
        let mut hanging = Vec::new();
        for _ in 0..MAX_THREADS_PER_DEVICE {
            hanging.push(reader.thread(Some(1)).await.unwrap());
        }
        assert!(reader.thread(Some(1)).await.is_none());
        assert!(reader.thread(Some(2)).await.is_some());
        assert!(reader.thread(None).await.is_some());
        hanging.clear();
        assert!(reader.thread(Some(1)).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn threads_are_bounded_over_all_devices() {
        let reader = reader();
        let mut hanging = Vec::new();
        for device in 0..MAX_THREADS as u64 {
            hanging.push(reader.thread(Some(device)).await.unwrap());
        }
        assert!(reader.thread(Some(100)).await.is_none());
        assert!(reader.0.devices.lock().unwrap().len() <= MAX_THREADS + 1);
        hanging.pop();
        assert!(reader.thread(Some(100)).await.is_some());
    }

    #[test]
    fn reads_are_spread_over_the_interval() {
        let reader = reader();
        let mut tenths = [0; 10];
        for _ in 0..1000 {
            let tenth = reader.phase().as_millis() * 10 / READ_INTERVAL.as_millis();
            tenths[usize::try_from(tenth).unwrap()] += 1;
        }
        assert!(
            tenths.iter().all(|count| (95..=105).contains(count)),
            "{tenths:?}"
        );
    }
}
