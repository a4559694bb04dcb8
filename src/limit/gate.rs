//! Where Citrix asked to wait, and until when: all requests of a place wait together instead of knocking one by one.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::scope::Scope;
use crate::limit::permits::{Permit, PermitCounter};

/// Gates that are remembered. When more are closed the one that opens first is forgotten: its requests go and meet
/// what they would have waited for.
const MAX_GATES: usize = 1024;

/// The closed gates, for all workers. Nobody takes the lock unless one is.
pub struct Gates {
    state: RandomState,
    began: Instant,
    /// When the last of them opens, in milliseconds since `began`; 0 when none was ever closed.
    last_opens: AtomicU64,
    closed: Mutex<HashMap<Scope, Gate>>,
}

#[derive(Clone)]
struct Gate {
    opens: Instant,
    waiting: Arc<PermitCounter>,
}

/// Leave to wait until a gate opens.
pub struct GateWait {
    /// End of the wait.
    pub until: Instant,
    /// One of the places there are for those that wait.
    _place: Permit,
}

impl Default for Gates {
    fn default() -> Self {
        let (state, began) = (RandomState::new(), Instant::now());
        Self {
            state,
            began,
            last_opens: AtomicU64::new(0),
            closed: Mutex::default(),
        }
    }
}

impl Gates {
    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, Gate>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn milliseconds(&self, instant: Instant) -> u64 {
        // In 500 million years.
        u64::try_from(instant.duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// The gate that a request to `path` of the upstream passes.
    pub fn scope(&self, customer: &[u8], route: &str, path: &str) -> Scope {
        Scope::new(&self.state, customer, route, path)
    }

    /// Whether any gate may be closed. One load where none ever was.
    pub fn any_closed(&self) -> bool {
        let last_opens = self.last_opens.load(Ordering::Relaxed);
        last_opens != 0 && self.milliseconds(Instant::now()) < last_opens
    }

    /// Closes a gate until `opens`, or leaves it closed for longer.
    pub fn close(&self, scope: Scope, opens: Instant) {
        let mut gates = self.lock();
        let now = Instant::now();
        gates.retain(|_, gate| gate.opens > now);
        if gates.len() >= MAX_GATES
            && !gates.contains_key(&scope)
            && let Some(first) = gates
                .iter()
                .min_by_key(|(_, gate)| gate.opens)
                .map(|(at, _)| *at)
        {
            gates.remove(&first);
        }
        let gate = gates.entry(scope).or_insert_with(|| Gate {
            opens,
            waiting: Arc::default(),
        });
        gate.opens = gate.opens.max(opens);
        // Rounded up, so that nobody finds it open before its time.
        self.last_opens
            .fetch_max(self.milliseconds(opens) + 1, Ordering::Relaxed);
    }

    /// When a gate opens; `None` when it is open.
    pub fn opens(&self, scope: Scope) -> Option<Instant> {
        self.lock()
            .get(&scope)
            .map(|gate| gate.opens)
            .filter(|opens| *opens > Instant::now())
    }

    /// Leave to wait at a gate until `until`, unless `room` do already.
    pub fn stay(&self, scope: Scope, until: Instant, room: usize) -> Option<GateWait> {
        let waiting = self
            .lock()
            .get(&scope)
            .map(|gate| Arc::clone(&gate.waiting))
            .unwrap_or_default();
        Some(GateWait {
            until,
            _place: waiting.acquire(room)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HERE: Scope = Scope(1);
    const THERE: Scope = Scope(2);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_is_closed_until_the_last_of_its_hints_ends() {
        let gates = Gates::default();
        let began = Instant::now();
        assert!(!gates.any_closed() && gates.opens(HERE).is_none());
        gates.close(HERE, began + seconds(5));
        gates.close(HERE, began + seconds(3));
        assert!(gates.any_closed());
        assert_eq!(
            (gates.opens(HERE), gates.opens(THERE)),
            (Some(began + seconds(5)), None)
        );
        tokio::time::advance(seconds(5)).await;
        assert!(gates.opens(HERE).is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!gates.any_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_wait_at_a_gate_and_others_at_others() {
        let gates = Gates::default();
        let until = Instant::now() + seconds(5);
        gates.close(HERE, until);
        gates.close(THERE, until);
        let first = gates.stay(HERE, until, 1);
        assert!(first.is_some() && gates.stay(HERE, until, 1).is_none());
        assert!(gates.stay(THERE, until, 1).is_some());
        drop(first);
        assert!(gates.stay(HERE, until, 1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn gates_are_bounded_and_what_opened_is_forgotten() {
        let gates = Gates::default();
        let began = Instant::now();
        for number in 0..=MAX_GATES as u64 {
            gates.close(Scope(number), began + seconds(number + 1));
        }
        assert_eq!(gates.lock().len(), MAX_GATES);
        assert!(
            gates.opens(Scope(0)).is_none(),
            "the first to open was forgotten"
        );
        assert!(gates.opens(Scope(1)).is_some());
        tokio::time::advance(seconds(MAX_GATES as u64 + 1)).await;
        gates.close(HERE, Instant::now() + seconds(1));
        assert_eq!(gates.lock().len(), 1);
    }
}
