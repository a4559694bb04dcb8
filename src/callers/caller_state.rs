//! The state of a caller, over all workers and from one configuration to the next.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use crate::callers::observations::Observations;
use crate::config::{Caller, Mode};
use crate::limit::caller::CallerLimits;
use crate::limit::owner::{Owner, OwnerKey, ResourceKind};
use crate::system::digest::Sha256;

/// Digits of a hash that tell two secrets apart.
const SHOWN_DIGITS: usize = 8;

/// The state of one caller.
#[derive(Debug)]
pub struct CallerState {
    /// The caller's own limits and their use.
    pub limits: CallerLimits,
    /// The caller as the owner of shared resources.
    pub owner: Arc<Owner>,
    /// The caller's requests while its mode is `observe`.
    pub observations: Arc<Observations>,
    /// The use of each of [`Caller::secrets`].
    secrets: Vec<SecretUse>,
}

/// The last use of a secret.
#[derive(Debug)]
pub struct SecretUse {
    hash: Sha256,
    began: Instant,
    /// Seconds from `began`, plus one; 0 before the first use.
    last: AtomicU64,
}

impl SecretUse {
    fn new(hash: Sha256, previous: Option<&Self>) -> Self {
        Self {
            hash,
            began: previous.map_or_else(Instant::now, |previous| previous.began),
            last: AtomicU64::new(previous.map_or(0, |previous| previous.last.load(Relaxed))),
        }
    }

    /// Records a use. At most one write a second, since all workers share the value.
    fn record(&self, now: Instant) {
        let seconds = now.saturating_duration_since(self.began).as_secs() + 1;
        if self.last.load(Relaxed) < seconds {
            self.last.fetch_max(seconds, Relaxed);
        }
    }

    /// Returns the first digits of the secret's SHA-256, as configured.
    pub fn digits(&self) -> String {
        self.hash.to_hex()[..SHOWN_DIGITS].to_owned()
    }

    /// Returns the time of the last use in this process.
    pub fn last(&self) -> Option<Instant> {
        let seconds = self.last.load(Relaxed).checked_sub(1)?;
        Some(self.began + Duration::from_secs(seconds))
    }
}

impl CallerState {
    /// Creates the state of a new caller.
    pub fn new(caller: &Caller) -> Self {
        Self {
            limits: CallerLimits::new(caller.max_concurrent, caller.max_per_second),
            owner: Owner::new(OwnerKey::new_caller()),
            observations: Arc::default(),
            secrets: uses(caller, &[]),
        }
    }

    /// Records that a request presented the secret with this index.
    pub fn secret_used(&self, index: usize, now: Instant) {
        if let Some(secret) = self.secrets.get(index) {
            secret.record(now);
        }
    }

    /// Returns the number of the caller's requests in progress, those in queues included.
    pub fn in_progress(&self) -> usize {
        let held = |kind| self.owner.held(kind).load(Relaxed);
        let permits = self.limits.concurrent();
        permits.unwrap_or_else(|| held(ResourceKind::InFlight) + held(ResourceKind::Queued))
    }

    /// Returns the secrets in the order of the configuration.
    pub fn secrets(&self) -> &[SecretUse] {
        &self.secrets
    }

    /// Creates the state of the same caller under its next configuration. Its requests in flight
    /// still count, and its observations are kept as long as its mode is `observe`.
    pub fn successor(&self, caller: &Caller) -> Self {
        Self {
            limits: self
                .limits
                .changed_to(caller.max_concurrent, caller.max_per_second),
            owner: Arc::clone(&self.owner),
            observations: match caller.mode {
                Mode::Observe => Arc::clone(&self.observations),
                Mode::Enforce => Arc::default(),
            },
            secrets: uses(caller, &self.secrets),
        }
    }
}

/// Returns the uses of the caller's secrets, which continue those of `previous`.
fn uses(caller: &Caller, previous: &[SecretUse]) -> Vec<SecretUse> {
    let same = |hash| previous.iter().find(|previous| previous.hash == hash);
    let secrets = caller.secrets.iter();
    secrets
        .map(|&hash| SecretUse::new(hash, same(hash)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroUsize};

    use super::*;
    use citrix_wire::policy::Rules;

    fn caller(max_concurrent: usize, max_per_second: u32, mode: Mode) -> Caller {
        Caller {
            name: "a".to_owned(),
            secrets: Vec::new(),
            networks: Vec::new(),
            certificate: None,
            rules: Rules::default(),
            max_concurrent: NonZeroUsize::new(max_concurrent),
            max_per_second: NonZeroU32::new(max_per_second),
            mode,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn state_of_a_caller_outlives_its_configuration() {
        let now = Instant::now();
        let first = CallerState::new(&caller(2, 2, Mode::Observe));
        let _permit = first.limits.acquire(now).unwrap();
        first.observations.record("GET", "/seen", "acme");
        let second = first.successor(&caller(3, 2, Mode::Observe));
        let _other = second.limits.acquire(now).unwrap();
        assert!(
            second.limits.acquire(now).is_err(),
            "two were a second's worth"
        );
        assert_eq!(second.observations.requests(), 1);
        // Another rate starts with a full burst; the two requests in flight still count.
        let third = second.successor(&caller(3, 5, Mode::Enforce));
        let _last = third.limits.acquire(now).unwrap();
        assert!(third.limits.acquire(now).is_err());
        assert_eq!(
            third.observations.requests(),
            0,
            "it is not observed any more"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn last_use_of_a_secret_outlives_the_configuration_that_contains_it() {
        let mut config = caller(0, 0, Mode::Enforce);
        config.secrets = ["old", "new"]
            .map(|text| Sha256::of(text.as_bytes()))
            .into();
        let first = CallerState::new(&config);
        tokio::time::advance(Duration::from_secs(10)).await;
        let used = Instant::now();
        first.secret_used(1, used);
        assert_eq!(first.secrets()[0].last(), None);
        config.secrets.remove(0);
        let second = first.successor(&config);
        let last = second.secrets()[0].last().unwrap();
        assert!(used.saturating_duration_since(last) < Duration::from_secs(1));
        config.secrets = vec![Sha256::of(b"old")];
        assert_eq!(second.successor(&config).secrets()[0].last(), None);
    }
}
