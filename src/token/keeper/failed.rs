//! Failed logins, and the time of the next one.

use std::time::Duration;

use http::HeaderValue;

use super::{Keeper, LoginSchedule};
use crate::system::moment::Moment;
use crate::token::events::EventKind;
use crate::token::issuer::{Issuer, LoginError};
use crate::token::outcome::Outcome;
use crate::token::response::MAX_LIFETIME;
use crate::token::status::FailedLogin;

impl<I: Issuer> Keeper<I> {
    /// Publishes a failed login of this keeper's. Returns the deadlines of the next one.
    pub(super) fn schedule_retry(&mut self, error: &LoginError) -> LoginSchedule {
        self.failures = self.failures.with(error.outcome);
        let now = Moment::now(self.clock);
        // A token that Citrix rejects does not justify the longer backoff.
        let usable_for = self.slot.usable_for(self.clock);
        let usable_for = usable_for.filter(|_| !self.slot.is_rejected());
        let random = fastrand::f64();
        let backoff = self.failures.backoff(usable_for, error.retry_after, random);
        let due = now.after(backoff);
        // A forced login waits for the shorter backoff only.
        let short = self.failures.backoff(None, error.retry_after, random);
        let due_if_forced = now.after(short.max(self.forced_wait()).min(backoff));
        let schedule = LoginSchedule { due, due_if_forced };
        let transaction_id = error.transaction_id.clone();
        self.report_failure(error.outcome, transaction_id, &schedule);
        self.log_failure(error, backoff, self.slot.usable(now).is_some());
        schedule
    }

    /// Publishes a failed login, and the time of the next one.
    pub(super) fn report_failure(
        &self,
        outcome: Outcome,
        transaction_id: Option<HeaderValue>,
        schedule: &LoginSchedule,
    ) {
        let consecutive = self.failures.consecutive;
        let at = self.clock.now();
        self.slot
            .events()
            .record(EventKind::LoginFailed(outcome), at);
        let failure = FailedLogin {
            outcome,
            transaction_id,
            at,
        };
        self.slot.update(|status| {
            status.next_attempt = Some(schedule.due.wall);
            status.in_progress = false;
            status.consecutive_failures = consecutive;
            status.last_failure = Some(failure);
            status.due = Some(schedule.due.instant);
            status.forced_not_before = Some(schedule.due_if_forced.instant);
        });
        self.metrics.set_schedule(schedule.due.wall, consecutive);
    }

    /// Returns the remainder of `token.min_forced_interval`.
    pub(super) fn forced_wait(&self) -> Duration {
        // Capped at the longest lifetime of a token, beyond which the interval has no effect.
        let interval = self.settings.min_forced_interval.min(MAX_LIFETIME);
        self.last_forced.map_or(Duration::ZERO, |last| {
            interval.saturating_sub(last.elapsed())
        })
    }
}
