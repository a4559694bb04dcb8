//! Log messages about logins.

use std::time::Duration;

use http::HeaderValue;
use tracing::{error, info, warn};

use super::{Keeper, LoginLog, LoginReason, NewToken};
use crate::token::cache::CachedRejection;
use crate::token::issuer::{Issuer, LoginError};

impl LoginLog {
    /// Returns Citrix's transaction id.
    pub(super) fn id(&self) -> Option<&str> {
        text(self.transaction_id.as_ref())
    }
}

impl<I: Issuer> Keeper<I> {
    pub(super) fn log_success(&self, new: &NewToken, log: &LoginLog, reason: LoginReason) {
        let lifetime = new
            .expires_at
            .duration_since(new.obtained_at)
            .unwrap_or_default();
        info!(
            customer = self.credential.customer(),
            generation = new.token.generation(),
            lifetime_s = lifetime.as_secs(),
            next_refresh_in_s = tenths(new.due.left(self.clock).as_secs_f64()),
            transaction_id = log.id(),
            clock_skew_s = log.skew.map(|skew| tenths(skew.seconds())),
            after_a_401 = reason == LoginReason::Rejected,
            asked_for = reason == LoginReason::Requested,
            after_failures = self.failures.consecutive,
            "token obtained"
        );
    }

    /// Logs an error if requests now fail, else a warning.
    pub(super) fn log_failure(&self, failure: &LoginError, backoff: Duration, has_token: bool) {
        let customer = self.credential.customer();
        let outcome = failure.outcome.label();
        let advice = failure.outcome.advice();
        let next_attempt_in_s = tenths(backoff.as_secs_f64());
        let transaction_id = text(failure.transaction_id.as_ref());
        let cause = failure.cause.as_deref();
        let consecutive_failures = self.failures.consecutive;
        if has_token {
            warn!(
                customer,
                outcome,
                advice,
                cause,
                next_attempt_in_s,
                consecutive_failures,
                transaction_id,
                "login failed; current token still valid"
            );
        } else {
            error!(
                customer,
                outcome,
                advice,
                cause,
                next_attempt_in_s,
                consecutive_failures,
                transaction_id,
                "login failed; no usable token"
            );
        }
    }
}

impl<I: Issuer> Keeper<I> {
    /// Logs an error if requests now fail, else a warning.
    pub(super) fn log_postponed(
        &self,
        rejection: &CachedRejection,
        wait: Duration,
        has_token: bool,
    ) {
        let customer = self.credential.customer();
        let outcome = rejection.outcome.label();
        let advice = rejection.outcome.advice();
        let next_attempt_in_s = tenths(wait.as_secs_f64());
        let transaction_id = text(rejection.transaction_id.as_ref());
        let consecutive_failures = rejection.failures.consecutive;
        if has_token {
            warn!(
                customer,
                outcome,
                advice,
                next_attempt_in_s,
                consecutive_failures,
                transaction_id,
                "login of another replica rejected; login postponed, current token still valid"
            );
        } else {
            error!(
                customer,
                outcome,
                advice,
                next_attempt_in_s,
                consecutive_failures,
                transaction_id,
                "login of another replica rejected; login postponed, no usable token"
            );
        }
    }
}

/// Returns a transaction id as text; the issuer only keeps short visible ASCII.
fn text(transaction_id: Option<&HeaderValue>) -> Option<&str> {
    transaction_id?.to_str().ok()
}

/// Rounds to tenths of a second.
fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}
