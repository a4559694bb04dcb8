//! What is known about a credential's token, for readiness, metrics, pages and answers to callers.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tokio::time::Instant;

use super::outcome::Outcome;

/// How far our clock is from Citrix's: ours less theirs, so positive when ours is ahead.
///
/// A `Date` header names whole seconds, so the measure is good to about one second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Skew(f64);

impl Skew {
    /// Compares an answer's `Date` with our clock at half the round trip.
    pub fn measure(theirs: SystemTime, sent: SystemTime, round_trip: Duration) -> Self {
        let ours = sent + round_trip / 2;
        Self(match ours.duration_since(theirs) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        })
    }

    /// In seconds.
    pub const fn seconds(self) -> f64 {
        self.0
    }

    /// What our clock shows when theirs shows `theirs`; `None` beyond what a clock can show.
    pub fn to_ours(self, theirs: SystemTime) -> Option<SystemTime> {
        let by = Duration::try_from_secs_f64(self.0.abs()).ok()?;
        if self.0 < 0.0 {
            theirs.checked_sub(by)
        } else {
            theirs.checked_add(by)
        }
    }
}

/// A login that begins this much after its time is not late.
const TIMER_SLACK: Duration = Duration::from_secs(1);

/// Whether requests can be sent, and for how long that is likely to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// A usable token, and its renewal goes as planned.
    Fresh,
    /// A usable token whose renewal fails or is late, or would fail after a restart.
    Stale,
    /// No token that may be sent.
    Unusable,
}

impl TokenState {
    /// The name in pages and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale but valid",
            Self::Unusable => "unusable",
        }
    }
}

/// Where a secret to log in with comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichSecret {
    /// `client_secret`.
    Current,
    /// `client_secret_next`.
    Next,
    /// Nowhere any more: it is the one that worked last, and what replaced it has yet to work.
    Remembered,
}

impl WhichSecret {
    /// The name in pages and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "first",
            Self::Next => "next",
            Self::Remembered => "remembered",
        }
    }
}

/// A login that failed.
#[derive(Clone, Debug)]
pub struct FailedLogin {
    /// How; its advice is [`Outcome::advice`].
    pub outcome: Outcome,
    /// Citrix's transaction id of the failed login, if it answered at all.
    pub transaction_id: Option<HeaderValue>,
    /// When, by our clock.
    pub at: SystemTime,
}

/// A snapshot of what is known about one credential's token. All times are of our clock.
#[derive(Clone, Debug, Default)]
pub struct TokenStatus {
    /// The newest token's number, counted from 1; 0 before the first.
    pub generation: u64,
    /// When the newest token was asked for.
    pub obtained_at: Option<SystemTime>,
    /// Until when the newest token is sent.
    pub usable_until: Option<SystemTime>,
    /// When the newest token dies at Citrix.
    pub expires_at: Option<SystemTime>,
    /// When the next login is planned; in the past while one is being made.
    pub next_attempt: Option<SystemTime>,
    /// Whether a login is being made at this moment.
    pub in_progress: bool,
    /// Whether the login that is being made began after Citrix refused the present token.
    pub(super) after_refusal: bool,
    /// Failed logins since the last that worked.
    pub consecutive_failures: u32,
    /// The last login that failed, also after others worked.
    pub last_failure: Option<FailedLogin>,
    /// Whether the newest token was obtained without the configured secrets, which were refused or cannot be read: with
    /// the one that worked last, or by a sibling. A restart would have no secret that works.
    pub on_old_secret: bool,
    /// The secret that the newest token was obtained with; `None` for a token out of the cache.
    pub secret: Option<WhichSecret>,
    /// Our clock against Citrix's, once an answer told.
    pub skew: Option<Skew>,
    /// [`TokenStatus::next_attempt`] on the clock that no one sets.
    pub(super) due: Option<Instant>,
    /// Before this neither a 401 nor an operator's wish leads to a login.
    pub(super) forced_not_before: Option<Instant>,
    /// Whether an operator asked for a login that has not begun yet.
    pub(super) asked: bool,
}

impl TokenStatus {
    /// The state at `now`.
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

    /// How long until the next login is due; zero while one is due or being made.
    pub fn next_login_in(&self) -> Duration {
        let due = self.due.filter(|_| !self.in_progress);
        due.map_or(Duration::ZERO, |due| {
            due.saturating_duration_since(Instant::now())
        })
    }

    /// The failure that is behind the present lack of a token, if there is one.
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
    fn skew_is_ours_less_theirs_at_half_the_round_trip() {
        let ahead = Skew::measure(at(1000), at(1059), Duration::from_secs(2));
        assert_eq!(ahead.seconds(), 60.0);
        assert_eq!(ahead.to_ours(at(2000)), Some(at(2060)));
        let behind = Skew::measure(at(1060), at(999), Duration::from_secs(2));
        assert_eq!(behind.seconds(), -60.0);
        assert_eq!(behind.to_ours(at(2000)), Some(at(1940)));
    }

    #[test]
    fn the_state_follows_the_clock_and_the_failures() {
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
            "the renewal is late"
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
