//! Gates that hold requests back after a response from Citrix requested a wait (429, 503): all
//! requests of a scope wait for the same moment.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::scope::Scope;
use crate::limit::owner::{OwnedPermit, Owner, QueueSlots};

/// Maximum number of closed gates. Beyond it the gate that opens first is dropped: its requests are
/// sent, and Citrix rejects them again.
const MAX_GATES: usize = 1024;

/// The closed gates of all workers. The lock is taken only while one is closed.
pub struct Gates {
    state: RandomState,
    began: Instant,
    /// Time at which the last gate opens, in milliseconds since `began`; 0 if none was ever closed.
    last_opens: AtomicU64,
    closed: Mutex<HashMap<Scope, Gate>>,
    /// Requests that wait although their gate is open.
    waiting: Arc<QueueSlots>,
}

#[derive(Clone)]
struct Gate {
    opens: Instant,
    waiting: Arc<QueueSlots>,
}

/// A permit to wait for a gate to open.
pub struct GateWait {
    /// The end of the wait.
    pub until: Instant,
    _slot: OwnedPermit,
}

impl Default for Gates {
    fn default() -> Self {
        let (state, began) = (RandomState::new(), Instant::now());
        Self {
            state,
            began,
            last_opens: AtomicU64::new(0),
            closed: Mutex::default(),
            waiting: Arc::default(),
        }
    }
}

impl Gates {
    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, Gate>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn milliseconds(&self, instant: Instant) -> u64 {
        // Overflows after 500 million years.
        u64::try_from(instant.duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the scope of a request to `path` at the upstream.
    pub fn scope(&self, customer: &[u8], route: &str, path: &str) -> Scope {
        Scope::new(&self.state, customer, route, path)
    }

    /// Returns `true` if a gate may be closed. One atomic load if none ever was.
    pub fn any_closed(&self) -> bool {
        let last_opens = self.last_opens.load(Ordering::Relaxed);
        last_opens != 0 && self.milliseconds(Instant::now()) < last_opens
    }

    /// Closes a gate until `opens`, unless it is closed for longer already.
    pub fn close(&self, scope: Scope, opens: Instant) {
        let mut gates = self.lock();
        let now = Instant::now();
        gates.retain(|_, gate| gate.opens > now);
        if gates.len() >= MAX_GATES && !gates.contains_key(&scope) {
            let first = gates.iter().min_by_key(|(_, gate)| gate.opens);
            if let Some(first) = first.map(|(scope, _)| *scope) {
                gates.remove(&first);
            }
        }
        let gate = gates.entry(scope).or_insert_with(|| Gate {
            opens,
            waiting: Arc::default(),
        });
        gate.opens = gate.opens.max(opens);
        // Rounded up, so that `any_closed` is never too early.
        self.last_opens
            .fetch_max(self.milliseconds(opens) + 1, Ordering::Relaxed);
    }

    /// Returns the moment at which a gate opens; `None` if it is open.
    pub fn opens(&self, scope: Scope) -> Option<Instant> {
        self.lock()
            .get(&scope)
            .map(|gate| gate.opens)
            .filter(|opens| *opens > Instant::now())
    }

    /// Acquires a permit to wait at a gate until `until`; `None` if `max_queued` requests, or
    /// too many of the owner, wait there, or if it is open, at all open gates.
    pub fn acquire_wait(
        &self,
        scope: Scope,
        until: Instant,
        owner: &Arc<Owner>,
        max_queued: usize,
    ) -> Option<GateWait> {
        let waiting = self.lock().get(&scope).map_or_else(
            || Arc::clone(&self.waiting),
            |gate| Arc::clone(&gate.waiting),
        );
        Some(GateWait {
            until,
            _slot: waiting.acquire(owner, max_queued).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limit::owner::OwnerKey;

    const ONE: Scope = Scope(1);
    const OTHER: Scope = Scope(2);

    fn owner() -> Arc<Owner> {
        Owner::new(OwnerKey::Unix)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn gate_opens_at_the_latest_of_its_times() {
        let gates = Gates::default();
        let began = Instant::now();
        assert!(!gates.any_closed() && gates.opens(ONE).is_none());
        gates.close(ONE, began + seconds(5));
        gates.close(ONE, began + seconds(3));
        assert!(gates.any_closed());
        assert_eq!(
            (gates.opens(ONE), gates.opens(OTHER)),
            (Some(began + seconds(5)), None)
        );
        tokio::time::advance(seconds(5)).await;
        assert!(gates.opens(ONE).is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!gates.any_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_limited_per_gate() {
        let gates = Gates::default();
        let until = Instant::now() + seconds(5);
        gates.close(ONE, until);
        gates.close(OTHER, until);
        let first = gates.acquire_wait(ONE, until, &owner(), 1);
        assert!(first.is_some() && gates.acquire_wait(ONE, until, &owner(), 1).is_none());
        assert!(gates.acquire_wait(OTHER, until, &owner(), 1).is_some());
        drop(first);
        assert!(gates.acquire_wait(ONE, until, &owner(), 1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_at_open_gates_are_limited_together() {
        let gates = Gates::default();
        let until = Instant::now() + seconds(1);
        let first = gates.acquire_wait(ONE, until, &owner(), 1);
        assert!(first.is_some() && gates.acquire_wait(OTHER, until, &owner(), 1).is_none());
        drop(first);
        assert!(gates.acquire_wait(OTHER, until, &owner(), 1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn number_of_gates_is_bounded_and_open_ones_are_dropped() {
        let gates = Gates::default();
        let began = Instant::now();
        for number in 0..=MAX_GATES as u64 {
            gates.close(Scope(number.into()), began + seconds(number + 1));
        }
        assert_eq!(gates.lock().len(), MAX_GATES);
        assert!(
            gates.opens(Scope(0)).is_none(),
            "the first to open is dropped"
        );
        assert!(gates.opens(Scope(1)).is_some());
        tokio::time::advance(seconds(MAX_GATES as u64 + 1)).await;
        gates.close(ONE, Instant::now() + seconds(1));
        assert_eq!(gates.lock().len(), 1);
    }
}
