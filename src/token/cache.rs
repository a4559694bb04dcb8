//! Token cache on disk (`token.cache_file`), off by default. A restart during an outage of the
//! token endpoint still has a token, and replicas on one volume share logins, whether Citrix grants
//! or rejects them.
//!
//! One encrypted file holds the records of all customers and is replaced atomically. No login
//! depends on it: an unusable file is logged once, ignored and rewritten, and a lock that cannot be
//! acquired is skipped. Disks, network volumes above all, can stall, so file operations run on one
//! blocking thread at a time, with a timeout.
//!
//! `system::files::Poller` does not fit: the file is read on demand, written as well, and locked
//! between replicas.

mod files;
mod records;
mod sealed;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use self::files::CacheFiles;
use self::records::{LoginRecord, RejectionRecord, TokenRecord};
use super::outcome::Outcome;
use super::response::MAX_LIFETIME;
use super::schedule::{Failures, MAX_RETRY_AFTER};
use crate::config::{Credential, SecretError, TokenCache};
use crate::system::clock::since_epoch;
use crate::system::digest::{Sha256, Sha256Builder};

pub(super) use self::records::Fingerprint;

/// Timeout of one file operation.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of the wait for a sibling's login, which normally takes well under a second.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between attempts to acquire the login lock.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum lead of a sibling's clock over the local one. A token obtained further in the future
/// would appear to be valid for longer than it is.
const MAX_CLOCK_LEAD: Duration = Duration::from_secs(5);

/// Key of a credential in the cache: a hash of its customer, client id and token URL, so that a
/// changed credential does not find the old token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialId(Sha256);

impl CredentialId {
    /// Returns the key of a credential.
    pub fn of(credential: &Credential) -> Self {
        let url = credential.token_url.to_string();
        let mut digest = Sha256Builder::default();
        for part in [credential.customer(), &credential.client_id, &url] {
            digest.part(part.as_bytes());
        }
        Self(digest.finish())
    }

    fn name(self) -> String {
        self.0.to_hex()
    }
}

/// A token with its times, on the clock of the replica that obtained it.
#[derive(Debug)]
pub struct CachedToken {
    pub(super) token: SecretString,
    /// Start of the login.
    pub(super) obtained_at: SystemTime,
    /// Expiry at Citrix.
    pub(super) expires_at: SystemTime,
    /// The secret of the login; `None` if it is not known.
    pub(super) secret: Option<Fingerprint>,
}

/// A login that Citrix rejected: the secret, or the client's rate.
#[derive(Debug)]
pub struct CachedRejection {
    /// All secrets of the replica that logged in.
    pub(super) secrets: Vec<Fingerprint>,
    pub(super) outcome: Outcome,
    pub(super) failures: Failures,
    /// Consecutive logins in which Citrix rejected every secret tried.
    pub(super) rejections: u32,
    pub(super) transaction_id: Option<HeaderValue>,
    /// The next login.
    pub(super) until: SystemTime,
    /// The next login of a replica without a token that Citrix accepts.
    pub(super) short_until: SystemTime,
}

impl Fingerprint {
    /// Hexadecimal digits of the digest: enough to tell a few secrets apart, too few to confirm a
    /// guess.
    const LEN: usize = 16;

    /// Returns the fingerprint of a secret with this digest.
    pub(super) fn of(digest: Sha256) -> Self {
        let mut digits = digest.to_hex();
        digits.truncate(Self::LEN);
        Self(digits)
    }

