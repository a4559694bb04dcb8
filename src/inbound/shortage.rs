//! Accepting fails for want of something, file descriptors mostly, and works again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long nothing may fail before it is over. While file descriptors come and go one by one, accepting works and
/// fails in turns.
const CALM: Duration = Duration::from_secs(10);

/// Whether connections cannot be accepted, all workers together.
#[derive(Debug, Default)]
pub struct Shortage {
    /// Looked at for each connection.
    is_on: AtomicBool,
    last_failure: Mutex<Option<Instant>>,
}

impl Shortage {
    /// Accepting failed; true when that is news.
    pub fn failed(&self) -> bool {
        *self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        !self.is_on.swap(true, Ordering::Relaxed)
    }

    /// Accepting worked; true when that is news.
    pub fn worked(&self) -> bool {
        if !self.is_on.load(Ordering::Relaxed) {
            return false;
        }
        let last = *self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| last.elapsed() >= CALM) && self.is_on.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shortage_is_news_when_it_begins_and_when_it_is_over() {
        let shortage = Shortage::default();
        assert!(!shortage.worked());
        assert!(shortage.failed());
        assert!(!shortage.failed());
        assert!(!shortage.worked(), "it may fail again at once");
        tokio::time::advance(CALM).await;
        assert!(!shortage.failed());
        tokio::time::advance(CALM).await;
        assert!(shortage.worked());
        assert!(!shortage.worked());
        assert!(shortage.failed());
    }
}
