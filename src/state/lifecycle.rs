//! The phases of the program's life, seen by everybody who has to act on them.

mod heartbeat;

use tokio::sync::watch;

pub use heartbeat::Heartbeats;

/// Where in its life the program is. Phases only move forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Requests are answered.
    Running,
    /// They still are, but readiness says no, so that balancers send no more.
    Leaving,
    /// No new connections; what is in flight is finished.
    Draining,
    /// What is still in flight is cut off.
    Stopping,
}

/// Moves the program from phase to phase.
#[derive(Clone, Debug)]
pub struct Lifecycle(watch::Sender<Phase>);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }
}

impl Lifecycle {
    /// Moves on to `phase`; a phase that has passed already changes nothing.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let forward = *now < phase;
            if forward {
                *now = phase;
            }
            forward
        });
    }

    /// The phase it is in.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// A view for somebody who acts on phases.
    pub fn watch(&self) -> PhaseWatch {
        PhaseWatch(self.0.subscribe())
    }
}

/// Waits for phases.
#[derive(Clone, Debug)]
pub struct PhaseWatch(watch::Receiver<Phase>);

impl PhaseWatch {
    /// Returns once `phase`, or a later one, is reached. A program whose lifecycle is gone is stopping.
    pub async fn reached(&mut self, phase: Phase) {
        // The error says that the sender is gone.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_move_forward() {
        let lifecycle = Lifecycle::default();
        let mut watch = lifecycle.watch();
        lifecycle.advance(Phase::Stopping);
        lifecycle.advance(Phase::Draining);
        watch.reached(Phase::Draining).await;
        assert_eq!(lifecycle.phase(), Phase::Stopping);
    }
}
