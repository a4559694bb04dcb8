//! The phases of the process, from running to stopping.

mod heartbeat;

use std::sync::Arc;

use tokio::sync::{Notify, watch};

pub use heartbeat::Heartbeats;

/// A phase of the process. Phases only advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Requests are served.
    Running,
    /// Requests are served, but `/readyz` fails, so that load balancers send no more.
    Leaving,
    /// New connections are not accepted; requests in flight finish.
    Draining,
    /// Requests in flight are aborted.
    Stopping,
}

/// Advances the phase of the process.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
    stop: Arc<Notify>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Running),
            stop: Arc::default(),
        }
    }
}

impl Lifecycle {
    /// Advances to `phase`, unless it has passed already.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let is_later = *current < phase;
            if is_later {
                *current = phase;
            }
            is_later
        });
    }

    /// Returns the current phase.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Requests that the process stops as after a signal.
    pub fn request_stop(&self) {
        self.stop.notify_one();
    }

    /// Returns once [`Self::request_stop`] has been called.
    pub async fn stop_requested(&self) {
        self.stop.notified().await;
    }

    /// Returns a watch on the phase.
    pub fn watch(&self) -> PhaseWatch {
        PhaseWatch(self.phase.subscribe())
    }
}

/// A watch on the phase of the process.
#[derive(Clone, Debug)]
pub struct PhaseWatch(watch::Receiver<Phase>);

impl PhaseWatch {
    /// Returns once `phase` or a later one is reached, or the [`Lifecycle`] is dropped.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the sender is gone.
        let _ = self.0.wait_for(|current| *current >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stop_requested_before_the_wait_is_not_lost() {
        let lifecycle = Lifecycle::default();
        lifecycle.clone().request_stop();
        lifecycle.stop_requested().await;
    }

    #[tokio::test]
    async fn phase_never_goes_back() {
        let lifecycle = Lifecycle::default();
        let mut watch = lifecycle.watch();
        lifecycle.advance(Phase::Stopping);
        lifecycle.advance(Phase::Draining);
        watch.reached(Phase::Draining).await;
        assert_eq!(lifecycle.phase(), Phase::Stopping);
    }
}
