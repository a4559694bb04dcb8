//! How much a caller may do at a time: `max_concurrent` and `max_per_second`, over all workers and without a lock.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::limit::permits::{Permit, PermitCounter};
use crate::limit::rate::RateLimiter;

/// One caller's own limits.
#[derive(Debug)]
pub struct CallerLimits {
    max_concurrent: Option<NonZeroUsize>,
    places: Arc<PermitCounter>,
    pace: Option<Arc<RateLimiter>>,
    max_per_second: u32,
}

/// A caller asks for more than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallerLimitExceeded {
    /// As many requests as it may have are being answered.
    #[error("{0} requests of the caller are being answered already (max_concurrent)")]
    AtOnce(NonZeroUsize),
    /// It comes too often; this long until one may go.
    #[error("the caller sends more requests a second than it may (max_per_second)")]
    PerSecond(Duration),
}

impl CallerLimits {
    /// So many requests at a time, and so many a second, of which a second's worth may come at once; 0: no limit.
    pub fn new(max_concurrent: usize, max_per_second: u32) -> Self {
        Self {
            max_concurrent: NonZeroUsize::new(max_concurrent),
            places: Arc::default(),
            pace: NonZeroU32::new(max_per_second).map(|rate| Arc::new(RateLimiter::new(rate))),
            max_per_second,
        }
    }

    /// Other limits of the same caller, whose requests go on: what they take up is taken up of the new ones.
    #[must_use]
    pub fn changed_to(&self, max_concurrent: usize, max_per_second: u32) -> Self {
        let new = Self::new(max_concurrent, max_per_second);
        let pace = if self.max_per_second == max_per_second {
            self.pace.clone()
        } else {
            new.pace
        };
        Self {
            places: Arc::clone(&self.places),
            pace,
            ..new
        }
    }

    /// Lets a request in. The place, where there is a limit, is to be kept until its answer was read.
    ///
    /// # Errors
    /// When a limit is reached.
    pub fn acquire(&self, now: Instant) -> Result<Option<Permit>, CallerLimitExceeded> {
        // The place first: it is given back when the pace says no.
        let place = match self.max_concurrent {
            Some(limit) => Some(
                self.places
                    .acquire(limit.get())
                    .ok_or(CallerLimitExceeded::AtOnce(limit))?,
            ),
            None => None,
        };
        if let Some(pace) = &self.pace {
            pace.acquire(now).map_err(CallerLimitExceeded::PerSecond)?;
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_limits_everybody_comes_in() {
        let limits = CallerLimits::new(0, 0);
        let now = Instant::now();
        assert!((0..10_000).all(|_| matches!(limits.acquire(now), Ok(None))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_when_its_request_is_over() {
        let limits = CallerLimits::new(2, 0);
        let now = Instant::now();
        let first = limits.acquire(now).unwrap();
        let _second = limits.acquire(now).unwrap();
        assert_eq!(
            limits.acquire(now).unwrap_err(),
            CallerLimitExceeded::AtOnce(NonZeroUsize::new(2).unwrap())
        );
        drop(first);
        assert!(limits.acquire(now).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_too_often_is_told_when_to_come_back_and_takes_up_no_place() {
        let limits = CallerLimits::new(3, 2);
        let now = Instant::now();
        drop((limits.acquire(now).unwrap(), limits.acquire(now).unwrap()));
        let half = Duration::from_millis(500);
        for _ in 0..10 {
            assert_eq!(
                limits.acquire(now).unwrap_err(),
                CallerLimitExceeded::PerSecond(half)
            );
        }
        assert!(limits.acquire(now + half).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_too_many_at_a_time_spends_nothing_of_the_rate() {
        let limits = CallerLimits::new(1, 2);
        let now = Instant::now();
        let first = limits.acquire(now).unwrap();
        assert!(matches!(
            limits.acquire(now),
            Err(CallerLimitExceeded::AtOnce(_))
        ));
        drop(first);
        assert!(limits.acquire(now).is_ok());
    }
}
