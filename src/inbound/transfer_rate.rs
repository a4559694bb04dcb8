//! The minimum transfer rate of callers, and idle timeouts of callers and upstreams.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The minimum sustained transfer rate of a caller in bytes per second. It is the default of
/// Kestrel and IIS in both directions, so clients in use reach it.
const MIN_RATE: u64 = 240;
const NANOS_PER_BYTE: u64 = 1_000_000_000 / MIN_RATE;

/// The time by which a caller is behind `MIN_RATE`: waits add to it, transferred bytes subtract
/// from it. Fast transfers earn no credit.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateDeficit(Duration);

impl RateDeficit {
    /// Adds a wait for the caller.
    pub fn waited(&mut self, time: Duration) {
        self.0 = self.0.saturating_add(time);
    }

    /// Subtracts transferred bytes.
    pub fn transferred(&mut self, bytes: u64) {
        self.0 = self
            .0
            .saturating_sub(Duration::from_nanos(bytes.saturating_mul(NANOS_PER_BYTE)));
    }

    /// Returns the time by which the caller is behind.
    pub const fn behind(self) -> Duration {
        self.0
    }
}

/// A timeout for waits without progress, or with less than the minimum transfer rate.
///
/// Progress costs two stores: the timer is created by the first wait, and reset only when it fires
/// early or the deficit has grown.
pub struct IdleTimer {
    limit: Duration,
    /// From previous waits.
    deficit: RateDeficit,
    waiting_since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    /// Returns a timer that has not started.
    pub const fn new(limit: Duration) -> Self {
        Self {
            limit,
            deficit: RateDeficit(Duration::ZERO),
            waiting_since: None,
            sleep: None,
        }
    }

    /// Returns the maximum wait.
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Records progress of any size: the next wait has the full limit.
    pub fn progress(&mut self) {
        self.deficit = RateDeficit::default();
        self.waiting_since = None;
    }

    /// Records transferred bytes. The next wait has the full limit only if they make up for all
    /// previous ones.
    pub fn transferred(&mut self, bytes: u64) {
        if let Some(since) = self.waiting_since.take() {
            self.deficit.waited(since.elapsed());
        }
        self.deficit.transferred(bytes);
    }

    /// Starts a wait unless one has started. Completes when this wait plus the deficit of previous
    /// ones reaches the limit.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let deadline = since + self.limit.saturating_sub(self.deficit.behind());
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            // The deficit has grown.
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn progress_moves_the_deadline() {
        let mut timer = IdleTimer::new(Duration::from_secs(10));
        let start = Instant::now();
        for _ in 0..3 {
            let early =
                tokio::time::timeout(Duration::from_secs(7), poll_fn(|cx| timer.poll_expired(cx)));
            assert!(early.await.is_err(), "expired despite progress");
            timer.progress();
        }
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 31);
    }

    /// Returns the time until a caller that transfers `bytes` every `every` seconds times out, up
    /// to an hour.
    async fn time_to_expiry(bytes: u64, every: u64) -> Duration {
        let mut timer = IdleTimer::new(Duration::from_secs(60));
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3600) {
            let wait = tokio::time::timeout(
                Duration::from_secs(every),
                poll_fn(|cx| timer.poll_expired(cx)),
            );
            if wait.await.is_ok() {
                break;
            }
            timer.transferred(bytes);
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn caller_below_the_minimum_rate_times_out() {
        let hour = Duration::from_secs(3600);
        for (bytes, every) in [(1000, 1), (240, 1), (14_400, 59), (1 << 20, 59)] {
            assert!(
                time_to_expiry(bytes, every).await >= hour,
                "{bytes} bytes each {every} s"
            );
        }
        for (bytes, every, seconds) in [
            (0, 1, 60),
            (1, 1, 60),
            (1, 59, 60),
            (120, 1, 119),
            (12_000, 59, 110),
        ] {
            let expiry = time_to_expiry(bytes, every).await.as_secs();
            assert!(
                expiry.abs_diff(seconds) <= 1,
                "{bytes} bytes each {every} s: {expiry} s"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn fast_transfer_earns_no_credit() {
        let mut timer = IdleTimer::new(Duration::from_secs(60));
        timer.transferred(u64::MAX);
        let start = Instant::now();
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 60);
    }
}
