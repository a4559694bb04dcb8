//! A limit on requests per second.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A rate limiter for all workers, without a lock: the generic cell rate algorithm with a burst of
/// one second's requests.
#[derive(Debug)]
pub struct RateLimiter {
    /// Nanoseconds between requests at the rate.
    interval: u64,
    began: Instant,
    /// Time at which the next request would be on schedule, in nanoseconds since `began`.
    next: AtomicU64,
    /// Nanoseconds that a request may be ahead of schedule.
    burst: u64,
}

impl RateLimiter {
    /// Creates a limiter with a full burst.
    pub fn new(per_second: NonZeroU32) -> Self {
        let interval = NANOS_PER_SECOND / u64::from(per_second.get());
        let burst = interval * u64::from(per_second.get() - 1);
        Self {
            interval,
            began: Instant::now(),
            next: AtomicU64::new(0),
            burst,
        }
    }

    /// Admits one request at `now`.
    ///
    /// # Errors
    /// With the time until a request can be admitted.
    pub fn acquire(&self, now: Instant) -> Result<(), Duration> {
        // Overflows after 500 years.
        let now = u64::try_from(now.duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        let mut ahead = 0;
        let admitted = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                let next = next.max(now);
                ahead = next - now;
                (ahead <= self.burst).then_some(next.saturating_add(self.interval))
            });
        admitted
            .map(drop)
            .map_err(|_| Duration::from_nanos(ahead - self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_second: u32) -> RateLimiter {
        RateLimiter::new(NonZeroU32::new(per_second).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn requests_beyond_the_burst_are_admitted_evenly() {
        let limiter = limiter(15);
        let began = Instant::now();
        for _ in 0..15 {
            assert_eq!(limiter.acquire(began), Ok(()));
        }
        let interval = Duration::from_nanos(NANOS_PER_SECOND / 15);
        for number in 1..=100 {
            assert_eq!(
                limiter.acquire(began + interval * (number - 1)),
                Err(interval)
            );
            assert_eq!(limiter.acquire(began + interval * number), Ok(()));
        }
        let later = began + interval * 100 + Duration::from_secs(60);
        assert!(
            (0..15).all(|_| limiter.acquire(later).is_ok()),
            "the burst is full after an idle second"
        );
        assert_eq!(limiter.acquire(later), Err(interval), "and never larger");
    }

    #[tokio::test(start_paused = true)]
    async fn one_minute_admits_the_rate_and_one_burst() {
        let limiter = limiter(15);
        let began = Instant::now();
        // 61 ms and the interval are coprime.
        let admitted = (0..60_000).step_by(61).map(|milliseconds| {
            let now = began + Duration::from_millis(milliseconds);
            std::iter::repeat_with(|| limiter.acquire(now))
                .take_while(Result::is_ok)
                .count()
        });
        let admitted: usize = admitted.sum();
        assert!((900..=915).contains(&admitted), "{admitted}");
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_threads_share_one_burst() {
        let limiter = limiter(1000);
        let now = Instant::now();
        let admitted: usize = std::thread::scope(|scope| {
            let admit = || (0..1000).filter(|_| limiter.acquire(now).is_ok()).count();
            let threads = [(); 4].map(|()| scope.spawn(admit));
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(admitted, 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn rate_of_one_has_no_burst() {
        let limiter = limiter(1);
        let began = Instant::now();
        assert_eq!(limiter.acquire(began), Ok(()));
        assert_eq!(limiter.acquire(began), Err(Duration::from_secs(1)));
    }
}
