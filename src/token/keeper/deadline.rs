//! A point in time on both clocks.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::system::clock::Clock;

/// An instant on both clocks. It has come when either says so: the wall clock also runs while the machine
/// sleeps, the other cannot be set back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) wall: SystemTime,
    pub(super) instant: Instant,
}

impl Deadline {
    pub(super) fn now(clock: Clock) -> Self {
        Self {
            wall: clock.now(),
            instant: Instant::now(),
        }
    }

    pub(super) fn after(self, wait: Duration) -> Self {
        Self {
            wall: self.wall + wait,
            instant: self.instant + wait,
        }
    }

    /// The instant at which the wall clock will show `wall`, as things stand; now, if it has shown it.
    pub(super) fn at(wall: SystemTime, clock: Clock) -> Self {
        let now = Self::now(clock);
        Self {
            wall,
            instant: now.instant + wall.duration_since(now.wall).unwrap_or_default(),
        }
    }

    pub(super) fn left(self, clock: Clock) -> Duration {
        let wall = self.wall.duration_since(clock.now()).unwrap_or_default();
        wall.min(self.instant.saturating_duration_since(Instant::now()))
    }
}
