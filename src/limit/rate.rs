//! So many a second.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A rate, kept by the generic cell rate algorithm: one number says when the next would come if all came evenly. A
/// second's worth may come at once. Shared by all workers, without a lock.
#[derive(Debug)]
pub struct RateLimiter {
    interval: u64,
    began: Instant,
    /// Nanoseconds since `began`.
    next: AtomicU64,
    /// How much earlier than evenly one may come.
    ahead: u64,
}

const SECOND: u64 = 1_000_000_000;

impl RateLimiter {
    /// So many a second.
    pub fn new(per_second: NonZeroU32) -> Self {
        let interval = SECOND / u64::from(per_second.get());
        let ahead = interval * u64::from(per_second.get() - 1);
        Self {
            interval,
            began: Instant::now(),
            next: AtomicU64::new(0),
            ahead,
        }
    }

    /// Lets one go at `now`.
    ///
    /// # Errors
    /// With how long it is until one may go.
    pub fn acquire(&self, now: Instant) -> Result<(), Duration> {
        // In 500 years.
        let now = u64::try_from(now.duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        let mut early = 0;
        let taken = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                let next = next.max(now);
                early = next - now;
                (early <= self.ahead).then_some(next.saturating_add(self.interval))
            });
        taken
            .map(drop)
            .map_err(|_| Duration::from_nanos(early - self.ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(per_second: u32) -> RateLimiter {
        RateLimiter::new(NonZeroU32::new(per_second).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_seconds_worth_goes_at_once_and_the_others_evenly() {
        let pace = pace(15);
        let began = Instant::now();
        for _ in 0..15 {
            assert_eq!(pace.acquire(began), Ok(()));
        }
        let interval = Duration::from_nanos(SECOND / 15);
        for number in 1..=100 {
            assert_eq!(pace.acquire(began + interval * (number - 1)), Err(interval));
            assert_eq!(pace.acquire(began + interval * number), Ok(()));
        }
        let later = began + interval * 100 + Duration::from_secs(60);
        assert!(
            (0..15).all(|_| pace.acquire(later).is_ok()),
            "what was not used for a second is there again"
        );
        assert_eq!(pace.acquire(later), Err(interval), "and no more than that");
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_sees_more_than_the_rate_and_one_burst() {
        let pace = pace(15);
        let began = Instant::now();
        // 61 is prime to the interval.
        let went = (0..60_000).step_by(61).map(|milliseconds| {
            let now = began + Duration::from_millis(milliseconds);
            std::iter::repeat_with(|| pace.acquire(now))
                .take_while(Result::is_ok)
                .count()
        });
        let went: usize = went.sum();
        assert!((900..=915).contains(&went), "{went}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_at_the_same_moment_all_together_get_a_seconds_worth() {
        let pace = pace(1000);
        let now = Instant::now();
        let went: usize = std::thread::scope(|scope| {
            let ask = || (0..1000).filter(|_| pace.acquire(now).is_ok()).count();
            let threads = [(); 4].map(|()| scope.spawn(ask));
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(went, 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn one_a_second_has_no_burst() {
        let pace = pace(1);
        let began = Instant::now();
        assert_eq!(pace.acquire(began), Ok(()));
        assert_eq!(pace.acquire(began), Err(Duration::from_secs(1)));
    }
}