    /// Returns a fingerprint that another replica states.
    pub(super) const fn from_text(text: String) -> Self {
        Self(text)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// The cache file, shared by all keepers of the process.
#[derive(Clone, Debug)]
pub struct Cache {
    files: Arc<CacheFiles>,
    /// Admits one file operation at a time, so that a stalled disk occupies a single thread.
    disk: Arc<Semaphore>,
    /// The last logged error, so that it is logged once.
    warned: Arc<Mutex<Option<String>>>,
}

/// Exclusive right to log in while siblings wait, released on drop.
#[derive(Debug)]
pub struct LoginLock {
    _lock: Option<std::fs::File>,
}

impl Cache {
    /// Returns a cache without touching the file.
    pub fn new(settings: &TokenCache) -> Self {
        Self {
            files: Arc::new(CacheFiles::new(settings.file.clone(), settings.key.clone())),
            disk: Arc::new(Semaphore::new(1)),
            warned: Arc::default(),
        }
    }

    /// Returns the token of a credential if the file has one that is valid at `now`.
    pub(super) async fn load(&self, id: CredentialId, now: SystemTime) -> Option<CachedToken> {
        let found = self
            .on_disk(move |files| files.find(|records| records.token(&id.name()).cloned()))
            .await;
        let record = self.log_error(found)??;
        let cached = CachedToken {
            token: record.token,
            obtained_at: at(record.obtained_at)?,
            expires_at: at(record.expires_at)?,
            secret: record.secret,
        };
        let lifetime = cached.expires_at.duration_since(cached.obtained_at).ok()?;
        let plausible = lifetime <= MAX_LIFETIME && cached.obtained_at <= now + MAX_CLOCK_LEAD;
        (plausible && now < cached.expires_at).then_some(cached)
    }

    /// Stores a credential's token in the file, in place of its previous one.
    pub(super) async fn store(&self, id: CredentialId, cached: CachedToken, now: SystemTime) {
        let record = LoginRecord::Token(TokenRecord {
            id: id.name(),
            token: cached.token,
            obtained_at: since_epoch(cached.obtained_at),
            expires_at: since_epoch(cached.expires_at),
            secret: cached.secret,
        });
        self.write(record, now).await;
    }

    /// Returns the last rejection of a login with the same secrets, until some time after its end.
    pub(super) async fn rejection(
        &self,
        id: CredentialId,
        secrets: Vec<Fingerprint>,
        now: SystemTime,
    ) -> Option<CachedRejection> {
        let find = move |files: &CacheFiles| {
            files.find(|records| records.rejection(&id.name(), &secrets).cloned())
        };
        let found = self.on_disk(find).await;
        let record = self.log_error(found)??;
        let until = at(record.until)?;
        // Jitter lengthens a requested wait by a tenth.
        let plausible = until <= now + MAX_RETRY_AFTER.mul_f64(1.1) + MAX_CLOCK_LEAD;
        plausible.then_some(CachedRejection {
            secrets: record.secrets,
            outcome: record.outcome,
            failures: record.failures,
            rejections: record.rejections,
            transaction_id: record
                .transaction_id
                .and_then(|id| HeaderValue::try_from(id).ok()),
            until,
            short_until: at(record.short_until)?,
        })
    }

    /// Stores the rejection of a credential's login in the file.
    pub(super) async fn store_rejection(
        &self,
        id: CredentialId,
        rejection: CachedRejection,
        now: SystemTime,
    ) {
        let transaction_id = rejection.transaction_id.as_ref();
        let record = LoginRecord::Rejection(RejectionRecord {
            id: id.name(),
            secrets: rejection.secrets,
            outcome: rejection.outcome,
            failures: rejection.failures,
            rejections: rejection.rejections,
            transaction_id: transaction_id.and_then(|id| Some(id.to_str().ok()?.to_owned())),
            until: since_epoch(rejection.until),
            short_until: since_epoch(rejection.short_until),
        });
        self.write(record, now).await;
    }

    async fn write(&self, record: LoginRecord, now: SystemTime) {
        let now = since_epoch(now);
        self.files.enqueue(record);
        let stored = self.on_disk(move |files| files.write_queued(now)).await;
        self.log_error(stored);
    }

    /// Acquires the login lock of a credential, or gives up after [`LOCK_TIMEOUT`]. Either way the
    /// caller loads the token again before it logs in.
    pub(super) async fn login_lock(&self, id: CredentialId) -> LoginLock {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match self
                .on_disk(move |files| files.try_login_lock(&id.name()))
                .await
            {
                Ok(None) if Instant::now() < deadline => sleep(LOCK_POLL_INTERVAL).await,
                Ok(lock) => return LoginLock { _lock: lock },
                // On a volume without locks only jitter keeps the replicas' logins apart.
                Err(_) => return LoginLock { _lock: None },
            }
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CacheFiles) -> Result<T, CacheError> + Send + 'static,
    ) -> Result<T, CacheError> {
        let work = async {
            // The semaphore is never closed, and a panic ends the process; the errors are
            // unreachable.
            let permit = Arc::clone(&self.disk)
                .acquire_owned()
                .await
                .map_err(|_| CacheError::TimedOut)?;
            let files = Arc::clone(&self.files);
            let thread = spawn_blocking(move || {
                let result = work(&files);
                drop(permit);
                result
            });
            thread.await.map_err(|_| CacheError::TimedOut)?
        };
        timeout(DISK_TIMEOUT, work)
            .await
            .unwrap_or(Err(CacheError::TimedOut))
    }

    /// Logs an error once, until an operation succeeds.
    fn log_error<T>(&self, result: Result<T, CacheError>) -> Option<T> {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(value) => {
                *warned = None;
                Some(value)
            }
            // Expected before the first login.
            Err(CacheError::Missing) => None,
            Err(error) => {
                let error = error.to_string();
                if warned.as_ref() != Some(&error) {
                    let file = self.files.path().display();
                    warn!(%file, trouble = error, "token cache unusable; continuing without it");
                    *warned = Some(error);
                }
                None
            }
        }
    }
}

fn at(since_epoch: Duration) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(since_epoch)
}

/// Error that makes the cache file unusable. Its text contains nothing of the file.
#[derive(Debug, thiserror::Error)]
enum CacheError {
    #[error("no such file")]
    Missing,
    #[error("timed out accessing the file")]
    TimedOut,
    #[error("{0} failed: {1}")]
    Io(&'static str, std::io::ErrorKind),
    #[error("not a regular file")]
    NotAFile,
    #[error("accessible to users other than its owner; ignored and replaced")]
    Exposed,
    #[error("larger than the maximum of 4 MiB")]
    TooLarge,
    #[error("not in this version's format")]
    UnknownFormat,
    #[error("damaged, or encrypted with another key")]
    Undecipherable,
    #[error("token.cache_key: {0}")]
    Key(SecretError),
    #[error("token.cache_key is shorter than 32 bytes")]
    ShortKey,
}

impl CacheError {
    fn io(operation: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Io(operation, error.kind())
    }
}

impl fmt::Debug for CacheFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CacheFiles").field(&self.path()).finish()
    }
}
