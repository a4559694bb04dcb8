//! Wall-clock time that a test can move.
//!
//! Expiry dates are wall-clock facts: a monotonic clock stands still while a machine sleeps, and a token dies
//! all the same.

use std::time::SystemTime;

/// Where the wall-clock time comes from.
#[derive(Clone, Copy, Debug)]
pub struct Clock(fn() -> SystemTime);

impl Clock {
    /// The machine's own clock.
    pub const SYSTEM: Self = Self(system_now);

    /// A clock of a test: `now` is asked each time.
    pub const fn custom(now: fn() -> SystemTime) -> Self {
        Self(now)
    }

    /// The time it is.
    pub fn now(self) -> SystemTime {
        (self.0)()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the machine's clock"
)]
fn system_now() -> SystemTime {
    SystemTime::now()
}
