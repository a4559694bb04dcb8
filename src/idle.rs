//! A deadline that is moved often and seldom met.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Ends a wait in which nothing happened for `limit`.
///
/// Progress costs two stores: the timer behind it is made at the first real wait and set again only when it
/// fires early.
pub struct IdleTimer {
    limit: Duration,
    waiting_since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    /// A timer that has not started.
    pub const fn new(limit: Duration) -> Self {
        Self { limit, waiting_since: None, sleep: None }
    }

    /// Something happened: the next wait starts anew.
    pub fn progress(&mut self) {
        self.waiting_since = None;
    }

    /// To be polled while waiting; ready when this wait has lasted for the limit.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let deadline = since + self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
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
            let early = tokio::time::timeout(Duration::from_secs(7), poll_fn(|cx| timer.poll_expired(cx)));
            assert!(early.await.is_err(), "expired in spite of progress");
            timer.progress();
        }
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 31);
    }
}
