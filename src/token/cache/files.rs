//! The files of the cache. All of this blocks.

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

use super::sealed::{self, CacheEntry};
use super::{CacheError, SecretError};
use crate::config::SecretSource;

/// The largest file, in bytes: room for more than a thousand customers.
const LARGEST: usize = 4 << 20;
/// Read and written by its owner alone.
const MODE: u32 = 0o600;
/// How often, and how many times, a sibling's writing is waited for. It takes milliseconds.
const WRITE_POLL: Duration = Duration::from_millis(20);
const WRITE_POLLS: u32 = 25;

/// Where the files are. The key is read anew for each reading and writing, as all secrets are.
pub(super) struct CacheFiles {
    path: PathBuf,
    key: SecretSource,
    /// What the file held when it was last looked at.
    known: Mutex<Known>,
    /// What waits to be written: the keepers of many customers log in at the same time, and one writing is enough.
    /// One entry a credential at most.
    waiting: Mutex<Vec<CacheEntry>>,
}

/// The file's content, so that it is decrypted once and not once for each customer.
#[derive(Default)]
struct Known {
    stamp: Option<Stamp>,
    entries: Vec<CacheEntry>,
}

/// What changes when a file is replaced or written to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(known: &Metadata) -> Self {
        let modified = (known.mtime(), known.mtime_nsec());
        Self {
            device: known.dev(),
            inode: known.ino(),
            size: known.size(),
            modified,
        }
    }
}

impl CacheFiles {
    pub(super) fn new(path: PathBuf, key: SecretSource) -> Self {
        Self {
            path,
            key,
            known: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The entry of that name.
    pub(super) fn find(&self, of: &str) -> Result<Option<CacheEntry>, CacheError> {
        let mut known = locked(&self.known);
        self.look(&mut known)?;
        Ok(known.entries.iter().find(|entry| entry.of == of).cloned())
    }

    /// Takes an entry that the next writing puts in the place of its like.
    pub(super) fn enqueue(&self, entry: CacheEntry) {
        let mut waiting = locked(&self.waiting);
        waiting.retain(|other| other.of != entry.of);
        waiting.push(entry);
    }

    /// Writes what waits, unless another writing took it along, and drops what died before `now`.
    ///
    /// The file is replaced by another in one step: a reader finds the old one or the new one, whole.
    pub(super) fn write_waiting(&self, now: Duration) -> Result<(), CacheError> {
        // Without the lock, when it cannot be had: at worst a sibling's token is lost, which costs it a login.
        let _lock = self.wait_to_write();
        let new = std::mem::take(&mut *locked(&self.waiting));
        if new.is_empty() {
            return Ok(());
        }
        let mut known = locked(&self.known);
        // What cannot be read is about to be rewritten; who looked there has warned.
        let _ = self.look(&mut known);
        known.stamp = None;
        known
            .entries
            .retain(|old| old.expires_at > now && new.iter().all(|entry| entry.of != old.of));
        known.entries.extend(new);
        let bytes = sealed::seal(&known.entries, &self.key()?)?;
        if bytes.len() > LARGEST {
            return Err(CacheError::TooLarge);
        }
        let temporary = self.beside(".tmp");
        let done = write(&temporary, &bytes)
            .and_then(|stamp| fs::rename(&temporary, &self.path).map(|()| stamp))
            .map_err(|error| {
                // It may not even be there.
                let _ = fs::remove_file(&temporary);
                CacheError::disk("writing")(error)
            });
        known.stamp = Some(done?);
        Ok(())
    }

    /// Brings what is known up to date.
    fn look(&self, known: &mut Known) -> Result<(), CacheError> {
        let before = known.stamp;
        match self.read(before) {
            Ok(None) => {}
            Ok(Some((stamp, entries))) => {
                *known = Known {
                    stamp: Some(stamp),
                    entries,
                }
            }
            Err(trouble) => {
                *known = Known::default();
                return Err(trouble);
            }
        }
        Ok(())
    }

    /// All that is in the file; `None` when it is as it was.
    fn read(&self, before: Option<Stamp>) -> Result<Option<(Stamp, Vec<CacheEntry>)>, CacheError> {
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => CacheError::Missing,
            kind => CacheError::Disk("reading", kind),
        };
        // Asked before opening: opening a pipe would wait for somebody to write into it.
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
            .filter(|length| *length <= LARGEST);
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.ok_or(CacheError::TooLarge)? + 1));
        file.take(LARGEST as u64)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        Ok(Some((stamp, sealed::open(&mut bytes, &self.key()?)?)))
    }

    /// The lock of those who log in for `name`, `None` while somebody else has it. The system takes it from a
    /// process that died.
    pub(super) fn try_turn(&self, name: &str) -> Result<Option<File>, CacheError> {
        let short = name.get(..16).unwrap_or(name);
        try_lock(&self.beside(&format!(".{short}.lock")))
    }

    fn wait_to_write(&self) -> Option<File> {
        let path = self.beside(".lock");
        for _ in 0..WRITE_POLLS {
            match try_lock(&path) {
                Ok(Some(lock)) => return Some(lock),
                Ok(None) => sleep(WRITE_POLL),
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

    /// The file's path with more behind its name.
    fn beside(&self, more: &str) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(more);
        path.into()
    }
}

/// A thread that panics ends the process, so nobody meets a poisoned lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<Stamp> {
    // A process that died may have left one behind.
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
    // Else a crash of the machine could leave the new name with no content.
    file.sync_all()?;
    Ok(Stamp::of(&file.metadata()?))
}

/// Lock files stay: to delete one that somebody is about to lock would give two of them the lock.
fn try_lock(path: &Path) -> Result<Option<File>, CacheError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path);
    let file = file.map_err(CacheError::disk("locking"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(CacheError::Disk("locking", error.kind())),
    }
}
