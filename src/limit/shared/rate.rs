//! A rate that replicas share: the store gives each request its slot.

use std::sync::{Arc, Mutex};

use fleet_protocol::command::Rate;
use fleet_protocol::machine::Slot;
use fleet_protocol::{Event, Name};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{SharedLimits, Sharing, lock};

/// A rate for all replicas.
#[derive(Debug)]
pub struct SharedRate {
    limits: Arc<SharedLimits>,
    state: Mutex<RateState>,
}

#[derive(Debug)]
struct RateState {
    name: Name,
    rate: Rate,
    /// The request that waits for a slot. The queue of the limit admits one at a time.
    waiting: Option<oneshot::Sender<Slot>>,
}

/// Ends the wait for a slot.
struct Reserving<'r>(&'r SharedRate);

impl Drop for Reserving<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if state.waiting.take().is_some() {
            // Without room for it, a slot may be unused.
            let _ = self.0.limits.events.try_send(Event::Unreserve(state.name));
        }
    }
}

impl SharedRate {
    /// Creates a rate of `per_second` requests, with a burst of as many.
    pub(in crate::limit) fn new(per_second: u32, sharing: Sharing<'_>) -> Arc<Self> {
        let rate = Rate::per_second(per_second, sharing.timeout);
        let shared = Arc::new(Self {
            limits: Arc::clone(sharing.limits),
            state: Mutex::new(RateState {
                name: sharing.name,
                rate,
                waiting: None,
            }),
        });
        sharing.limits.add_rate(sharing.name, &shared);
        shared
    }

    /// Follows a reload, which may have changed the name.
    pub(in crate::limit) fn configure(self: &Arc<Self>, sharing: Sharing<'_>) {
        sharing.limits.add_rate(sharing.name, self);
        let mut state = lock(&self.state);
        state.name = sharing.name;
        state.rate.timeout = sharing.timeout;
    }

    /// Requests a slot; `None` at the deadline.
    pub(in crate::limit) async fn reserve(&self, deadline: Instant) -> Option<Slot> {
        let (sender, slot) = oneshot::channel();
        let _reserving = Reserving(self);
        {
            let mut state = lock(&self.state);
            let reserve = Event::Reserve {
                limit: state.name,
                rate: state.rate,
                until: self.limits.time(deadline),
            };
            state.waiting = Some(sender);
            self.limits.events.try_send(reserve).ok()?;
        }
        timeout_at(deadline, slot).await.ok()?.ok()
    }

    /// Gives a slot to the request that waits for it.
    pub(super) fn reserved(&self, slot: Slot) {
        if let Some(waiting) = lock(&self.state).waiting.take() {
            // The request may be gone.
            let _ = waiting.send(slot);
        }
    }
}
