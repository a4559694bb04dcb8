//! Status of a credential's token, for readiness, metrics, the status page and responses to
//! callers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tokio::time::Instant;

use super::outcome::Outcome;

/// The local clock minus Citrix's clock: positive if the local clock is ahead.
///
/// A `Date` field has a resolution of one second, so the accuracy is about one second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Skew(f64);

impl Skew {
    /// Compares a time of Citrix's clock with the local clock at half the round trip.
    pub fn measure(citrix: SystemTime, sent: SystemTime, round_trip: Duration) -> Self {
        let local = sent + round_trip / 2;
        Self(match local.duration_since(citrix) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        })
    }

    /// Returns the skew in seconds.
    pub const fn seconds(self) -> f64 {
        self.0
    }

    /// Converts a time of Citrix's clock to local time; `None` if it is out of range.
    pub fn to_local(self, citrix: SystemTime) -> Option<SystemTime> {
        let by = Duration::try_from_secs_f64(self.0.abs()).ok()?;
        if self.0 < 0.0 {
            citrix.checked_sub(by)
        } else {
            citrix.checked_add(by)
        }
    }
}

/// Delay after which a scheduled login counts as late.
const TIMER_SLACK: Duration = Duration::from_secs(1);

/// Usability of a credential's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// Usable, and its refresh is on schedule.
    Fresh,
    /// Usable, but its refresh fails or is late, or would fail after a restart.
    Stale,
    Unusable,
}

impl TokenState {
    /// Returns the name shown by `/readyz` and other admin responses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale but valid",
            Self::Unusable => "unusable",
        }
    }
}

/// Origin of the client secret of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichSecret {
    /// `client_secret`.
    Current,
    /// `client_secret_next`.
    Next,
    /// The last secret that Citrix accepted, kept in memory until a configured one is accepted.
    Remembered,
}

impl WhichSecret {
    /// Returns the configuration key, for the log.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Current => "client_secret",
            Self::Next => "client_secret_next",
            Self::Remembered => "remembered",
        }
    }

    /// Returns the value of `secret` in `/status.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "first",
            Self::Next => "next",
            Self::Remembered => "remembered",
        }
    }
}

/// Record of a failed login.
#[derive(Clone, Debug)]
pub struct FailedLogin {
    pub(crate) outcome: Outcome,
    /// Citrix's transaction id, if there was a response.
    pub(crate) transaction_id: Option<HeaderValue>,
    /// Local time of the failure.
    pub(crate) at: SystemTime,
}

/// Snapshot of the status of one credential's token. All times are local.
#[derive(Clone, Debug, Default)]
pub struct TokenStatus {
    /// Number of the newest token, counted from 1; 0 before the first.
    pub generation: u64,
    /// Start of the login that obtained the newest token.
    pub obtained_at: Option<SystemTime>,
    /// End of the period in which the newest token is sent.
    pub usable_until: Option<SystemTime>,
    /// Expiry of the newest token at Citrix.
    pub expires_at: Option<SystemTime>,
    /// Time of the next login; in the past while one is in progress.
    pub next_attempt: Option<SystemTime>,
    /// A login is in progress.
    pub in_progress: bool,
    /// The login in progress started after Citrix rejected the current token.
    pub(super) started_after_rejection: bool,
    /// The rejected token that the newest one replaces, if that is an older one of a sibling's: it may
    /// have been revoked as well.
    pub(super) suspect_since: Option<u64>,
    /// Failed logins since the last success.
    pub consecutive_failures: u32,
    /// The last failed login, kept after later successes.
    pub last_failure: Option<FailedLogin>,
    /// The newest token was not obtained with a configured secret, because those were rejected or
    /// unreadable, but with the last accepted one or by a sibling. A restart would have no valid
    /// secret.
    pub on_old_secret: bool,
    /// Another replica obtained the newest token, with a secret that is not configured here.
    pub other_secret: bool,
    /// The customer that the newest token names, if it is not the configured one.
    pub other_customer: Option<Arc<str>>,
    /// The secret that obtained the newest token; `None` for a token from the cache.
    pub secret: Option<WhichSecret>,
    /// Cause of an unreadable secret, while it lasts.
    pub secret_problem: Option<String>,
    /// The clock skew, once a response revealed it.
    pub skew: Option<Skew>,
    /// [`TokenStatus::next_attempt`] on the monotonic clock.
    pub(super) due: Option<Instant>,
    /// Earliest login that a 401 or an operator can trigger.
    pub(super) forced_not_before: Option<Instant>,
    /// An operator requested a login that has not started yet.
    pub(super) login_requested: bool,
}

impl TokenStatus {
    /// Returns the state at `now`.
    pub fn state(&self, now: SystemTime) -> TokenState {
        if self.usable_until.is_none_or(|until| now >= until) {
            return TokenState::Unusable;
        }
        let late = !self.in_progress && self.next_attempt.is_some_and(|at| at + TIMER_SLACK < now);
        if late || self.consecutive_failures > 0 || self.on_old_secret {
            TokenState::Stale
        } else {
            TokenState::Fresh
        }
    }

    /// Returns the time until the next login; zero while one is due or in progress.
    pub fn next_login_in(&self) -> Duration {
        let due = self.due.filter(|_| !self.in_progress);
        due.map_or(Duration::ZERO, |due| {
            due.saturating_duration_since(Instant::now())
        })
    }

    /// Returns `true` if a login may provide a token within `wait`: the first one, one in progress,
    /// or one that is due by then. After a rejected login only one in progress may, because
    /// another with the same credentials fails alike.
    pub fn may_recover_within(&self, wait: Duration) -> bool {
        match self.current_failure() {
            None => true,
            Some(_) if self.in_progress => true,
            Some(failure) => !failure.outcome.is_rejection() && self.next_login_in() <= wait,
        }
    }

    /// Returns the last failed login if no login succeeded since.
    pub fn current_failure(&self) -> Option<&FailedLogin> {
        self.last_failure
            .as_ref()
            .filter(|_| self.consecutive_failures > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn skew_is_local_minus_citrix_at_half_the_round_trip() {
        let ahead = Skew::measure(at(1000), at(1059), Duration::from_secs(2));
        assert_eq!(ahead.seconds(), 60.0);
        assert_eq!(ahead.to_local(at(2000)), Some(at(2060)));
        let behind = Skew::measure(at(1060), at(999), Duration::from_secs(2));
        assert_eq!(behind.seconds(), -60.0);
        assert_eq!(behind.to_local(at(2000)), Some(at(1940)));
    }

    #[test]
    fn state_depends_on_the_clock_and_on_failures() {
        let status = TokenStatus {
            usable_until: Some(at(100)),
            next_attempt: Some(at(75)),
            generation: 1,
            ..TokenStatus::default()
        };
        assert_eq!(TokenStatus::default().state(at(0)), TokenState::Unusable);
        assert_eq!(status.state(at(76)), TokenState::Fresh);
        assert_eq!(
            status.state(at(77)),
            TokenState::Stale,
            "the refresh is late"
        );
        assert_eq!(status.state(at(100)), TokenState::Unusable);
        assert_eq!(
            TokenStatus {
                in_progress: true,
                ..status.clone()
            }
            .state(at(77)),
            TokenState::Fresh
        );
        assert_eq!(
            TokenStatus {
                on_old_secret: true,
                ..status.clone()
            }
            .state(at(10)),
            TokenState::Stale
        );
        assert_eq!(
            TokenStatus {
                consecutive_failures: 1,
                ..status
            }
            .state(at(10)),
            TokenState::Stale
        );
    }
}
