//! Times in responses.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::state::Shared;

/// The current time on both clocks. Times are recorded on the monotonic clock, so those before a
/// suspension of the machine are reported too late.
pub(super) struct Times {
    pub(super) wall: SystemTime,
    pub(super) instant: Instant,
}

impl Times {
    pub(super) fn now(shared: &Shared) -> Self {
        Self {
            wall: shared.clock.now(),
            instant: Instant::now(),
        }
    }

    /// Formats a time as RFC 3339 in seconds.
    pub(super) fn seconds(&self, at: Instant) -> String {
        rfc3339(self.of(at))
    }

    /// Formats a time as RFC 3339 in milliseconds.
    pub(super) fn precise(&self, at: Instant) -> String {
        humantime::format_rfc3339_millis(self.of(at)).to_string()
    }

    fn of(&self, at: Instant) -> SystemTime {
        self.wall - self.instant.saturating_duration_since(at)
    }
}

/// Formats a time as RFC 3339 in seconds.
pub(super) fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}
