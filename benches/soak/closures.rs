//! The connections that the gateway counts as closed or refused at `limits.max_connections`.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time between two readings of the gateway's counters.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);
/// Rises kept: far more than within the longest request and the time until its verdict.
const MAX_RISES: usize = 1000;

/// When the gateway's counters rose, and by how much in total.
#[derive(Default)]
pub(crate) struct Closures(Mutex<State>);

#[derive(Default)]
struct State {
    /// The last reading: when it began, and the sum of the counters.
    last: Option<(Instant, u64)>,
    /// Periods in which the sum rose.
    rises: VecDeque<(Instant, Instant)>,
}

impl Closures {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the sum of the counters, read between two times.
    pub(crate) fn note(&self, total: u64, began: Instant, ended: Instant) {
        let mut state = self.state();
        if let Some((since, before)) = state.last
            && total > before
        {
            state.rises.push_back((since, ended));
            if state.rises.len() > MAX_RISES {
                state.rises.pop_front();
            }
        }
        state.last = Some((began, total));
    }

    /// Returns whether the gateway closed or refused a connection between two times.
    pub(crate) fn covers(&self, from: Instant, until: Instant) -> bool {
        let state = self.state();
        let mut rises = state.rises.iter();
        rises.any(|&(begin, end)| begin <= until && end >= from)
    }

    /// Returns the sum of the counters at the last reading.
    pub(crate) fn total(&self) -> u64 {
        self.state().last.map_or(0, |(_, total)| total)
    }
}
