//! The files of the cache. All of this blocks.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::sealed::{self, Entry};
use super::{SecretError, Trouble};
use crate::config::SecretSource;

/// The largest file, in bytes: room for more than a thousand customers.
const LARGEST: usize = 4 << 20;
/// Read and written by its owner alone.
const MODE: u32 = 0o600;
/// How often, and how many times, a sibling's writing is waited for. It takes milliseconds.
const WRITE_POLL: Duration = Duration::from_millis(20);
const WRITE_POLLS: u32 = 25;

/// Where the files are. The key is read anew each time, as all secrets are.
pub(super) struct Files {
    path: PathBuf,
    key: SecretSource,
}

impl Files {
    pub(super) const fn new(path: PathBuf, key: SecretSource) -> Self {
        Self { path, key }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// All that is in the file.
    pub(super) fn read(&self) -> Result<Vec<Entry>, Trouble> {
        let missing = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => Trouble::Missing,
            kind => Trouble::Disk("reading", kind),
        };
        // Asked before opening: opening a pipe would wait for somebody to write into it.
        if !fs::metadata(&self.path).map_err(missing)?.is_file() {
            return Err(Trouble::NotAFile);
        }
        let file = File::open(&self.path).map_err(missing)?;
        let known = file.metadata().map_err(missing)?;
        if known.mode() & 0o077 != 0 {
            return Err(Trouble::Exposed);
        }
        let length = usize::try_from(known.len()).ok().filter(|length| *length <= LARGEST);
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.ok_or(Trouble::TooLarge)? + 1));
        file.take(LARGEST as u64).read_to_end(&mut bytes).map_err(missing)?;
        sealed::open(&mut bytes, &self.key()?)
    }

    /// Puts `entry` in the place of its like, and drops what died before `now`.
    ///
    /// The file is replaced by another in one step: a reader finds the old one or the new one, whole.
    pub(super) fn replace(&self, entry: Entry, now: Duration) -> Result<(), Trouble> {
        // Without the lock, when it cannot be had: at worst a sibling's token is lost, which costs it a login.
        let _lock = self.wait_to_write();
        // What cannot be read is about to be rewritten; who looked there has warned.
        let mut entries = self.read().unwrap_or_default();
        entries.retain(|other| other.of != entry.of && other.expires_at > now);
        entries.push(entry);
        let bytes = sealed::seal(&entries, &self.key()?)?;
        if bytes.len() > LARGEST {
            return Err(Trouble::TooLarge);
        }
        let temporary = self.beside(".tmp");
        let done = write(&temporary, &bytes).and_then(|()| fs::rename(&temporary, &self.path));
        done.map_err(|error| {
            // It may not even be there.
            let _ = fs::remove_file(&temporary);
            Trouble::disk("writing")(error)
        })
    }

    /// The lock of those who log in for `name`, `None` while somebody else has it. The system takes it from a
    /// process that died.
    pub(super) fn try_turn(&self, name: &str) -> Result<Option<File>, Trouble> {
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

    fn key(&self) -> Result<SecretString, Trouble> {
        self.key.read().map_err(|error: SecretError| Trouble::Key(error))
    }

    /// The file's path with more behind its name.
    fn beside(&self, more: &str) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(more);
        path.into()
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // A process that died may have left one behind.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(bytes)?;
    // Else a crash of the machine could leave the new name with no content.
    file.sync_all()
}

/// Lock files stay: to delete one that somebody is about to lock would give two of them the lock.
fn try_lock(path: &Path) -> Result<Option<File>, Trouble> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(path);
    let file = file.map_err(Trouble::disk("locking"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Trouble::Disk("locking", error.kind())),
    }
}
