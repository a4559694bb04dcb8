//! The tokens, and what became of the last logins.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::admin::readiness::whole_seconds;
use crate::admin::times::{Times, rfc3339};
use crate::state::published::Published;
use crate::token::status::{FailedLogin, TokenState, TokenStatus, WhichSecret};

/// One customer's token.
#[derive(Default, Serialize)]
pub(super) struct Token {
    pub(super) customer: String,
    /// `fresh`, `stale` or `unusable`, as in `/readyz`.
    pub(super) state: &'static str,
    /// The newest token's number, counted from 1; 0 before the first.
    pub(super) generation: u64,
    pub(super) obtained_at: Option<String>,
    /// Until when it is sent.
    pub(super) usable_until: Option<String>,
    /// When it dies at Citrix.
    pub(super) expires_at: Option<String>,
    /// How long it can still be sent.
    pub(super) runway_s: u64,
    /// How long it could be sent when it was new.
    pub(super) usable_life_s: u64,
    pub(super) next_login_at: Option<String>,
    pub(super) next_login_in_s: u64,
    pub(super) login_in_progress: bool,
    pub(super) consecutive_failures: u32,
    pub(super) last_failure: Option<Failure>,
    /// The secret that the token was obtained with: `first`, `next`, `remembered` (the one that worked last; what is
    /// configured does not); none for a token of the cache.
    pub(super) secret: Option<&'static str>,
    /// A restart would have no secret that works.
    pub(super) on_old_secret: bool,
    /// Our clock less Citrix's.
    pub(super) clock_skew_s: Option<f64>,
}

/// The last login that failed, also after others worked.
#[derive(Serialize)]
pub(super) struct Failure {
    at: String,
    outcome: &'static str,
    pub(super) advice: &'static str,
    transaction_id: Option<String>,
    /// Whether none has worked since.
    pub(super) lasts: bool,
}

impl Token {
    /// One of which nothing else is known.
    #[cfg(test)]
    pub(super) fn named(customer: &str) -> Self {
        Self {
            customer: customer.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        self.state != name(TokenState::Unusable)
    }

    pub(super) fn is_stale(&self) -> bool {
        self.state == name(TokenState::Stale)
    }
}

/// In the order of the configuration.
pub(super) fn list(published: &Published, times: &Times) -> Vec<Token> {
    let customers = published.customers.iter();
    customers
        .map(|customer| {
            token(
                customer.credential.customer(),
                &customer.token.status(),
                times,
            )
        })
        .collect()
}

const fn name(state: TokenState) -> &'static str {
    match state {
        TokenState::Fresh => "fresh",
        TokenState::Stale => "stale",
        TokenState::Unusable => "unusable",
    }
}

fn token(customer: &str, status: &TokenStatus, times: &Times) -> Token {
    let left = |until: Option<SystemTime>, from: Option<SystemTime>| {
        until
            .zip(from)
            .and_then(|(until, from)| until.duration_since(from).ok())
            .unwrap_or_default()
            .as_secs()
    };
    let wait = status.next_login_in();
    Token {
        customer: customer.to_owned(),
        state: name(status.state(times.wall)),
        generation: status.generation,
        obtained_at: status.obtained_at.map(rfc3339),
        usable_until: status.usable_until.map(rfc3339),
        expires_at: status.expires_at.map(rfc3339),
        runway_s: left(status.usable_until, Some(times.wall)),
        usable_life_s: left(status.usable_until, status.obtained_at),
        next_login_at: next_login_at(status, times, wait),
        next_login_in_s: whole_seconds(wait),
        login_in_progress: status.in_progress,
        consecutive_failures: status.consecutive_failures,
        last_failure: status
            .last_failure
            .as_ref()
            .map(|failed| Failure::of(failed, status)),
        secret: status.secret.map(WhichSecret::name),
        on_old_secret: status.on_old_secret,
        clock_skew_s: status
            .skew
            .map(|skew| (skew.seconds() * 10.0).round() / 10.0),
    }
}

fn next_login_at(status: &TokenStatus, times: &Times, wait: Duration) -> Option<String> {
    (!status.in_progress && status.next_attempt.is_some()).then(|| rfc3339(times.wall + wait))
}

impl Failure {
    fn of(failed: &FailedLogin, status: &TokenStatus) -> Self {
        let id = failed.transaction_id.as_ref();
        Self {
            at: rfc3339(failed.at),
            outcome: failed.outcome.label(),
            advice: failed.outcome.advice(),
            transaction_id: id.and_then(|id| id.to_str().ok()).map(str::to_owned),
            lasts: status.current_failure().is_some(),
        }
    }
}
