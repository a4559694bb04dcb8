//! Moments on both clocks.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::clock::Clock;

/// A moment on both clocks. A deadline is reached as soon as either clock reaches it: the wall clock
/// advances while the machine is suspended, and the monotonic clock cannot be set back.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// On the wall clock.
    pub wall: SystemTime,
    /// On the monotonic clock.
    pub instant: Instant,
}

impl Moment {
    /// Returns the current time.
    pub fn now(clock: Clock) -> Self {
        Self {
            wall: clock.now(),
            instant: Instant::now(),
        }
    }

    /// Returns the moment `wait` later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self {
            wall: self.wall + wait,
            instant: self.instant + wait,
        }
    }

    /// Returns the moment at wall-clock time `wall`, by the current offset between the clocks.
    pub fn at(wall: SystemTime, clock: Clock) -> Self {
        let now = Self::now(clock);
        Self {
            wall,
            instant: now.instant + wall.duration_since(now.wall).unwrap_or_default(),
        }
    }

    /// Returns `true` if either clock has reached this moment at `now`.
    pub fn is_reached(self, now: Self) -> bool {
        now.wall >= self.wall || now.instant >= self.instant
    }

    /// Returns the time until this moment; zero once either clock has reached it.
    pub fn left(self, clock: Clock) -> Duration {
        let wall = self.wall.duration_since(clock.now()).unwrap_or_default();
        wall.min(self.instant.saturating_duration_since(Instant::now()))
    }
}
