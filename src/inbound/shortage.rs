//! Periods in which connections cannot be accepted, mostly for lack of file descriptors.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time without a failure after which a shortage has ended. During a shortage, accepting fails and
/// succeeds by turns as file descriptors become free.
const RECOVERY_TIME: Duration = Duration::from_secs(10);

/// The shortage of all workers together.
#[derive(Debug, Default)]
pub struct Shortage {
    /// Read for each connection.
    in_shortage: AtomicBool,
    last_failure: Mutex<Option<Instant>>,
}

impl Shortage {
    /// Records a failure. Returns `true` if a shortage begins.
    pub fn failed(&self) -> bool {
        *self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        !self.in_shortage.swap(true, Ordering::Relaxed)
    }

    /// Records a success. Returns `true` if a shortage ends.
    pub fn succeeded(&self) -> bool {
        if !self.in_shortage.load(Ordering::Relaxed) {
            return false;
        }
        let last = *self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| last.elapsed() >= RECOVERY_TIME)
            && self.in_shortage.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn beginning_and_end_of_a_shortage_are_reported_once() {
        let shortage = Shortage::default();
        assert!(!shortage.succeeded());
        assert!(shortage.failed());
        assert!(!shortage.failed());
        assert!(!shortage.succeeded(), "within RECOVERY_TIME");
        tokio::time::advance(RECOVERY_TIME).await;
        assert!(!shortage.failed());
        tokio::time::advance(RECOVERY_TIME).await;
        assert!(shortage.succeeded());
        assert!(!shortage.succeeded());
        assert!(shortage.failed());
    }
}
