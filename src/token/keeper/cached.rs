//! The keeper's use of the token cache.

use std::time::SystemTime;

use tracing::info;

use super::reader::SecretSnapshot;
use super::secrets::SecretSelector;
use super::{Keeper, LoginReason, LoginSchedule, NewToken};
use crate::config::Credential;
use crate::system::moment::Moment;
use crate::token::cache::{
    Cache, CachedRejection, CachedToken, CredentialId, Fingerprint, LoginLock,
};
use crate::token::issuer::{Issuer, LoginError};
use crate::token::outcome::Outcome;
use crate::token::schedule::{self, Failures};
use crate::token::slot::Token;

/// The cache with this credential's key in it.
#[derive(Debug)]
pub(super) struct CacheHandle {
    cache: Cache,
    id: CredentialId,
}

impl CacheHandle {
    pub(super) fn new(cache: Cache, credential: &Credential) -> Self {
        Self {
            cache,
            id: CredentialId::of(credential),
        }
    }
}

impl<I: Issuer> Keeper<I> {
    /// Waits until no sibling (another process with the same cache) is logging in. Returns `None`
    /// without a cache.
    pub(super) async fn login_lock(&self) -> Option<LoginLock> {
        let handle = self.cache.as_ref()?;
        Some(handle.cache.login_lock(handle.id).await)
    }

    /// Publishes the cached token in place of a login that began at `began`, if it serves the same
    /// purpose.
    pub(super) async fn adopt_token(
        &mut self,
        reason: LoginReason,
        began: SystemTime,
    ) -> Option<LoginSchedule> {
        let handle = self.cache.as_ref()?;
        let mut cached = handle.cache.load(handle.id, self.clock.now()).await?;
        let secret = cached.secret.take();
        let is_later = cached.obtained_at >= began;
        let mut new = self.cached_token(cached, reason == LoginReason::Rejected)?;
        // An older one may have been revoked as well.
        new.suspect = reason == LoginReason::Rejected && !is_later;
        let is_proven = self.is_proven(secret).await;
        let serves = match reason {
            LoginReason::Scheduled | LoginReason::Rejected => true,
            LoginReason::Requested => is_later,
            LoginReason::NewSecret => is_proven || self.is_disproven().await,
        };
        if !serves {
            return None;
        }
        info!(
            customer = self.credential.customer(),
            generation = new.token.generation(),
            usable_for_s = new.usable.left(self.clock).as_secs(),
            next_refresh_in_s = new.due.left(self.clock).as_secs(),
            "token loaded from the cache file"
        );
        Some(self.publish(new))
    }

    /// Returns a cached token if it is newer than the current one and, unless `even_overdue`, not
    /// due for refresh itself.
    pub(super) fn cached_token(&self, cached: CachedToken, even_overdue: bool) -> Option<NewToken> {
        let CachedToken {
            token: text,
            obtained_at,
            expires_at,
            secret: _,
        } = cached;
        if self
            .slot
            .status()
            .obtained_at
            .is_some_and(|current| obtained_at <= current)
        {
            return None;
        }
        let lifetime = expires_at.duration_since(obtained_at).ok()?;
        let usable = Moment::at(
            obtained_at + schedule::usable_lifetime(lifetime),
            self.clock,
        );
        let refresh = schedule::refresh_after(lifetime, self.settings.refresh_at, fastrand::f64());
        let due = Moment::at(obtained_at + refresh, self.clock);
        let has_usable = self.slot.usable(Moment::now(self.clock)).is_some() && !even_overdue;
        let overdue = due.left(self.clock).is_zero();
        if usable.left(self.clock).is_zero() || (overdue && has_usable) {
            return None;
        }
        let token = Token::new(self.slot.generation() + 1, &text, usable).ok()?;
        Some(NewToken {
            token,
            text,
            obtained_at,
            due,
            usable,
            expires_at,
            secret: None,
            suspect: false,
            other_secret: false,
        })
    }

    /// Returns `true` if `secret`, with which a sibling logged in, is a configured one, which is then
    /// remembered as accepted.
    pub(super) async fn is_proven(&mut self, secret: Option<Fingerprint>) -> bool {
        let Some(secret) = secret else {
            return false;
        };
        let snapshot = self.read_secrets().await;
        let customer = self.credential.customer();
        self.secrets
            .accepted_elsewhere(&secret, &snapshot, customer)
    }

