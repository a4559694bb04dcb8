//! The last events of one credential's token, for the status page.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::outcome::Outcome;
use super::status::WhichSecret;
use crate::observe::metrics::ReplayOutcome;

/// Maximum number of events that are kept.
const MAX_EVENTS: usize = 50;

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A login with this secret obtained this generation.
    Login {
        /// Number of the token.
        generation: u64,
        /// Origin of the secret.
        secret: WhichSecret,
    },
    /// This generation was adopted from the cache or another replica.
    Adopted {
        /// Number of the token.
        generation: u64,
    },
    /// A login failed.
    LoginFailed(Outcome),
    /// Citrix returned 401 for a token.
    Unauthorized(ReplayOutcome),
}

/// An event and its repetitions in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenEvent {
    pub(crate) kind: EventKind,
    /// Local time of the first.
    pub(crate) first: SystemTime,
    /// Local time of the last.
    pub(crate) last: SystemTime,
    pub(crate) count: u64,
}

/// The last events, the oldest first. Nothing is recorded for a request that Citrix accepts.
#[derive(Debug, Default)]
pub struct TokenEvents(Mutex<VecDeque<TokenEvent>>);

impl TokenEvents {
    /// Records an event. Repetitions in a row are one event with a count.
    pub(crate) fn record(&self, kind: EventKind, at: SystemTime) {
        let mut events = self.lock();
        if let Some(same) = events.back_mut().filter(|last| last.kind == kind) {
            same.last = at;
            same.count += 1;
            return;
        }
        if events.len() == MAX_EVENTS {
            events.pop_front();
        }
        events.push_back(TokenEvent {
            kind,
            first: at,
            last: at,
            count: 1,
        });
    }

    /// Returns the events, the oldest first.
    pub(crate) fn all(&self) -> Vec<TokenEvent> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<TokenEvent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn repetitions_in_a_row_are_one_event_and_events_are_bounded() {
        let events = TokenEvents::default();
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let failed = EventKind::LoginFailed(Outcome::Timeout);
        for second in 1..=1000 {
            events.record(failed, at(second));
        }
        let repeated = TokenEvent {
            kind: failed,
            first: at(1),
            last: at(1000),
            count: 1000,
        };
        assert_eq!(events.all(), [repeated]);
        for generation in 1..=100 {
            events.record(EventKind::Adopted { generation }, at(2000));
        }
        let all = events.all();
        assert_eq!(all.len(), MAX_EVENTS);
        assert_eq!(all[0].kind, EventKind::Adopted { generation: 51 });
    }
}
