//! A bounded number of permits and a fair queue for them.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_protocol::spacing::Spacing;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::limit::owner::{self, Exceeded, OwnerKey};

/// A fair queue for all workers: round robin between keys, in order of arrival within one.
#[derive(Debug)]
pub(super) struct FairQueue {
    permits: NonZeroUsize,
    state: Mutex<QueueState>,
}

/// A permit, passed to the next queued request on drop.
#[derive(Debug)]
pub struct OwnPermit {
    /// `None` if the drop must not pass it on.
    queue: Option<Arc<FairQueue>>,
    /// End of the rest after its last use; `None` if it need not rest.
    rests_until: Option<Instant>,
    /// Start of its use, if it must rest afterwards.
    in_use: Option<(Instant, Spacing)>,
}

/// The result of [`FairQueue::acquire`].
#[derive(Debug)]
pub(super) enum Acquired {
    Permit(OwnPermit),
    Queued(Waiter),
}

/// A queued request; removed from the queue on drop.
#[derive(Debug)]
pub(super) struct Waiter {
    queue: Arc<FairQueue>,
    key: OwnerKey,
    ticket: u64,
    permit: oneshot::Receiver<OwnPermit>,
}

/// Requests are queued only while all permits are in use.
#[derive(Debug, Default)]
struct QueueState {
    in_use: usize,
    queued: usize,
    last_ticket: u64,
    /// The ends of the rests of permits that are not in use. Others need not rest.
    resting: Vec<Instant>,
    /// The keys with queued requests, the next one first.
    order: VecDeque<OwnerKey>,
    /// The queued requests of each key, never an empty list.
    by_key: HashMap<OwnerKey, VecDeque<QueuedPermit>>,
}

#[derive(Debug)]
struct QueuedPermit {
    ticket: u64,
    sender: oneshot::Sender<OwnPermit>,
}

impl FairQueue {
    pub(super) fn new(permits: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self {
            permits,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if requests are queued.
    pub(super) fn is_contended(&self) -> bool {
        self.lock().queued > 0
    }

    /// Returns `true` if no permit is in use and nothing is kept of any request.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        let is_empty = state.order.is_empty() && state.by_key.is_empty();
        state.in_use == 0 && state.queued == 0 && is_empty
    }

    /// Acquires a permit, or queues for one.
    ///
    /// # Errors
    /// If all permits are in use, and `max_queued` requests or too many of the owner are queued.
    pub(super) fn acquire(
        self: &Arc<Self>,
        key: OwnerKey,
        max_queued: usize,
    ) -> Result<Acquired, Exceeded> {
        let mut state = self.lock();
        if state.in_use < self.permits.get() {
            let idle = self.permits.get() - state.in_use;
            let rests_until = state.take_rest(idle);
            state.in_use += 1;
            return Ok(Acquired::Permit(self.permit(rests_until)));
        }
        let held = state.by_key.get(&key).map_or(0, VecDeque::len);
        owner::check(max_queued, state.queued + 1, held + 1)?;
        let (sender, receiver) = oneshot::channel();
        let ticket = state.push(key, sender);
        drop(state);
        Ok(Acquired::Queued(Waiter {
            queue: Arc::clone(self),
            key,
            ticket,
            permit: receiver,
        }))
    }

    fn permit(self: &Arc<Self>, rests_until: Option<Instant>) -> OwnPermit {
        OwnPermit {
            queue: Some(Arc::clone(self)),
            rests_until,
            in_use: None,
        }
    }

    /// Passes a released permit to the next queued request.
    fn pass_on(self: &Arc<Self>, rests_until: Option<Instant>) {
        loop {
            let mut state = self.lock();
            let Some(next) = state.pop() else {
                state.in_use -= 1;
                state.resting.extend(rests_until);
                return;
            };
            drop(state);
            match next.sender.send(self.permit(rests_until)) {
                Ok(()) => return,
                // The waiter is gone. Dropping the permit as it is would recurse.
                Err(mut permit) => permit.queue = None,
            }
        }
    }
}

impl OwnPermit {
    /// Returns the queue.
    pub(super) fn queue(&self) -> Option<&Arc<FairQueue>> {
        self.queue.as_ref()
    }

    /// Returns the time before which the permit must not be used.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    /// Records that a use of the permit begins, in place of an earlier use. The permit rests after
    /// it.
    pub fn begin_use(&mut self, spacing: Spacing) {
        self.in_use = Some((Instant::now(), spacing));
    }

    /// Returns the end of the rest after the use. The rest of a permit that was not used continues.
    fn next_rest(&self) -> Option<Instant> {
        let Some((since, spacing)) = self.in_use else {
            return self.rests_until;
        };
        let now = Instant::now();
        let rest = spacing.rest(now.saturating_duration_since(since), fastrand::f64());
        (!rest.is_zero()).then(|| now + rest)
    }
}

impl Drop for OwnPermit {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.pass_on(self.next_rest());
        }
    }
}

impl Waiter {
    /// Waits for the permit; `None` at the deadline.
    pub(super) async fn wait(mut self, deadline: Instant) -> Option<OwnPermit> {
        timeout_at(deadline, &mut self.permit).await.ok()?.ok()
    }
}

impl Drop for Waiter {
    /// A permit that was sent already passes itself on when the channel is dropped.
    fn drop(&mut self) {
        self.queue.lock().remove(self.key, self.ticket);
    }
}

impl QueueState {
    /// Takes one of `idle` permits: one that need not rest, else the one whose rest ends first.
    fn take_rest(&mut self, idle: usize) -> Option<Instant> {
        if self.resting.is_empty() {
            return None;
        }
        let now = Instant::now();
        self.resting.retain(|end| *end > now);
        if self.resting.len() < idle {
            return None;
        }
        let ends = self.resting.iter().enumerate();
        let (first, _) = ends.min_by_key(|(_, end)| **end)?;
        Some(self.resting.swap_remove(first))
    }

    fn push(&mut self, key: OwnerKey, sender: oneshot::Sender<OwnPermit>) -> u64 {
        self.last_ticket += 1;
        self.queued += 1;
        let line = self.by_key.entry(key).or_default();
        if line.is_empty() {
            self.order.push_back(key);
        }
        line.push_back(QueuedPermit {
            ticket: self.last_ticket,
            sender,
        });
        self.last_ticket
    }

    /// Removes the oldest request of the next key, and moves that key to the end.
    fn pop(&mut self) -> Option<QueuedPermit> {
        let key = self.order.pop_front()?;
        let line = self.by_key.get_mut(&key)?;
        let first = line.pop_front();
        if line.is_empty() {
            self.by_key.remove(&key);
        } else {
            self.order.push_back(key);
        }
        self.queued -= usize::from(first.is_some());
        first
    }

    /// Removes a request, unless its permit was sent.
    fn remove(&mut self, key: OwnerKey, ticket: u64) {
        let Some(line) = self.by_key.get_mut(&key) else {
            return;
        };
        let Ok(index) = line.binary_search_by_key(&ticket, |queued| queued.ticket) else {
            return;
        };
        line.remove(index);
        self.queued -= 1;
        if line.is_empty() {
            self.by_key.remove(&key);
            self.order.retain(|queued| *queued != key);
        }
    }
}

#[cfg(test)]
mod tests;
