//! Whether the workers are alive, as a service manager's watchdog wants to know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The beat of a worker that is done: it is owed no more.
const DONE: u64 = u64::MAX;

/// When each worker was last seen at work, in milliseconds since `began`.
pub struct Heartbeats {
    began: Instant,
    beats: Box<[AtomicU64]>,
}

impl Heartbeats {
    /// For so many workers, as if all had just been seen.
    pub fn new(workers: usize) -> Self {
        Self {
            began: Instant::now(),
            beats: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(DONE - 1)
    }

    fn set(&self, worker: usize, beat: u64) {
        if let Some(last) = self.beats.get(worker) {
            last.store(beat, Ordering::Relaxed);
        }
    }

    /// A worker is at work.
    pub fn beat(&self, worker: usize) {
        self.set(worker, self.now());
    }

    /// A worker has ended well.
    pub fn done(&self, worker: usize) {
        self.set(worker, DONE);
    }

    /// A worker that was not seen for `limit`.
    pub fn missing(&self, limit: Duration) -> Option<usize> {
        let earliest = self
            .now()
            .saturating_sub(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self.beats
            .iter()
            .position(|last| last.load(Ordering::Relaxed) < earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_stands_still_is_missed_and_one_that_is_done_is_not() {
        let (beats, limit) = (Heartbeats::new(2), Duration::from_secs(3));
        tokio::time::advance(limit).await;
        assert_eq!(beats.missing(limit), None);
        beats.beat(0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(beats.missing(limit), Some(1));
        beats.done(1);
        assert_eq!(beats.missing(limit), None);
        tokio::time::advance(limit).await;
        assert_eq!(beats.missing(limit), Some(0));
    }
}
