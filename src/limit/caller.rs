//! A caller's own limits, `max_concurrent` and `max_per_second`, for all workers and without a
//! lock.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::limit::permits::{Permit, PermitCounter};
use crate::limit::rate::RateLimiter;

/// One caller's own limits and their use.
#[derive(Debug)]
pub struct CallerLimits {
    max_concurrent: Option<NonZeroUsize>,
    permits: Arc<PermitCounter>,
    max_per_second: Option<(NonZeroU32, Arc<RateLimiter>)>,
}

/// A rejection by a caller's own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallerLimitExceeded {
    /// By `max_concurrent`.
    #[error("{0} requests of the caller are in flight (max_concurrent)")]
    Concurrent(NonZeroUsize),
    /// By `max_per_second`.
    #[error("the caller exceeds {limit} requests per second (max_per_second)")]
    PerSecond {
        /// The value of `max_per_second`.
        limit: NonZeroU32,
        /// Time until a request can be admitted.
        retry_after: Duration,
    },
}

impl CallerLimits {
    /// Creates unused limits; `None` is unlimited.
    pub fn new(max_concurrent: Option<NonZeroUsize>, max_per_second: Option<NonZeroU32>) -> Self {
        Self {
            max_concurrent,
            permits: Arc::default(),
            max_per_second: max_per_second.map(|rate| (rate, Arc::new(RateLimiter::new(rate)))),
        }
    }

    /// Returns the number of permits of `max_concurrent` in use; `None` without that limit.
    pub fn concurrent(&self) -> Option<usize> {
        self.max_concurrent.map(|_| self.permits.in_use())
    }

    /// Creates new limits of the same caller. Its requests in flight count; an unchanged rate keeps
    /// its limiter.
    #[must_use]
    pub fn changed_to(
        &self,
        max_concurrent: Option<NonZeroUsize>,
        max_per_second: Option<NonZeroU32>,
    ) -> Self {
        let new = Self::new(max_concurrent, max_per_second);
        let same = self
            .max_per_second
            .as_ref()
            .filter(|(rate, _)| Some(*rate) == max_per_second);
        Self {
            permits: Arc::clone(&self.permits),
            max_per_second: same.cloned().or(new.max_per_second),
            ..new
        }
    }

    /// Admits a request. The permit, if `max_concurrent` is set, must be held until its response
    /// ends.
    ///
    /// # Errors
    /// If a limit is reached.
    pub fn acquire(&self, now: Instant) -> Result<Option<Permit>, CallerLimitExceeded> {
        // The permit first: it can be released again, a request that the rate admitted cannot be
        // taken back.
        let permit = match self.max_concurrent {
            Some(limit) => Some(
                self.permits
                    .acquire(limit.get())
                    .ok_or(CallerLimitExceeded::Concurrent(limit))?,
            ),
            None => None,
        };
        if let Some((limit, limiter)) = &self.max_per_second {
            limiter
                .acquire(now)
                .map_err(|retry_after| CallerLimitExceeded::PerSecond {
                    limit: *limit,
                    retry_after,
                })?;
        }
        Ok(permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_concurrent: usize, max_per_second: u32) -> CallerLimits {
        CallerLimits::new(
            NonZeroUsize::new(max_concurrent),
            NonZeroU32::new(max_per_second),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn without_limits_every_request_is_admitted() {
        let limits = limits(0, 0);
        let now = Instant::now();
        assert!((0..10_000).all(|_| matches!(limits.acquire(now), Ok(None))));
    }

    #[tokio::test(start_paused = true)]
    async fn finished_request_releases_its_permit() {
        let limits = limits(2, 0);
        let now = Instant::now();
        let first = limits.acquire(now).unwrap();
        let _second = limits.acquire(now).unwrap();
        assert_eq!(
            limits.acquire(now).unwrap_err(),
            CallerLimitExceeded::Concurrent(NonZeroUsize::new(2).unwrap())
        );
        drop(first);
        assert!(limits.acquire(now).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn rate_limited_request_learns_the_wait_and_takes_no_permit() {
        let limits = limits(3, 2);
        let now = Instant::now();
        drop((limits.acquire(now).unwrap(), limits.acquire(now).unwrap()));
        let half = Duration::from_millis(500);
        for _ in 0..10 {
            assert_eq!(
                limits.acquire(now).unwrap_err(),
                CallerLimitExceeded::PerSecond {
                    limit: NonZeroU32::new(2).unwrap(),
                    retry_after: half,
                }
            );
        }
        assert!(limits.acquire(now + half).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn request_beyond_max_concurrent_does_not_count_toward_the_rate() {
        let limits = limits(1, 2);
        let now = Instant::now();
        let first = limits.acquire(now).unwrap();
        assert!(matches!(
            limits.acquire(now),
            Err(CallerLimitExceeded::Concurrent(_))
        ));
        drop(first);
        assert!(limits.acquire(now).is_ok());
    }
}
