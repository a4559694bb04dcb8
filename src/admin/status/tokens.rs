//! Tokens and the last logins.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::admin::readiness::whole_seconds;
use crate::admin::times::{Times, rfc3339};
use crate::state::published::Published;
use crate::token::acceptance::Rejection;
use crate::token::status::{FailedLogin, TokenState, TokenStatus, WhichSecret};

/// One customer's token, from its [`TokenStatus`].
#[derive(Default, Serialize)]
pub(super) struct TokenView {
    pub(super) customer: String,
    /// `fresh`, `stale` or `unusable`.
    pub(super) state: &'static str,
    pub(super) generation: u64,
    pub(super) obtained_at: Option<String>,
    pub(super) usable_until: Option<String>,
    pub(super) expires_at: Option<String>,
    /// Time to `usable_until`.
    pub(super) runway_s: u64,
    /// Time from `obtained_at` to `usable_until`.
    pub(super) usable_life_s: u64,
    pub(super) next_login_at: Option<String>,
    pub(super) next_login_in_s: u64,
    pub(super) login_in_progress: bool,
    pub(super) consecutive_failures: u32,
    pub(super) last_failure: Option<FailedLoginView>,
    /// Name of a [`WhichSecret`]; `None` for a token from the cache.
    pub(super) secret: Option<&'static str>,
    pub(super) on_old_secret: bool,
    pub(super) other_secret: bool,
    /// The customer that the token names, if it is another.
    pub(super) other_customer: Option<String>,
    /// Present while Citrix rejects the customer.
    pub(super) rejection: Option<RejectionView>,
    /// Cause of an unreadable secret.
    pub(super) secret_problem: Option<String>,
    pub(super) clock_skew_s: Option<f64>,
}

/// The requests that Citrix rejected since the last success.
#[derive(Serialize)]
pub(super) struct RejectionView {
    pub(super) since: String,
    last_at: String,
    pub(super) requests: u64,
    /// Status of the last, 401 or 403.
    pub(super) code: u16,
}

/// The last failed login, even if later ones succeeded.
#[derive(Serialize)]
pub(super) struct FailedLoginView {
    at: String,
    outcome: &'static str,
    pub(super) advice: &'static str,
    transaction_id: Option<String>,
    /// No login has succeeded since.
    pub(super) lasts: bool,
}

impl TokenView {
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

/// Returns the tokens in the order of the configuration.
pub(super) fn list(published: &Published, times: &Times) -> Vec<TokenView> {
    let customers = published.customers.iter();
    customers
        .map(|customer| TokenView {
            rejection: customer
                .token
                .rejection()
                .map(|rejection| RejectionView::new(&rejection)),
            ..token(
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

fn token(customer: &str, status: &TokenStatus, times: &Times) -> TokenView {
    let left = |until: Option<SystemTime>, from: Option<SystemTime>| {
        until
            .zip(from)
            .and_then(|(until, from)| until.duration_since(from).ok())
            .unwrap_or_default()
            .as_secs()
    };
    let wait = status.next_login_in();
    TokenView {
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
            .map(|failed| FailedLoginView::new(failed, status)),
        secret: status.secret.map(WhichSecret::name),
        on_old_secret: status.on_old_secret,
        other_secret: status.other_secret,
        other_customer: status.other_customer.as_deref().map(str::to_owned),
        rejection: None,
        secret_problem: status.secret_problem.clone(),
        clock_skew_s: status
            .skew
            .map(|skew| (skew.seconds() * 10.0).round() / 10.0),
    }
}

fn next_login_at(status: &TokenStatus, times: &Times, wait: Duration) -> Option<String> {
    (!status.in_progress && status.next_attempt.is_some()).then(|| rfc3339(times.wall + wait))
}

impl RejectionView {
    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            since: "1970-01-01T00:00:01Z".to_owned(),
            last_at: "1970-01-01T00:00:09Z".to_owned(),
            requests: 12,
            code: 403,
        }
    }

    fn new(rejection: &Rejection) -> Self {
        Self {
            since: rfc3339(rejection.since),
            last_at: rfc3339(rejection.last),
            requests: rejection.requests,
            code: rejection.code.as_u16(),
        }
    }
}

impl FailedLoginView {
    fn new(failed: &FailedLogin, status: &TokenStatus) -> Self {
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
