//! Routes and paths at which Citrix rejects a caller's requests with 401 although the token is
//! fresh. Such an authorization problem must not cause a login per request, and that of one caller
//! must not keep the others from a new token.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::slot::{ForcedRefresh, TokenSlot};
use crate::limit::owner::OwnerKey;
use crate::limit::scope::Scope;

/// Time for which a caller's scope triggers no login after it rejected a fresh token (interface §4.4).
const SUPPRESSION: Duration = Duration::from_secs(60);
/// Maximum number of remembered scopes of all callers. The oldest is evicted, those that are not
/// suppressed first, and may trigger another login, within `token.min_forced_interval`.
const MAX_SCOPES: usize = 1024;

/// Recent 401 responses per caller and scope, shared by all workers. Only a request that received a 401 locks
/// it.
#[derive(Default)]
pub struct Rejections {
    state: RandomState,
    scopes: Mutex<HashMap<Scope, Rejected>>,
}

/// The reaction to a 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The keeper's, to which the 401 was reported.
    Reported(ForcedRefresh),
    /// As [`RefreshDecision`].
    NewlySuppressed,
    Suppressed,
}

/// Decision on whether a 401 may trigger a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RefreshDecision {
    /// The 401 may trigger a login.
    Allowed,
    /// The scope rejected a fresh token; suppression starts with this 401.
    NewlySuppressed,
    Suppressed,
}

#[derive(Clone, Copy)]
struct Rejected {
    /// The newest token that was rejected or may have been revoked when the scope triggered a
    /// login.
    generation: u64,
    /// A newer token was rejected as well.
    suppressed: bool,
    since: Instant,
}

impl Rejections {
    /// Returns the scope of a request to an upstream `path`.
    pub fn scope(&self, customer: &[u8], route: &str, path: &str) -> Scope {
        Scope::new(&self.state, customer, route, path)
    }

    /// Returns the part of `scope` that belongs to one caller.
    pub fn scope_of_caller(&self, scope: Scope, caller: OwnerKey) -> Scope {
        scope.of(&self.state, caller)
    }

    /// Reports that Citrix rejected token `generation` of `slot` in a caller's scope, unless that
    /// scope is suppressed.
    pub fn report(&self, slot: &TokenSlot, scope: Scope, generation: u64) -> Reaction {
        let first_suspect = slot.first_suspect(generation);
        let last_suspect = slot.last_suspect(generation);
        match self.may_refresh(scope, first_suspect, last_suspect, Instant::now()) {
            RefreshDecision::Allowed => Reaction::Reported(slot.report_rejected(generation)),
            RefreshDecision::NewlySuppressed => Reaction::NewlySuppressed,
            RefreshDecision::Suppressed => Reaction::Suppressed,
        }
    }

    /// Decides whether the rejection of token `generation` may trigger a login. It may not once a
    /// token newer than one that this scope triggered a login for is rejected, because then the
    /// token is not the problem. Generations up to `last_suspect` may have been revoked together
    /// and prove nothing.
    fn may_refresh(
        &self,
        scope: Scope,
        generation: u64,
        last_suspect: u64,
        now: Instant,
    ) -> RefreshDecision {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = scopes
            .get(&scope)
            .filter(|known| now.duration_since(known.since) < SUPPRESSION);
        let suppressed = match known {
            Some(known) if known.suppressed => return RefreshDecision::Suppressed,
            // A concurrent request received the same 401.
            Some(known) if generation <= known.generation => return RefreshDecision::Allowed,
            Some(_) => true,
            None => false,
        };
        if scopes.len() >= MAX_SCOPES
            && let Some(oldest) = scopes
                .iter()
                .min_by_key(|(_, rejected)| (rejected.suppressed, rejected.since))
                .map(|(scope, _)| *scope)
        {
            scopes.remove(&oldest);
        }
        scopes.insert(
            scope,
            Rejected {
                generation: last_suspect,
                suppressed,
                since: now,
            },
        );
        if suppressed {
            RefreshDecision::NewlySuppressed
        } else {
            RefreshDecision::Allowed
        }
    }

