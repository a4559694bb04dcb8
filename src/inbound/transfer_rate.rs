//! A deadline that is moved often and seldom met.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes a second that a caller has to come up to in the long run. Kestrel and IIS ask for as many by default, in both
/// directions, so that no tool in use is slower; a place in flight costs who wants to waste it as much.
const SLOWEST: u64 = 240;
const NANOS_PER_BYTE: u64 = 1_000_000_000 / SLOWEST;

/// How far a caller is behind [`SLOWEST`]: waiting for him adds to it, bytes that moved take from it. Nothing is saved
/// up by being fast.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateDeficit(Duration);

impl RateDeficit {
    /// He was waited for.
    pub fn waited(&mut self, time: Duration) {
        self.0 = self.0.saturating_add(time);
    }

    /// So many bytes moved.
    pub fn moved(&mut self, bytes: u64) {
        self.0 = self
            .0
            .saturating_sub(Duration::from_nanos(bytes.saturating_mul(NANOS_PER_BYTE)));
    }

    /// How far he is behind.
    pub const fn behind(self) -> Duration {
        self.0
    }
}

/// Ends a wait in which nothing happened for `limit`, or hardly anything for longer.
///
/// Progress costs two stores: the timer behind it is made at the first real wait and set again only when it
/// fires early.
pub struct IdleTimer {
    limit: Duration,
    /// From waits before this one.
    rate_deficit: RateDeficit,
    waiting_since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    /// A timer that has not started.
    pub const fn new(limit: Duration) -> Self {
        Self {
            limit,
            rate_deficit: RateDeficit(Duration::ZERO),
            waiting_since: None,
            sleep: None,
        }
    }

    /// The longest wait.
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Something happened, whatever it was: the next wait starts anew.
    pub fn progress(&mut self) {
        self.rate_deficit = RateDeficit::default();
        self.waiting_since = None;
    }

    /// So many bytes moved. The next wait starts anew only if they make up for the last one.
    pub fn moved(&mut self, bytes: u64) {
        if let Some(since) = self.waiting_since.take() {
            self.rate_deficit.waited(since.elapsed());
        }
        self.rate_deficit.moved(bytes);
    }

    /// To be polled while waiting; ready when this wait, and what is left of those before, has lasted for the limit.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let deadline = since + self.limit.saturating_sub(self.rate_deficit.behind());
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            // It fell further behind.
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
            assert!(early.await.is_err(), "expired in spite of progress");
            timer.progress();
        }
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 31);
    }

    /// How long a caller is borne with who moves so many bytes each so many seconds; up to an hour.
    async fn borne(bytes: u64, every: u64) -> Duration {
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
            timer.moved(bytes);
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_up_is_borne_with_and_who_trickles_is_not() {
        let hour = Duration::from_secs(3600);
        for (bytes, every) in [(1000, 1), (240, 1), (14_400, 59), (1 << 20, 59)] {
            assert!(
                borne(bytes, every).await >= hour,
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
            let borne = borne(bytes, every).await.as_secs();
            assert!(
                borne.abs_diff(seconds) <= 1,
                "{bytes} bytes each {every} s: {borne} s"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_saved_up() {
        let mut timer = IdleTimer::new(Duration::from_secs(60));
        timer.moved(u64::MAX);
        let start = Instant::now();
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 60);
    }
}
