//! A queue that replicas share: the store decides which caller is next, the queue which of the
//! caller's requests is.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fleet_protocol::command::QueueLimit;
use fleet_protocol::machine::PermitId;
use fleet_protocol::{Event, Name, State};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Sharing, lock};
use crate::limit::owner::{self, Exceeded};

/// A queue of this replica, in order of arrival for each caller.
#[derive(Debug)]
pub struct SharedQueue {
    events: mpsc::Sender<Event>,
    at_once: u32,
    /// Permits in use here.
    held: AtomicUsize,
    /// Whether requests of other replicas wait for them.
    is_awaited: AtomicBool,
    state: Mutex<QueueState>,
}

/// A permit, returned to the store on drop.
#[derive(Debug)]
pub struct SharedPermit {
    queue: Arc<SharedQueue>,
    id: PermitId,
    by: State,
    used: bool,
    end: Option<EndSlot>,
}

/// A queued request; removed from the queue on drop.
#[derive(Debug)]
pub(in crate::limit) struct SharedWaiter {
    queue: Arc<SharedQueue>,
    caller: Name,
    ticket: u64,
    permit: oneshot::Receiver<SharedPermit>,
}

/// The slot of the event that ends a request: it leaves the queue, or returns its permit.
type EndSlot = mpsc::OwnedPermit<Event>;

/// Events are sent under the lock, so that they are in the order of the changes.
#[derive(Debug)]
struct QueueState {
    name: Name,
    /// The longest wait of a request.
    timeout: Duration,
    room: u32,
    queued: usize,
    last_ticket: u64,
    /// The queued requests of each caller, never an empty list.
    callers: HashMap<Name, VecDeque<Queued>>,
}

#[derive(Debug)]
struct Queued {
    ticket: u64,
    sender: oneshot::Sender<SharedPermit>,
    end: EndSlot,
}

impl QueueState {
    fn wanted(&self, caller: Name, at_once: u32) -> Event {
        Event::Wanted {
            queue: self.name,
            limit: QueueLimit {
                at_once,
                room: self.room,
                timeout: self.timeout,
            },
            caller,
        }
    }
}

impl SharedQueue {
    /// Creates a queue with `at_once` permits for all replicas.
    pub(in crate::limit) fn new(at_once: u32, sharing: Sharing<'_>) -> Arc<Self> {
        let queue = Arc::new(Self {
            events: sharing.limits.events.clone(),
            at_once,
            held: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            state: Mutex::new(QueueState {
                name: sharing.name,
                timeout: sharing.timeout,
                room: 0,
                queued: 0,
                last_ticket: 0,
                callers: HashMap::new(),
            }),
        });
        sharing.limits.add_queue(sharing.name, &queue);
        queue
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }

    /// Follows a reload, which may have changed the name.
    pub(in crate::limit) fn configure(self: &Arc<Self>, sharing: Sharing<'_>) {
        sharing.limits.add_queue(sharing.name, self);
        let mut state = self.lock();
        state.timeout = sharing.timeout;
        if state.name == sharing.name {
            return;
        }
        let before = std::mem::replace(&mut state.name, sharing.name);
        for caller in state.callers.keys().copied() {
            let queue = before;
            // Without room for both, its requests wait until their timeout.
            let _ = self.events.try_send(Event::Unwanted { queue, caller });
            let _ = self.events.try_send(state.wanted(caller, self.at_once));
        }
    }

    /// Queues a request for a permit.
    ///
    /// # Errors
    /// If `max_queued` requests, or too many of the caller, are queued, or too many events are.
    pub(in crate::limit) fn acquire(
        self: &Arc<Self>,
        caller: Name,
        max_queued: usize,
    ) -> Result<SharedWaiter, Exceeded> {
        let mut state = self.lock();
        state.room = u32::try_from(max_queued).unwrap_or(u32::MAX);
        let held = state.callers.get(&caller).map_or(0, VecDeque::len);
        // One request always waits: that for the store's decision.
        if state.queued > 0 {
            owner::check(max_queued, state.queued + 1, held + 1)?;
        }
        let end = self.events.clone().try_reserve_owned();
        let end = end.map_err(|_| Exceeded::Limit)?;
        if held == 0 {
            let wanted = self.events.try_send(state.wanted(caller, self.at_once));
            wanted.map_err(|_| Exceeded::Limit)?;
        }
        state.queued += 1;
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        let (sender, permit) = oneshot::channel();
        let queued = Queued {
            ticket,
            sender,
            end,
        };
        state.callers.entry(caller).or_default().push_back(queued);
        Ok(SharedWaiter {
            queue: Arc::clone(self),
            caller,
            ticket,
            permit,
        })
    }

