//! Selection the secrets where a disk that hangs holds up nobody.

use std::time::Duration;

use secrecy::SecretString;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::config::SecretSource;

/// How long a disk may take. Beyond that the secret counts as unreadable, until the reading comes back.
const DEADLINE: Duration = Duration::from_secs(2);

/// Where the one or two secrets of a credential are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretSources {
    pub(super) current: SecretSource,
    pub(super) next: Option<SecretSource>,
}

impl SecretSources {
    /// Whether what is there may change by itself.
    pub(super) fn are_files(&self) -> bool {
        [Some(&self.current), self.next.as_ref()]
            .into_iter()
            .flatten()
            .any(|source| source.path().is_some())
    }
}

/// A secret, or why there is none, for the log.
pub(super) type Seen = Result<SecretString, String>;

/// What was there at one moment.
#[derive(Debug)]
pub(super) struct SecretSnapshot {
    pub(super) current: Seen,
    pub(super) next: Option<Seen>,
}

impl SecretSnapshot {
    fn with(sources: &SecretSources, read: impl Fn(&SecretSource) -> Seen) -> Self {
        Self {
            current: read(&sources.current),
            next: sources.next.as_ref().map(read),
        }
    }

    /// Blocks for as long as the disk does.
    fn of(sources: &SecretSources) -> Self {
        Self::with(sources, |source| {
            source.read().map_err(|error| error.to_string())
        })
    }

    /// What can be had without a disk.
    fn without_files(sources: &SecretSources) -> Self {
        Self::with(sources, |source| match source.path() {
            Some(path) => Err(format!("{}: the disk does not answer", path.display())),
            None => source.read().map_err(|error| error.to_string()),
        })
    }
}

/// The reading that is under way, if any. There is never another beside it, so that a disk that hangs holds one
/// thread of a keeper and no more.
#[derive(Debug, Default)]
pub(super) struct SecretReader {
    under_way: Option<JoinHandle<SecretSnapshot>>,
    /// It was waited for in vain.
    slow: bool,
}

impl SecretReader {
    /// What the sources hold now, or held when a slow reading came back; within a deadline.
    pub(super) async fn look(&mut self, sources: &SecretSources) -> SecretSnapshot {
        if !sources.are_files() {
            return SecretSnapshot::of(sources);
        }
        let reading = self.under_way.get_or_insert_with(|| {
            let sources = sources.clone();
            spawn_blocking(move || SecretSnapshot::of(&sources))
        });
        // Waited for once; then only asked whether it is done.
        let patience = if self.slow { Duration::ZERO } else { DEADLINE };
        let read = timeout(patience, reading).await;
        self.slow = read.is_err();
        if !self.slow {
            self.under_way = None;
        }
        match read {
            Ok(Ok(look)) => look,
            // Late, or the runtime is going.
            Ok(Err(_)) | Err(_) => SecretSnapshot::without_files(sources),
        }
    }

    /// The sources are others now: what is being read is of no use any more.
    pub(super) fn forget(&mut self) {
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

    fn is_slow(look: &SecretSnapshot) -> bool {
        look.current
            .as_ref()
            .is_err_and(|error| error.contains("does not answer"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_waited_for_once_and_read_by_one_thread() {
        let (sources, began) = (sources(), Instant::now());
        let mut reader = SecretReader {
            under_way: Some(tokio::spawn(pending())),
            slow: false,
        };
        for _ in 0..100 {
            let look = reader.look(&sources).await;
            assert!(is_slow(&look) && look.next.is_some_and(|next| next.is_ok()));
        }
        assert!(began.elapsed() < DEADLINE + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_slow_disk_brings_in_the_end_is_taken() {
        let sources = sources();
        let late = {
            let sources = sources.clone();
            async move {
                tokio::time::sleep(DEADLINE * 2).await;
                SecretSnapshot::of(&sources)
            }
        };
        let mut reader = SecretReader {
            under_way: Some(tokio::spawn(late)),
            slow: false,
        };
        assert!(is_slow(&reader.look(&sources).await));
        tokio::time::sleep(DEADLINE * 2).await;
        assert!(!is_slow(&reader.look(&sources).await));
        assert!(reader.under_way.is_none());
    }
}
