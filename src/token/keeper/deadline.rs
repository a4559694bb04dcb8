//! Deadlines on both clocks.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::system::clock::Clock;

/// An instant on both clocks, reached as soon as either clock reaches it: the wall clock advances
/// while the machine is suspended, and the monotonic clock cannot be set back.
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

    /// Returns the deadline at wall-clock time `wall`, by the current offset between the clocks.
    pub(super) fn at(wall: SystemTime, clock: Clock) -> Self {
        let now = Self::now(clock);
        Self {
            wall,
            instant: now.instant + wall.duration_since(now.wall).unwrap_or_default(),
        }
    }

    /// Returns the remaining time; zero once either clock has reached the deadline.
    pub(super) fn left(self, clock: Clock) -> Duration {
        let wall = self.wall.duration_since(clock.now()).unwrap_or_default();
        wall.min(self.instant.saturating_duration_since(Instant::now()))
    }
}