    /// Gives a permit to the first request of a caller. Returns an event that is due because of it.
    pub(super) fn granted(
        self: &Arc<Self>,
        caller: Name,
        id: PermitId,
        by: State,
    ) -> Option<Event> {
        let mut state = self.lock();
        let line = state.callers.get_mut(&caller);
        let Some(Queued { sender, end, .. }) = line.and_then(VecDeque::pop_front) else {
            return Some(Event::Released(id));
        };
        state.queued -= 1;
        let next = if state.callers.get(&caller).is_some_and(VecDeque::is_empty) {
            state.callers.remove(&caller);
            None
        } else {
            Some(state.wanted(caller, self.at_once))
        };
        drop(state);
        if self.held.fetch_add(1, Ordering::Relaxed) == 0 {
            self.is_awaited.store(false, Ordering::Relaxed);
        }
        // Returned by its drop if the request is gone.
        let _ = sender.send(SharedPermit {
            queue: Arc::clone(self),
            id,
            by,
            used: false,
            end: Some(end),
        });
        next
    }

    /// Returns `true` if requests are queued, here or in another replica.
    pub(in crate::limit) fn is_contended(&self) -> bool {
        self.is_awaited.load(Ordering::Relaxed) || self.lock().queued > 0
    }

    /// Returns `true` if no permit is in use and nothing is kept of any request.
    #[cfg(test)]
    pub(in crate::limit) fn is_idle(&self) -> bool {
        let state = self.lock();
        !self.is_held() && state.queued == 0 && state.callers.is_empty()
    }

    /// Returns `true` if permits are in use here.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }

    /// Sets whether requests wait in the store for the permits in use here.
    pub fn set_awaited(&self, is_awaited: bool) {
        self.is_awaited.store(is_awaited, Ordering::Relaxed);
    }

    /// Removes a request, unless its permit was sent.
    fn remove(&self, caller: Name, ticket: u64) {
        let mut state = self.lock();
        let Some(line) = state.callers.get_mut(&caller) else {
            return;
        };
        let Ok(index) = line.binary_search_by_key(&ticket, |queued| queued.ticket) else {
            return;
        };
        let removed = line.remove(index);
        let is_last = line.is_empty();
        state.queued -= 1;
        if is_last {
            state.callers.remove(&caller);
            let queue = state.name;
            if let Some(Queued { end, .. }) = removed {
                end.send(Event::Unwanted { queue, caller });
            }
        }
    }
}

impl SharedPermit {
    /// Returns the queue.
    pub(in crate::limit) fn queue(&self) -> &Arc<SharedQueue> {
        &self.queue
    }

    /// Returns the state in which it was granted.
    pub(in crate::limit) fn by(&self) -> State {
        self.by
    }

    /// Records that a use of the permit begins, in place of an earlier use.
    pub(in crate::limit) fn begin_use(&mut self) {
        if std::mem::replace(&mut self.used, true) {
            // Without room for it, the permit rests longer while the store is away.
            let _ = self.queue.events.try_send(Event::Used(self.id));
        }
    }
}

impl Drop for SharedPermit {
    fn drop(&mut self) {
        self.queue.held.fetch_sub(1, Ordering::Relaxed);
        if let Some(end) = self.end.take() {
            end.send(Event::Released(self.id));
        }
    }
}

impl SharedWaiter {
    /// Waits for the permit; `None` at the deadline.
    pub(in crate::limit) async fn wait(mut self, deadline: Instant) -> Option<SharedPermit> {
        timeout_at(deadline, &mut self.permit).await.ok()?.ok()
    }
}

impl Drop for SharedWaiter {
    /// A permit that was sent already returns itself when the channel is dropped.
    fn drop(&mut self) {
        self.queue.remove(self.caller, self.ticket);
    }
}

#[cfg(test)]
mod tests;