    /// Returns `true` if Citrix has rejected the configured secrets from a sibling.
    async fn is_disproven(&mut self) -> bool {
        let snapshot = self.read_secrets().await;
        let Some(handle) = &self.cache else {
            return false;
        };
        let (now, secrets) = (self.clock.now(), SecretSelector::configured(&snapshot));
        if secrets.is_empty() {
            return false;
        }
        let rejection = handle.cache.rejection(handle.id, secrets, now).await;
        let rejection = rejection.filter(|it| it.outcome.rejects_secret() && it.until > now);
        if let Some(rejection) = &rejection {
            self.secrets
                .rejected_elsewhere(&snapshot, rejection.rejections);
        }
        rejection.is_some()
    }

    /// Postpones a login that Citrix rejected from a sibling with the same file.
    pub(super) async fn adopt_rejection(
        &mut self,
        reason: LoginReason,
        snapshot: &SecretSnapshot,
    ) -> Option<LoginSchedule> {
        let handle = self.cache.as_ref()?;
        let secrets = self.secrets.fingerprints(snapshot);
        if secrets.is_empty() {
            return None;
        }
        let now = self.clock.now();
        let rejection = handle.cache.rejection(handle.id, secrets, now).await?;
        self.postpone(rejection, reason, snapshot)
    }

    /// Postpones a login because of a rejection. Attempts and their backoff are those of all
    /// siblings together.
    pub(super) fn postpone(
        &mut self,
        rejection: CachedRejection,
        reason: LoginReason,
        snapshot: &SecretSnapshot,
    ) -> Option<LoginSchedule> {
        let is_limited = rejection.outcome == Outcome::RateLimited;
        if is_limited && reason == LoginReason::NewSecret {
            return None;
        }
        let is_served =
            self.slot.usable(Moment::now(self.clock)).is_some() && !self.slot.is_rejected();
        let due_if_forced = Moment::at(rejection.short_until, self.clock);
        let due = if is_served {
            Moment::at(rejection.until, self.clock)
        } else {
            due_if_forced
        };
        let is_over = due.left(self.clock).is_zero();
        if is_over && self.failures.consecutive >= rejection.failures.consecutive {
            return None;
        }
        self.failures = rejection.failures;
        if !is_limited {
            self.secrets
                .rejected_elsewhere(snapshot, rejection.rejections);
        }
        if is_over {
            return None;
        }
        let schedule = LoginSchedule { due, due_if_forced };
        self.log_postponed(&rejection, due.left(self.clock), is_served);
        self.report_failure(rejection.outcome, rejection.transaction_id, &schedule);
        Some(schedule)
    }

    /// Stores a rejection by Citrix for siblings. Other failures are those of this machine, and a
    /// sibling may succeed.
    pub(super) async fn store_rejection(
        &self,
        error: &LoginError,
        secrets: Vec<Fingerprint>,
        failures: Failures,
        schedule: &LoginSchedule,
    ) {
        let is_shared = error.outcome.rejects_secret() || error.outcome == Outcome::RateLimited;
        let Some(handle) = self.cache.as_ref().filter(|_| is_shared) else {
            return;
        };
        let rejection = CachedRejection {
            secrets,
            outcome: error.outcome,
            failures,
            rejections: self.secrets.rejections().max(1),
            transaction_id: error.transaction_id.clone(),
            until: schedule.due.wall,
            short_until: schedule.due_if_forced.wall,
        };
        let now = self.clock.now();
        handle
            .cache
            .store_rejection(handle.id, rejection, now)
            .await;
    }

    /// Stores that Citrix rejected the configured secrets, in place of which the last accepted one
    /// logged in. A sibling without a token tries them nevertheless.
    pub(super) async fn store_replaced(
        &self,
        error: &LoginError,
        configured: Vec<Fingerprint>,
        schedule: &LoginSchedule,
    ) {
        let schedule = LoginSchedule {
            due: schedule.due,
            due_if_forced: Moment::now(self.clock),
        };
        let failures = Failures::default().with(error.outcome);
        self.store_rejection(error, configured, failures, &schedule)
            .await;
    }

    /// Stores a token for a restart and for siblings.
    pub(super) async fn store_cached(&self, token: CachedToken) {
        if let Some(handle) = &self.cache {
            handle.cache.store(handle.id, token, self.clock.now()).await;
        }
    }
}
