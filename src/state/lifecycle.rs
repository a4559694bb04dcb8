//! The phases of the process, from running to stopping.

mod heartbeat;

use tokio::sync::watch;

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
pub struct Lifecycle(watch::Sender<Phase>);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }
}

impl Lifecycle {
    /// Advances to `phase`, unless it has passed already.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let is_later = *current < phase;
            if is_later {
                *current = phase;
            }
            is_later
        });
    }

    /// Returns the current phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Returns a watch on the phase.
    pub fn watch(&self) -> PhaseWatch {
        PhaseWatch(self.0.subscribe())
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
    async fn phase_never_goes_back() {
        let lifecycle = Lifecycle::default();
        let mut watch = lifecycle.watch();
        lifecycle.advance(Phase::Stopping);
        lifecycle.advance(Phase::Draining);
        watch.reached(Phase::Draining).await;
        assert_eq!(lifecycle.phase(), Phase::Stopping);
    }
}
