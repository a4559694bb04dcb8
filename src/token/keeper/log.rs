//! What the log tells of logins.

use std::time::Duration;

use http::HeaderValue;
use tracing::{error, info, warn};

use super::{Keeper, LoginLog, LoginReason, NewToken};
use crate::token::issuer::{Issuer, LoginError};

impl<I: Issuer> Keeper<I> {
    /// One log line for a login that worked.
    pub(super) fn log_success(&self, obtained: &NewToken, told: &LoginLog, cause: LoginReason) {
        let life = obtained
            .expires_at
            .duration_since(obtained.obtained_at)
            .unwrap_or_default();
        info!(
            customer = self.credential.customer(),
            generation = obtained.token.generation(),
            lifetime_s = life.as_secs(),
            next_refresh_in_s = tenths(obtained.due.left(self.clock).as_secs_f64()),
            transaction_id = text(told.transaction_id.as_ref()),
            clock_skew_s = told.skew.map(|skew| tenths(skew.seconds())),
            after_a_401 = cause == LoginReason::Refused,
            asked_for = cause == LoginReason::Asked,
            after_failures = self.failures.consecutive,
            "obtained a token"
        );
    }

    /// One log line: an error when requests fail for it, else a warning.
    pub(super) fn log_failure(&self, failure: &LoginError, pause: Duration, has_token: bool) {
        let customer = self.credential.customer();
        let outcome = failure.outcome.label();
        let advice = failure.outcome.advice();
        let next_attempt_in_s = tenths(pause.as_secs_f64());
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
                "the login failed; the present token is still good"
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
                "the login failed, and there is no usable token"
            );
        }
    }
}

/// Citrix's transaction id as it is logged; the issuer made sure that it is short visible ASCII.
fn text(transaction_id: Option<&HeaderValue>) -> Option<&str> {
    transaction_id?.to_str().ok()
}

/// What is worth reading of a number of seconds.
fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}
