//! The fate of tokens: logins, revocations, and the requests that were rejected for their token.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::Scope;

/// The gateway's `token.min_forced_interval`.
pub(crate) const MIN_FORCED_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait of the gateway after a failed login whose token is rejected.
pub(crate) const MAX_BACKOFF: Duration = Duration::from_secs(15);
/// Time for which a rejected fresh token prevents forced logins.
const SUPPRESSION: Duration = Duration::from_secs(60);
/// Time that may pass between an event here and its effect in the gateway.
pub(crate) const DELAY: Duration = Duration::from_secs(1);
/// Longer than anything matters: a suppression that follows another token's rejection, the longest
/// request, and the time until its verdict.
const MAX_AGE: Duration = Duration::from_secs(240);
/// Logins and revocations kept.
const MAX_EVENTS: usize = 1000;
/// Logins and revocations that a violation shows.
const MAX_SHOWN: usize = 20;

/// Everything about tokens that explains a 401.
#[derive(Default)]
pub(crate) struct TokenHistory(Mutex<State>);

#[derive(Default)]
struct State {
    logins: VecDeque<Login>,
    /// The newest token of each revocation, and its time.
    revocations: VecDeque<(u64, Instant)>,
    scopes: HashMap<Scope, VecDeque<Run>>,
}

#[derive(Debug)]
struct Login {
    begin: Instant,
    end: Instant,
    /// The number of the token; `None` if the login failed.
    granted: Option<u64>,
}

/// Rejections of one token, or accepted replays, without another event of their scope between them.
#[derive(Debug)]
struct Run {
    /// `None` for accepted replays.
    rejected: Option<u64>,
    first: Instant,
    last: Instant,
}

/// A 401 that the gateway passed to the caller.
pub(crate) struct Unauthorized {
    pub(crate) scope: Scope,
    pub(crate) token: u64,
    /// The arrival at the upstream, and the end for the caller.
    pub(crate) arrived: Instant,
    pub(crate) ended: Instant,
    pub(crate) is_replayable: bool,
}

impl TokenHistory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a login, which ends now, with the number of the token that it was granted.
    pub(crate) fn login(&self, begin: Instant, granted: Option<u64>) {
        let end = Instant::now();
        let login = Login {
            begin,
            end,
            granted,
        };
        push(&mut self.state().logins, login);
    }

    /// Notes that all tokens up to this one are invalid from now on.
    pub(crate) fn revoke(&self, newest: u64) {
        push(&mut self.state().revocations, (newest, Instant::now()));
    }

    /// Notes that the upstream rejects a token.
    pub(crate) fn reject(&self, scope: Scope, token: u64) {
        self.note(scope, Some(token));
    }

    /// Notes that the upstream has accepted a replay.
    pub(crate) fn accept(&self, scope: Scope) {
        self.note(scope, None);
    }

    fn note(&self, scope: Scope, rejected: Option<u64>) {
        let now = Instant::now();
        let mut state = self.state();
        let runs = state.scopes.entry(scope).or_default();
        while runs.front().is_some_and(|run| now > run.last + MAX_AGE) {
            runs.pop_front();
        }
        match runs.back_mut() {
            Some(run) if run.rejected == rejected => run.last = now,
            _ => runs.push_back(Run {
                rejected,
                first: now,
                last: now,
            }),
        }
    }

    /// Returns what is known of a scope, and the newest logins and revocations, for a violation.
    pub(crate) fn describe(&self, scope: Scope) -> String {
        let state = self.state();
        let runs = state.scopes.get(&scope);
        let logins: Vec<_> = state.logins.iter().rev().take(MAX_SHOWN).collect();
        let revocations: Vec<_> = state.revocations.iter().rev().take(MAX_SHOWN).collect();
        format!("{runs:?} {logins:?} {revocations:?}")
    }

    /// Returns the rule by which the gateway passed a 401.
    ///
    /// # Errors
    /// If there is none: what it should have done.
    pub(crate) fn explain(&self, passed: &Unauthorized) -> Result<&'static str, &'static str> {
        let state = self.state();
        let Unauthorized { token, ended, .. } = *passed;
        let mut revocations = state.revocations.iter();
        if !revocations.any(|&(newest, at)| token <= newest && at <= ended) {
            return Err("401 for a token that is valid");
        }
        let replaced = state.replaced(token).map(|at| at + DELAY);
        if replaced.is_some_and(|at| at < passed.arrived) {
            return Err("401 for a token that had been replaced");
        }
        if !passed.is_replayable {
            return Ok("401: token revoked, the body exceeds the replay buffer");
        }
        if replaced.is_some_and(|at| at < ended) {
            return Err("401 without a replay with the next token");
        }
        let mut logins = state.logins.iter();
        let granted = logins.find(|login| login.granted == Some(token));
        let granted = granted.map(|login| login.end);
        if granted.is_some_and(|at| ended <= at + MIN_FORCED_INTERVAL + DELAY) {
            return Ok("401: token revoked within min_forced_interval");
        }
        let is_failed = |login: &Login| {
            login.granted.is_none()
                && granted.is_none_or(|at| login.end >= at)
                && login.begin <= ended
                && ended <= login.end + MAX_BACKOFF + DELAY
        };
        if state.logins.iter().any(is_failed) {
            return Ok("401: token revoked, the login failed");
        }
        if state.is_suppressed(passed) {
            return Ok("401: token revoked, forced logins suppressed for a minute");
        }
        Err("401 without a login")
    }
}

impl State {
    /// Returns the time at which a newer token was granted.
    fn replaced(&self, token: u64) -> Option<Instant> {
        let mut logins = self.logins.iter();
        let newer = logins.find(|login| login.granted.is_some_and(|granted| granted > token));
        newer.map(|login| login.end)
    }

    /// Returns whether the scope had rejected a token, while it was the newest, and less than a
    /// minute later a newer one, without an accepted replay between them: the second rejection
    /// suppresses forced logins for a minute.
    fn is_suppressed(&self, passed: &Unauthorized) -> bool {
        let Some(runs) = self.scopes.get(&passed.scope) else {
            return false;
        };
        let rejections = || runs.iter().filter_map(|run| Some((run.rejected?, run)));
        rejections().any(|(token, before)| {
            let last = match self.replaced(token) {
                Some(replaced) => before.last.min(replaced + DELAY),
                None => before.last,
            };
            let mut accepted = runs.iter().filter(|run| run.rejected.is_none());
            let accepted = accepted.find(|run| run.last >= last);
            let mut until = passed.ended.min(last + SUPPRESSION + DELAY);
            if let Some(run) = accepted {
                until = until.min(run.first.max(last) + DELAY);
            }
            before.first <= last
                && rejections().any(|(newer, run)| {
                    let overlaps = run.first <= until.min(run.last);
                    let is_recent = passed.arrived <= until.min(run.last) + SUPPRESSION + DELAY;
                    newer > token && overlaps && is_recent
                })
        })
    }
}

fn push<T>(events: &mut VecDeque<T>, event: T) {
    events.push_back(event);
    if events.len() > MAX_EVENTS {
        events.pop_front();
    }
}
