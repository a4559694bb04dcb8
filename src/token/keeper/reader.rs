//! Reads of client secrets that do not block on a slow disk.

use std::time::Duration;

use secrecy::SecretString;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::config::SecretSource;

/// Timeout of one read. A late secret counts as unreadable until the read completes.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Sources of a credential's one or two secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretSources {
    pub(super) current: SecretSource,
    pub(super) next: Option<SecretSource>,
}

impl SecretSources {
    /// Returns `true` if a secret can change without a reload.
    pub(super) fn any_file(&self) -> bool {
        [Some(&self.current), self.next.as_ref()]
            .into_iter()
            .flatten()
            .any(|source| source.path().is_some())
    }
}

/// A secret, or the cause for the log if it is unreadable.
pub(super) type ReadSecret = Result<SecretString, String>;

/// The secrets at one moment.
#[derive(Debug)]
pub(super) struct SecretSnapshot {
    pub(super) current: ReadSecret,
    pub(super) next: Option<ReadSecret>,
}

impl SecretSnapshot {
    fn with(sources: &SecretSources, read: impl Fn(&SecretSource) -> ReadSecret) -> Self {
        Self {
            current: read(&sources.current),
            next: sources.next.as_ref().map(read),
        }
    }

    /// Reads the sources. Blocks on the disk.
    fn of(sources: &SecretSources) -> Self {
        Self::with(sources, |source| {
            source.read().map_err(|error| error.to_string())
        })
    }

    /// Reads the sources other than files.
    fn without_files(sources: &SecretSources) -> Self {
        Self::with(sources, |source| match source.path() {
            Some(path) => Err(format!("{}: timed out reading the file", path.display())),
            None => source.read().map_err(|error| error.to_string()),
        })
    }
}

/// Reads secrets on a blocking thread, one read at a time, so that a stalled disk occupies a single thread per keeper.
#[derive(Debug, Default)]
pub(super) struct SecretReader {
    pending: Option<JoinHandle<SecretSnapshot>>,
    /// The pending read has already timed out.
    timed_out: bool,
}

impl SecretReader {
    /// Returns the secrets within [`READ_TIMEOUT`]. After a timeout, later calls return at once until the pending read
    /// completes, and then return its result.
    pub(super) async fn read(&mut self, sources: &SecretSources) -> SecretSnapshot {
        if !sources.any_file() {
            return SecretSnapshot::of(sources);
        }
        let pending = self.pending.get_or_insert_with(|| {
            let sources = sources.clone();
            spawn_blocking(move || SecretSnapshot::of(&sources))
        });
        let wait = if self.timed_out {
            Duration::ZERO
        } else {
            READ_TIMEOUT
        };
        let result = timeout(wait, pending).await;
        self.timed_out = result.is_err();
        if !self.timed_out {
            self.pending = None;
        }
        match result {
            Ok(Ok(snapshot)) => snapshot,
            // Timed out, or the runtime is shutting down.
            Ok(Err(_)) | Err(_) => SecretSnapshot::without_files(sources),
        }
    }

    /// Discards a pending read, because the sources changed.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    fn sources() -> SecretSources {
        let plain = SecretSource::Plain(SecretString::from("plain"));
        SecretSources {
            current: SecretSource::File("/no/such/secret".into()),
            next: Some(plain),
        }
    }

    fn timed_out(snapshot: &SecretSnapshot) -> bool {
        snapshot
            .current
            .as_ref()
            .is_err_and(|error| error.contains("timed out"))
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_disk_is_awaited_once_and_occupies_one_thread() {
        let (sources, began) = (sources(), Instant::now());
        let mut reader = SecretReader {
            pending: Some(tokio::spawn(pending())),
            timed_out: false,
        };
        for _ in 0..100 {
            let snapshot = reader.read(&sources).await;
            assert!(timed_out(&snapshot) && snapshot.next.is_some_and(|next| next.is_ok()));
        }
        assert!(began.elapsed() < READ_TIMEOUT + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn late_result_of_a_slow_disk_is_used() {
        let sources = sources();
        let late = {
            let sources = sources.clone();
            async move {
                tokio::time::sleep(READ_TIMEOUT * 2).await;
                SecretSnapshot::of(&sources)
            }
        };
        let mut reader = SecretReader {
            pending: Some(tokio::spawn(late)),
            timed_out: false,
        };
        assert!(timed_out(&reader.read(&sources).await));
        tokio::time::sleep(READ_TIMEOUT * 2).await;
        assert!(!timed_out(&reader.read(&sources).await));
        assert!(reader.pending.is_none());
    }
}
