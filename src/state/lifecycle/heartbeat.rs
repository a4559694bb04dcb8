//! Heartbeats of the workers, for the watchdog of the service manager.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The heartbeat of a worker that has ended.
const DONE: u64 = u64::MAX;

/// The time of each worker's last heartbeat.
pub struct Heartbeats {
    began: Instant,
    /// In milliseconds since `began`.
    beats: Box<[AtomicU64]>,
}

impl Heartbeats {
    /// Creates the heartbeats of `workers` workers, each recorded now.
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

    /// Records a heartbeat of `worker`.
    pub fn record(&self, worker: usize) {
        self.set(worker, self.now());
    }

    /// Records that `worker` has ended as intended.
    pub fn done(&self, worker: usize) {
        self.set(worker, DONE);
    }

    /// Returns a worker without a heartbeat for more than `limit`.
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
    async fn unresponsive_worker_is_missing_and_ended_worker_is_not() {
        let (beats, limit) = (Heartbeats::new(2), Duration::from_secs(3));
        tokio::time::advance(limit).await;
        assert_eq!(beats.missing(limit), None);
        beats.record(0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(beats.missing(limit), Some(1));
        beats.done(1);
        assert_eq!(beats.missing(limit), None);
        tokio::time::advance(limit).await;
        assert_eq!(beats.missing(limit), Some(0));
    }
}
