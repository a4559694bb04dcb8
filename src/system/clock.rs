//! A wall clock that tests replace.
//!
//! Expiry times are wall-clock times: the monotonic clock stops while a machine is suspended, but a
//! token expires.

use std::time::{Duration, SystemTime};

/// A source of wall-clock time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(fn() -> SystemTime);

impl Clock {
    /// The clock of the machine.
    pub const SYSTEM: Self = Self(system_now);

    /// Returns a clock that calls `now` each time it is read.
    pub const fn custom(now: fn() -> SystemTime) -> Self {
        Self(now)
    }

    /// Returns the current time.
    pub fn now(self) -> SystemTime {
        (self.0)()
    }
}

/// Returns the Unix time of `time`, or zero before the epoch.
pub fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only place that reads the machine's clock"
)]
fn system_now() -> SystemTime {
    SystemTime::now()
}
