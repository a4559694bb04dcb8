//! The two clocks, and the intervals that follow from a lease.

use std::ops::Add;
use std::time::Duration;

/// Time by which the store's clock may be behind the time of a record: that of a promoted server may
/// differ, and a replica learns the time with a delay. A record of a later time was written before the
/// clock was set back.
pub const MAX_CLOCK_LAG: Duration = Duration::from_secs(5);

/// A moment on the monotonic clock of this replica, since an origin that the caller chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// Returns the moment `since` after the origin.
    pub const fn new(since: Duration) -> Self {
        Self(since)
    }

    /// Returns the time since `earlier`; zero if it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the time since the origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, more: Duration) -> Self {
        Self(self.0.saturating_add(more))
    }
}

/// A moment on the store's clock, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreTime(pub u64);

impl Add<Duration> for StoreTime {
    type Output = Self;

    fn add(self, more: Duration) -> Self {
        Self(self.0.saturating_add(millis(more)))
    }
}

/// Returns a duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a duration in whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The store's clock as this replica knows it: never ahead of it, and behind by the time that a
/// reply took.
#[derive(Clone, Copy, Debug)]
pub struct StoreClock {
    store: StoreTime,
    received: Time,
}

impl StoreClock {
    /// Returns the clock that read `store` in a reply received at `received`.
    pub const fn new(store: StoreTime, received: Time) -> Self {
        Self { store, received }
    }

    /// Returns the store's time at `now`.
    pub fn at(&self, now: Time) -> StoreTime {
        self.store + now.since(self.received)
    }
}

/// The intervals of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Lifetime of a permit that is not renewed.
    pub lease: Duration,
    /// Time after which a command counts as late.
    pub timeout: Duration,
}

impl Timing {
    /// Returns the interval between heartbeats.
    pub fn heartbeat(&self) -> Duration {
        self.lease / 5
    }

    /// Returns the time without any heartbeat after which the scripts start a grace period.
    pub fn silence(&self) -> Duration {
        self.lease * 2 / 5
    }

    /// Returns the length of a grace period, in which replicas report what they hold and nothing is
    /// granted.
    pub fn grace_period(&self) -> Duration {
        self.lease * 3 / 5
    }
}
