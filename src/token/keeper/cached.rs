//! The keeper and the token cache: what it takes from there, and what it leaves for others.

use tracing::info;

use super::deadline::Deadline;
use super::{Keeper, LoginReason, LoginSchedule, NewToken};
use crate::config::Credential;
use crate::token::cache::{Cache, CachedToken, CredentialId, LoginLock};
use crate::token::issuer::Issuer;
use crate::token::schedule;
use crate::token::slot::Token;

/// The cache, and what is this credential's in it.
#[derive(Debug)]
pub(super) struct CacheHandle {
    cache: Cache,
    identity: CredentialId,
}

impl CacheHandle {
    pub(super) fn new(cache: Cache, credential: &Credential) -> Self {
        Self {
            cache,
            identity: CredentialId::of(credential),
        }
    }
}

impl<I: Issuer> Keeper<I> {
    /// Waits until no sibling is logging in. `None` without a cache, and for a login that a sibling's cannot stand
    /// in for.
    pub(super) async fn turn(&self, cause: LoginReason) -> Option<LoginLock> {
        let memory = self
            .memory
            .as_ref()
            .filter(|_| cause == LoginReason::Planned)?;
        Some(memory.cache.turn(memory.identity).await)
    }

    /// Publishes the token of the cache, if it is newer than the present one and good for more than that.
    pub(super) async fn recall(&mut self) -> Option<LoginSchedule> {
        let memory = self.memory.as_ref()?;
        let now = self.clock.now();
        let CachedToken {
            token: text,
            obtained_at,
            expires_at,
        } = memory.cache.look(memory.identity, now).await?;
        if self
            .slot
            .status()
            .obtained_at
            .is_some_and(|ours| obtained_at <= ours)
        {
            return None;
        }
        let life = expires_at.duration_since(obtained_at).ok()?;
        let usable = Deadline::at(obtained_at + schedule::usable_lifetime(life), self.clock);
        let refresh = schedule::refresh_after(life, self.settings.refresh_at, fastrand::f64());
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
            "took the token of the cache file"
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

    /// Leaves a token for a later start and for siblings.
    pub(super) async fn remember(&self, cached: CachedToken) {
        if let Some(memory) = &self.memory {
            memory
                .cache
                .store(memory.identity, cached, self.clock.now())
                .await;
        }
    }
}
