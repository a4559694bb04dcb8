//! Blocking access to the cache file and its locks.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::records::{LoginRecord, Records};
use super::sealed;
use super::{CacheError, SecretError};
use crate::config::SecretSource;

/// Maximum size of the file, in bytes, enough for more than a thousand customers.
const MAX_FILE_SIZE: usize = 4 << 20;
/// File mode: read and write for the owner only.
const MODE: u32 = 0o600;
/// Interval between attempts to acquire the write lock, which siblings hold for milliseconds.
const WRITE_LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum number of attempts to acquire the write lock.
const MAX_WRITE_LOCK_ATTEMPTS: u32 = 25;

/// The cache file, its key and what is known of its content. The key is read for each operation, so
/// that a rotated key takes effect.
pub(super) struct CacheFiles {
    path: PathBuf,
    key: SecretSource,
    contents: Mutex<Contents>,
    /// Records to write, at most two per credential: keepers that log in at the same time share one
    /// write.
    queued: Mutex<Vec<LoginRecord>>,
}

/// Decrypted content of the file when it was last read, so that it is decrypted once and not once
/// per customer.
#[derive(Default)]
struct Contents {
    stamp: Option<Stamp>,
    records: Records,
}

/// Metadata that change when a file is replaced or written to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl CacheFiles {
    pub(super) fn new(path: PathBuf, key: SecretSource) -> Self {
        Self {
            path,
            key,
            contents: Mutex::default(),
            queued: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a part of the content.
    pub(super) fn find<T>(
        &self,
        find: impl FnOnce(&Records) -> Option<T>,
    ) -> Result<Option<T>, CacheError> {
        let mut contents = locked(&self.contents);
        self.refresh(&mut contents)?;
        Ok(find(&contents.records))
    }

    /// Queues a record for the next write, in place of a queued one of the same kind and credential.
    pub(super) fn enqueue(&self, record: LoginRecord) {
        let mut queued = locked(&self.queued);
        queued.retain(|other| !record.replaces(other));
        queued.push(record);
    }

    /// Writes the queued records, unless a concurrent write already did, and removes those that
    /// expired before `now`.
    ///
    /// The file is replaced atomically, so that a reader sees either version in full.
    pub(super) fn write_queued(&self, now: Duration) -> Result<(), CacheError> {
        // Optional: without the lock a sibling's token may be lost, which costs one login.
        let _lock = self.write_lock();
        let new = std::mem::take(&mut *locked(&self.queued));
        if new.is_empty() {
            return Ok(());
        }
        let mut contents = locked(&self.contents);
        // An unreadable file is replaced; the preceding load has logged the error.
        let _ = self.refresh(&mut contents);
        contents.stamp = None;
        contents.records.expire(now);
        for record in new {
            contents.records.add(record);
        }
        let bytes = sealed::seal(&contents.records, &self.key()?)?;
        if bytes.len() > MAX_FILE_SIZE {
            return Err(CacheError::TooLarge);
        }
        let temporary = self.sibling_path(".tmp");
        let written = write(&temporary, &bytes)
            .and_then(|stamp| fs::rename(&temporary, &self.path).map(|()| stamp))
            .map_err(|error| {
                // The file may not exist.
                let _ = fs::remove_file(&temporary);
                CacheError::io("writing")(error)
            });
        contents.stamp = Some(written?);
        Ok(())
    }

    /// Reads the file if it has changed.
    fn refresh(&self, contents: &mut Contents) -> Result<(), CacheError> {
        match self.read(contents.stamp) {
            Ok(None) => {}
            Ok(Some((stamp, records))) => {
                *contents = Contents {
                    stamp: Some(stamp),
                    records,
                }
            }
            Err(error) => {
                *contents = Contents::default();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Returns the content of the file; `None` if it is unchanged since `before`.
    fn read(&self, before: Option<Stamp>) -> Result<Option<(Stamp, Records)>, CacheError> {
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => CacheError::Missing,
            kind => CacheError::Io("reading", kind),
        };
        // Checked before opening, because opening a FIFO blocks until a writer opens it.
        if !fs::metadata(&self.path).map_err(failed)?.is_file() {
            return Err(CacheError::NotAFile);
        }
        let file = File::open(&self.path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(CacheError::Exposed);
        }
        let stamp = Stamp::of(&metadata);
        if before == Some(stamp) {
            return Ok(None);
        }
        let length = usize::try_from(metadata.len())
            .ok()
            .filter(|length| *length <= MAX_FILE_SIZE);
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.ok_or(CacheError::TooLarge)? + 1));
        file.take(MAX_FILE_SIZE as u64)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        Ok(Some((stamp, sealed::open(&mut bytes, &self.key()?)?)))
    }

    /// Acquires the login lock of a credential; `None` while another process holds it. The
    /// operating system releases the lock of a process that ends.
    pub(super) fn try_login_lock(&self, id: &str) -> Result<Option<File>, CacheError> {
        let short = id.get(..16).unwrap_or(id);
        try_lock(&self.sibling_path(&format!(".{short}.lock")))
    }

    fn write_lock(&self) -> Option<File> {
        let path = self.sibling_path(".lock");
        for _ in 0..MAX_WRITE_LOCK_ATTEMPTS {
            match try_lock(&path) {
                Ok(Some(lock)) => return Some(lock),
                Ok(None) => sleep(WRITE_LOCK_POLL_INTERVAL),
                Err(_) => return None,
            }
        }
        None
    }

    fn key(&self) -> Result<SecretString, CacheError> {
        self.key
            .read()
            .map_err(|error: SecretError| CacheError::Key(error))
    }

    /// Returns the file's path with a suffix.
    fn sibling_path(&self, suffix: &str) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(suffix);
        path.into()
    }
}

/// Locks a mutex. A panic ends the process, so poisoning does not occur.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<Stamp> {
    // A process that ended during a write leaves this file behind.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)?;
    file.write_all(bytes)?;
    // Without it, a crash of the machine could leave an empty file under the final name.
    file.sync_all()?;
    Ok(Stamp::of(&file.metadata()?))
}

/// Tries to lock a file. Lock files are never deleted: a process about to lock a deleted file would
/// acquire a second lock.
fn try_lock(path: &Path) -> Result<Option<File>, CacheError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path);
    let file = file.map_err(CacheError::io("locking"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(CacheError::Io("locking", error.kind())),
    }
}
