//! The keeper's use of the token cache.

use tracing::info;

use super::deadline::Deadline;
use super::{Keeper, LoginReason, LoginSchedule, NewToken};
use crate::config::Credential;
use crate::token::cache::{Cache, CachedToken, CredentialId, LoginLock};
use crate::token::issuer::Issuer;
use crate::token::schedule;
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
    /// Waits until no sibling is logging in. Returns `None` without a cache, and for a login that a
    /// sibling's token cannot replace.
    pub(super) async fn login_lock(&self, reason: LoginReason) -> Option<LoginLock> {
        let handle = self
            .cache
            .as_ref()
            .filter(|_| reason == LoginReason::Scheduled)?;
        Some(handle.cache.login_lock(handle.id).await)
    }

    /// Publishes the cached token if it is newer than the current one and not due for refresh
    /// itself.
    pub(super) async fn publish_cached(&mut self) -> Option<LoginSchedule> {
        let handle = self.cache.as_ref()?;
        let now = self.clock.now();
        let CachedToken {
            token: text,
            obtained_at,
            expires_at,
        } = handle.cache.load(handle.id, now).await?;
        if self
            .slot
            .status()
            .obtained_at
            .is_some_and(|current| obtained_at <= current)
        {
            return None;
        }
        let lifetime = expires_at.duration_since(obtained_at).ok()?;
        let usable = Deadline::at(
            obtained_at + schedule::usable_lifetime(lifetime),
            self.clock,
        );
        let refresh = schedule::refresh_after(lifetime, self.settings.refresh_at, fastrand::f64());
        let due = Deadline::at(obtained_at + refresh, self.clock);
        let overdue = due.left(self.clock).is_zero();
        if usable.left(self.clock).is_zero() || (overdue && self.slot.usable(now).is_some()) {
            return None;
        }
        let token = Token::new(self.slot.generation() + 1, &text, usable.wall).ok()?;
        info!(
            customer = self.credential.customer(),
            generation = token.generation(),
            usable_for_s = usable.left(self.clock).as_secs(),
            next_refresh_in_s = due.left(self.clock).as_secs(),
            "token loaded from the cache file"
        );
        Some(self.publish(NewToken {
            token,
            text,
            obtained_at,
            due,
            usable,
            expires_at,
            secret: None,
        }))
    }

    /// Stores a token for a restart and for siblings.
    pub(super) async fn store_cached(&self, token: CachedToken) {
        if let Some(handle) = &self.cache {
            handle.cache.store(handle.id, token, self.clock.now()).await;
        }
    }
}
