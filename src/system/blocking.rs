//! Blocking calls with a deadline, at most one thread at a time.

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// A call on a blocking thread, or none. A call that hangs occupies this one thread: no other call
/// starts before it has returned.
#[derive(Debug)]
pub struct BlockingCall<T> {
    thread: Option<JoinHandle<T>>,
    /// The deadline has passed once; later waits return at once.
    overdue: bool,
}

/// The call has not returned in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished;

impl<T> Default for BlockingCall<T> {
    fn default() -> Self {
        Self {
            thread: None,
            overdue: false,
        }
    }
}

impl<T: Send + 'static> BlockingCall<T> {
    /// Waits for `thread` instead of a blocking call.
    #[cfg(test)]
    pub(super) fn in_progress(thread: JoinHandle<T>) -> Self {
        Self {
            thread: Some(thread),
            overdue: false,
        }
    }

    /// Returns `true` if a call is in progress.
    pub fn is_started(&self) -> bool {
        self.thread.is_some()
    }

    /// Returns `true` if a call is in progress that may still meet its deadline.
    pub fn is_pending(&self) -> bool {
        self.thread.is_some() && !self.overdue
    }

    /// Returns the result of the call in progress, or else of `call`, which it starts. Dropping the
    /// future does not cancel the call; the next `run` returns its result.
    ///
    /// # Errors
    /// When the call takes longer than `limit`. Further calls of `run` then return without a wait
    /// until the thread has finished.
    pub async fn run(
        &mut self,
        limit: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unfinished> {
        let thread = self.thread.get_or_insert_with(|| spawn_blocking(call));
        let limit = if self.overdue { Duration::ZERO } else { limit };
        match timeout(limit, thread).await {
            Ok(finished) => {
                *self = Self::default();
                // The thread panicked, which ends a release build, or the runtime shuts down.
                finished.map_err(|_| Unfinished)
            }
            Err(_) => {
                self.overdue = true;
                Err(Unfinished)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{Instant, sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn hanging_call_is_awaited_once_and_starts_no_other() {
        let start = Instant::now();
        let mut call = BlockingCall::in_progress(tokio::spawn(pending()));
        for _ in 0..100 {
            assert_eq!(
                call.run(LIMIT, || panic!("second call")).await,
                Err(Unfinished)
            );
        }
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn late_result_is_returned_by_the_next_run() {
        let late = async {
            sleep(LIMIT * 2).await;
            1
        };
        let mut call = BlockingCall::in_progress(tokio::spawn(late));
        assert_eq!(call.run(LIMIT, || 2).await, Err(Unfinished));
        sleep(LIMIT * 2).await;
        assert_eq!(call.run(LIMIT, || 2).await, Ok(1));
        assert_eq!(call.run(LIMIT, || 2).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_wait_keeps_the_call() {
        let late = async {
            sleep(LIMIT / 2).await;
            1
        };
        let mut call = BlockingCall::in_progress(tokio::spawn(late));
        assert!(timeout(LIMIT / 4, call.run(LIMIT, || 2)).await.is_err());
        assert!(call.is_pending());
        assert_eq!(call.run(LIMIT, || 2).await, Ok(1));
    }
}