    /// Returns the number of remembered scopes.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.scopes.lock().unwrap().len()
    }

    /// Forgets the scope after a successful replay, which proves that the token was the problem.
    pub fn accepted(&self, scope: Scope) {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if scopes
            .get(&scope)
            .is_some_and(|rejected| !rejected.suppressed)
        {
            scopes.remove(&scope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RefreshDecision::{Allowed, NewlySuppressed, Suppressed};
    use super::*;

    const SCOPE: Scope = Scope(1);

    #[test]
    fn callers_have_scopes_of_their_own() {
        let rejections = Rejections::default();
        let scope = |customer: &str, caller, path| {
            let shared = rejections.scope(customer.as_bytes(), "/", path);
            rejections.scope_of_caller(shared, caller)
        };
        let callers = [
            OwnerKey::Caller(0),
            OwnerKey::Caller(1),
            OwnerKey::at(None),
            OwnerKey::at("192.0.2.1".parse().ok()),
            OwnerKey::at("192.0.2.2".parse().ok()),
        ];
        let mut seen = std::collections::HashSet::new();
        for caller in callers {
            assert!(seen.insert(scope("acme", caller, "/x/1")), "{caller:?}");
            assert!(!seen.insert(scope("acme", caller, "/x/2")), "{caller:?}");
        }
        assert!(seen.insert(scope("contoso", callers[0], "/x/1")));
    }

    async fn later(seconds: u64) -> Instant {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn scope_that_rejects_a_fresh_token_is_suppressed_for_a_minute() {
        let rejections = Rejections::default();
        assert_eq!(rejections.may_refresh(SCOPE, 1, 1, later(0).await), Allowed);
        assert_eq!(
            rejections.may_refresh(SCOPE, 1, 1, later(1).await),
            Allowed,
            "a concurrent request received the same 401"
        );
        assert_eq!(
            rejections.may_refresh(SCOPE, 2, 2, later(1).await),
            NewlySuppressed,
            "the fresh token was rejected as well"
        );
        assert_eq!(
            rejections.may_refresh(SCOPE, 1, 1, later(1).await),
            Suppressed
        );
        rejections.accepted(SCOPE);
        assert_eq!(
            rejections.may_refresh(SCOPE, 3, 3, later(58).await),
            Suppressed,
            "a success elsewhere does not end it"
        );
        assert_eq!(rejections.may_refresh(SCOPE, 3, 3, later(1).await), Allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn accepted_replay_resets_the_scope() {
        let rejections = Rejections::default();
        assert_eq!(rejections.may_refresh(SCOPE, 1, 1, later(0).await), Allowed);
        rejections.accepted(SCOPE);
        assert_eq!(rejections.may_refresh(SCOPE, 2, 2, later(5).await), Allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn token_of_a_login_in_progress_proves_nothing() {
        let rejections = Rejections::default();
        assert_eq!(rejections.may_refresh(SCOPE, 1, 2, later(0).await), Allowed);
        assert_eq!(rejections.may_refresh(SCOPE, 2, 2, later(1).await), Allowed);
        assert_eq!(
            rejections.may_refresh(SCOPE, 3, 3, later(1).await),
            NewlySuppressed
        );
    }

    #[tokio::test(start_paused = true)]
    async fn scopes_are_independent_and_bounded() {
        let rejections = Rejections::default();
        assert_eq!(rejections.may_refresh(SCOPE, 1, 1, later(0).await), Allowed);
        assert_eq!(
            rejections.may_refresh(SCOPE, 2, 2, later(1).await),
            NewlySuppressed
        );
        for number in 2..=MAX_SCOPES as u64 + 10 {
            assert_eq!(
                rejections.may_refresh(Scope(number.into()), 2, 2, Instant::now()),
                Allowed
            );
        }
        assert_eq!(rejections.len(), MAX_SCOPES);
        assert_eq!(
            rejections.may_refresh(SCOPE, 2, 2, later(0).await),
            Suppressed,
            "those that are not suppressed were evicted"
        );
    }
}
