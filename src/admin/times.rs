//! Moments as operators read them.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::state::Shared;

/// The present moment on both clocks. Moments are kept on the one that nobody sets, so those before a suspension of
/// the machine are told too late.
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

    /// RFC 3339, to the second.
    pub(super) fn seconds(&self, at: Instant) -> String {
        rfc3339(self.of(at))
    }

    /// RFC 3339, to the millisecond.
    pub(super) fn precise(&self, at: Instant) -> String {
        humantime::format_rfc3339_millis(self.of(at)).to_string()
    }

    fn of(&self, at: Instant) -> SystemTime {
        self.wall - self.instant.saturating_duration_since(at)
    }
}

/// RFC 3339, to the second.
pub(super) fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}
