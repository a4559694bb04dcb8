//! Tokens on disk, so that a restart during an outage of the token endpoint still serves, and replicas on one
//! volume share a login. Off by default.
//!
//! One encrypted file holds the tokens of all customers and is replaced as a whole. Nothing here is needed for a
//! login to work: a file that is missing, unreadable or foreign is warned about once, passed over and rewritten,
//! and a lock that cannot be had is done without. Disks hang, those of the network above all, so files are
//! touched on a blocking thread, one at a time, and the wait for it has a deadline.

mod files;
mod sealed;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use self::files::CacheFiles;
use self::sealed::CacheEntry;
use super::response::MAX_LIFETIME;
use crate::config::{Credential, SecretError, TokenCache};
use crate::system::digest::{Sha256, Sha256Builder};

/// How long the disk may take.
const DISK_DEADLINE: Duration = Duration::from_secs(2);
/// How long a login of a sibling is waited for. A login takes well under a second; one that hangs is none to wait
/// for.
const TURN_DEADLINE: Duration = Duration::from_secs(5);
/// How often one looks whether the sibling is done.
const TURN_POLL: Duration = Duration::from_millis(100);
/// How far ahead of our clock a sibling's may be. A token from further in the future would seem to live longer than
/// it does.
const CLOCKS_APART: Duration = Duration::from_secs(5);

/// Whose token it is: a hash of the customer, the client's id and the token URL. A changed credential does not find
/// the old one's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialId(Sha256);

impl CredentialId {
    /// That of a credential.
    pub fn of(credential: &Credential) -> Self {
        let url = credential.token_url.to_string();
        let mut digest = Sha256Builder::default();
        for part in [credential.customer(), &credential.client_id, &url] {
            digest.part(part.as_bytes());
        }
        Self(digest.finish())
    }

    /// As hex digits.
    fn name(self) -> String {
        self.0.to_hex()
    }
}

/// A token as it was obtained. Times are of the clock of whoever obtained it.
#[derive(Debug)]
pub struct CachedToken {
    /// The token.
    pub token: SecretString,
    /// When it was asked for.
    pub obtained_at: SystemTime,
    /// When it dies at Citrix.
    pub expires_at: SystemTime,
}

/// The file, for all keepers of the process.
#[derive(Clone, Debug)]
pub struct Cache {
    files: Arc<CacheFiles>,
    /// One at a time, so that a disk that hangs holds one thread and no more.
    disk: Arc<Semaphore>,
    /// What was warned about last, so that it is said once.
    warned: Arc<Mutex<Option<String>>>,
}

/// The right to log in while siblings wait; given back when dropped.
#[derive(Debug)]
pub struct LoginLock {
    _lock: Option<std::fs::File>,
}

impl Cache {
    /// Touches no file yet.
    pub fn new(settings: &TokenCache) -> Self {
        Self {
            files: Arc::new(CacheFiles::new(settings.file.clone(), settings.key.clone())),
            disk: Arc::new(Semaphore::new(1)),
            warned: Arc::default(),
        }
    }

    /// The token of `identity`, if the file has one that may be alive at `now`.
    pub async fn look(&self, identity: CredentialId, now: SystemTime) -> Option<CachedToken> {
        let entry = self.settle(
            self.on_disk(move |files| files.find(&identity.name()))
                .await,
        )??;
        let cached = CachedToken {
            token: entry.token,
            obtained_at: SystemTime::UNIX_EPOCH.checked_add(entry.obtained_at)?,
            expires_at: SystemTime::UNIX_EPOCH.checked_add(entry.expires_at)?,
        };
        let life = cached.expires_at.duration_since(cached.obtained_at).ok()?;
        let believable = life <= MAX_LIFETIME && cached.obtained_at <= now + CLOCKS_APART;
        (believable && now < cached.expires_at).then_some(cached)
    }

    /// Puts a token into the file, in place of the one that `identity` had there.
    pub async fn store(&self, identity: CredentialId, cached: CachedToken, now: SystemTime) {
        let since_epoch = |at: SystemTime| {
            at.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default()
        };
        let entry = CacheEntry {
            of: identity.name(),
            token: cached.token,
            obtained_at: since_epoch(cached.obtained_at),
            expires_at: since_epoch(cached.expires_at),
        };
        let now = since_epoch(now);
        self.files.enqueue(entry);
        let stored = self.on_disk(move |files| files.write_waiting(now)).await;
        self.settle(stored);
    }

    /// Waits for a sibling that is logging in for the same `identity`, up to a deadline. Whoever has the turn, and
    /// whoever waited in vain, looks once more and then logs in.
    pub async fn turn(&self, identity: CredentialId) -> LoginLock {
        let give_up = Instant::now() + TURN_DEADLINE;
        loop {
            match self
                .on_disk(move |files| files.try_turn(&identity.name()))
                .await
            {
                Ok(None) if Instant::now() < give_up => sleep(TURN_POLL).await,
                Ok(lock) => return LoginLock { _lock: lock },
                // A volume without locks: its replicas have nothing but their jitter to keep them apart.
                Err(_) => return LoginLock { _lock: None },
            }
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CacheFiles) -> Result<T, CacheError> + Send + 'static,
    ) -> Result<T, CacheError> {
        let work = async {
            // Never closed; a thread that panicked ended the process.
            let alone = Arc::clone(&self.disk)
                .acquire_owned()
                .await
                .map_err(|_| CacheError::Slow)?;
            let files = Arc::clone(&self.files);
            let thread = spawn_blocking(move || {
                let done = work(&files);
                drop(alone);
                done
            });
            thread.await.map_err(|_| CacheError::Slow)?
        };
        timeout(DISK_DEADLINE, work)
            .await
            .unwrap_or(Err(CacheError::Slow))
    }

    /// Warns of a trouble once.
    fn settle<T>(&self, done: Result<T, CacheError>) -> Option<T> {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(done) => {
                *warned = None;
                Some(done)
            }
            // As it is before the first login.
            Err(CacheError::Missing) => None,
            Err(trouble) => {
                let trouble = trouble.to_string();
                if warned.as_ref() != Some(&trouble) {
                    let file = self.files.path().display();
                    warn!(%file, trouble, "the token cache is of no use; going on without");
                    *warned = Some(trouble);
                }
                None
            }
        }
    }
}

/// Why the file is of no use. Printing it shows nothing that is in it.
#[derive(Debug, thiserror::Error)]
enum CacheError {
    #[error("there is no file")]
    Missing,
    #[error("the disk does not answer in time")]
    Slow,
    #[error("{0} failed: {1}")]
    Disk(&'static str, std::io::ErrorKind),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("others than its owner may read or write it; it is not read, and replaced")]
    Exposed,
    #[error("it is larger than any we write")]
    TooLarge,
    #[error("it is not of this version's format")]
    Foreign,
    #[error("it was encrypted with another key, or is damaged")]
    Sealed,
    #[error("token.cache_key: {0}")]
    Key(SecretError),
    #[error("token.cache_key is shorter than 32 bytes")]
    ShortKey,
}

impl CacheError {
    fn disk(what: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Disk(what, error.kind())
    }
}

impl fmt::Debug for CacheFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CacheFiles").field(&self.path()).finish()
    }
}
