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
    per_second: NonZeroU32,
    began: Instant,
    /// Time at which the next request would be on schedule, in nanoseconds since `began`.
    next: AtomicU64,
}

impl RateLimiter {
    /// Creates a limiter with a full burst.
    pub fn new(per_second: NonZeroU32) -> Self {
        Self {
            per_second,
            began: Instant::now(),
            next: AtomicU64::new(0),
        }
    }

    /// Admits one request at `now`.
    ///
    /// # Errors
    /// With the time until a request can be admitted.
    pub fn acquire(&self, now: Instant) -> Result<(), Duration> {
        self.acquire_share(now, NonZeroU32::MIN)
    }

    /// Admits one request at `now` within the share of one of `replicas`.
    ///
    /// # Errors
    /// With the time until a request can be admitted.
    pub fn acquire_share(&self, now: Instant, replicas: NonZeroU32) -> Result<(), Duration> {
        let interval =
            u64::from(replicas.get()) * NANOS_PER_SECOND / u64::from(self.per_second.get());
        // A share below one a second has no burst.
        let burst =
            interval * u64::from((self.per_second.get() / replicas.get()).saturating_sub(1));
        // Overflows after 500 years.
        let now = u64::try_from(now.duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        let mut ahead = 0;
        let admitted = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                let next = next.max(now);
                ahead = next - now;
                (ahead <= burst).then_some(next.saturating_add(interval))
            });
        admitted
            .map(drop)
            .map_err(|_| Duration::from_nanos(ahead - burst))
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
    async fn replicas_divide_the_rate_and_the_burst() {
        let now = Instant::now();
        for (replicas, burst, wait_ms) in [
            (1, 15, 66),
            (2, 7, 133),
            (3, 5, 200),
            (4, 3, 266),
            (50, 1, 3333),
        ] {
            let (limiter, replicas) = (limiter(15), NonZeroU32::new(replicas).unwrap());
            let admitted = (0..100).take_while(|_| limiter.acquire_share(now, replicas).is_ok());
            assert_eq!(admitted.count(), burst, "{replicas}");
            let wait = limiter.acquire_share(now, replicas).unwrap_err();
            assert_eq!(wait.as_millis(), wait_ms, "{replicas}");
            assert_eq!(limiter.acquire_share(now + wait, replicas), Ok(()));
        }
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
