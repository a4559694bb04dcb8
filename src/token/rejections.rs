//! Where Citrix refused which token: an authorisation problem dressed as 401 must not cost a login each time.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limit::scope::Scope;

/// How long a place asks for no login after it refused a fresh token (design 4.4).
const SUPPRESSION: Duration = Duration::from_secs(60);
/// Places that are remembered. When there are more the oldest is forgotten: it may then ask once more, and
/// `token.min_forced_interval` holds all the same.
const MAX_PLACES: usize = 1024;

/// What is remembered of 401 answers, for all workers. Nobody comes here but with one.
#[derive(Default)]
pub struct Rejections {
    state: RandomState,
    places: Mutex<HashMap<Scope, Rejected>>,
}

/// Whether a 401 may lead to a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshDecision {
    /// It may.
    Allowed,
    /// Not from this one on.
    NewlySuppressed,
    /// Not for a while.
    Suppressed,
}

#[derive(Clone, Copy)]
struct Rejected {
    /// The token that was refused when a new one was asked for, or the one after it where that may be as dead.
    generation: u64,
    /// A newer one was refused as well.
    suppressed: bool,
    since: Instant,
}

impl Rejections {
    /// The place that a request to `path` of the upstream belongs to.
    pub fn scope(&self, customer: &[u8], route: &str, path: &str) -> Scope {
        Scope::new(&self.state, customer, route, path)
    }

    /// Whether a token that was refused here may be the reason for a login. It is not when a token that is newer
    /// than one this place asked for was refused too: then the token is not what is wrong. Those up to `last_suspect` show
    /// nothing of the kind.
    pub fn may_refresh(
        &self,
        scope: Scope,
        generation: u64,
        last_suspect: u64,
        now: Instant,
    ) -> RefreshDecision {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let known = places
            .get(&scope)
            .filter(|known| now.duration_since(known.since) < SUPPRESSION);
        let suppressed = match known {
            Some(known) if known.suppressed => return RefreshDecision::Suppressed,
            // Others met the same 401 before.
            Some(known) if generation <= known.generation => return RefreshDecision::Allowed,
            Some(_) => true,
            None => false,
        };
        if places.len() >= MAX_PLACES
            && let Some(oldest) = places
                .iter()
                .min_by_key(|(_, rejected)| rejected.since)
                .map(|(at, _)| *at)
        {
            places.remove(&oldest);
        }
        places.insert(
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

    /// A replay was accepted here: the token was what was wrong.
    pub fn accepted(&self, scope: Scope) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places
            .get(&scope)
            .is_some_and(|rejected| !rejected.suppressed)
        {
            places.remove(&scope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RefreshDecision::{Allowed, NewlySuppressed, Suppressed};
    use super::*;

    const HERE: Scope = Scope(1);

    async fn later(seconds: u64) -> Instant {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_refuses_a_fresh_token_asks_for_none_for_a_minute() {
        let rejections = Rejections::default();
        assert_eq!(rejections.may_refresh(HERE, 1, 1, later(0).await), Allowed);
        assert_eq!(
            rejections.may_refresh(HERE, 1, 1, later(1).await),
            Allowed,
            "others meet the same 401"
        );
        assert_eq!(
            rejections.may_refresh(HERE, 2, 2, later(1).await),
            NewlySuppressed,
            "the fresh one was refused too"
        );
        assert_eq!(
            rejections.may_refresh(HERE, 1, 1, later(1).await),
            Suppressed
        );
        rejections.accepted(HERE);
        assert_eq!(
            rejections.may_refresh(HERE, 3, 3, later(58).await),
            Suppressed,
            "whatever else succeeds"
        );
        assert_eq!(rejections.may_refresh(HERE, 3, 3, later(1).await), Allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replay_that_is_accepted_makes_the_next_refusal_a_first_one() {
        let rejections = Rejections::default();
        assert_eq!(rejections.may_refresh(HERE, 1, 1, later(0).await), Allowed);
        rejections.accepted(HERE);
        assert_eq!(rejections.may_refresh(HERE, 2, 2, later(5).await), Allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_a_login_that_was_under_way_proves_nothing() {
        let rejections = Rejections::default();
        assert_eq!(rejections.may_refresh(HERE, 1, 2, later(0).await), Allowed);
        assert_eq!(rejections.may_refresh(HERE, 2, 2, later(1).await), Allowed);
        assert_eq!(
            rejections.may_refresh(HERE, 3, 3, later(1).await),
            NewlySuppressed
        );
    }

    #[tokio::test(start_paused = true)]
    async fn places_do_not_know_of_each_other_and_are_bounded() {
        let rejections = Rejections::default();
        assert_eq!(rejections.may_refresh(HERE, 1, 1, later(0).await), Allowed);
        assert_eq!(
            rejections.may_refresh(HERE, 2, 2, later(1).await),
            NewlySuppressed
        );
        for number in 2..=MAX_PLACES as u64 + 1 {
            assert_eq!(
                rejections.may_refresh(Scope(number), 2, 2, later(1).await),
                Allowed
            );
        }
        assert_eq!(rejections.places.lock().unwrap().len(), MAX_PLACES);
        assert_eq!(
            rejections.may_refresh(HERE, 2, 2, later(0).await),
            Allowed,
            "the oldest was forgotten"
        );
    }
}
