//! A few at a time, and the others in a fair queue.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Who waits: callers take turns, whatever each of them asks for and however many machines it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueKey {
    /// One of the configured ones, by its place in the configuration.
    Configured(usize),
    /// Somebody at this address; `None` on a unix socket.
    Address(Option<IpAddr>),
}

impl QueueKey {
    /// A caller by its address; one that came in both families' spellings is one.
    pub fn at(address: Option<IpAddr>) -> Self {
        Self::Address(address.map(|address| address.to_canonical()))
    }
}

/// What lets a few through at a time, for all workers. Callers that wait are served in turn, each one's requests in
/// the order they came.
#[derive(Debug)]
pub(super) struct FairQueue {
    at_once: NonZeroUsize,
    queue: Mutex<Queue>,
}

/// The right to go; whoever waits next has it when it is dropped.
#[derive(Debug)]
pub struct QueuePermit {
    /// `None` once it was taken back.
    lane: Option<Arc<FairQueue>>,
}

/// What a lane says to a request.
#[derive(Debug)]
pub(super) enum Asked {
    /// Go.
    Now(QueuePermit),
    /// Wait.
    Later(Waiter),
}

/// A place in the queue; given up when dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    lane: Arc<FairQueue>,
    caller: QueueKey,
    ticket: u64,
    turn: oneshot::Receiver<QueuePermit>,
}

/// As many wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// The queue as the lock guards it. Nobody waits unless `running` is all there may be.
#[derive(Debug, Default)]
struct Queue {
    running: usize,
    waiting: usize,
    tickets: u64,
    /// The callers that wait, the next one first.
    order: VecDeque<QueueKey>,
    /// What each of them waits with, never nothing.
    lines: HashMap<QueueKey, VecDeque<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    turn: oneshot::Sender<QueuePermit>,
}

impl FairQueue {
    /// A lane for so many at a time.
    pub(super) fn new(at_once: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self {
            at_once,
            queue: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn, or a place in the queue.
    ///
    /// # Errors
    /// When `room` wait already.
    pub(super) fn ask(self: &Arc<Self>, caller: QueueKey, room: usize) -> Result<Asked, QueueFull> {
        let mut queue = self.lock();
        if queue.running < self.at_once.get() {
            queue.running += 1;
            return Ok(Asked::Now(self.turn()));
        }
        if queue.waiting >= room {
            return Err(QueueFull);
        }
        let (sender, receiver) = oneshot::channel();
        let ticket = queue.enter(caller, sender);
        drop(queue);
        Ok(Asked::Later(Waiter {
            lane: Arc::clone(self),
            caller,
            ticket,
            turn: receiver,
        }))
    }

    fn turn(self: &Arc<Self>) -> QueuePermit {
        QueuePermit {
            lane: Some(Arc::clone(self)),
        }
    }

    /// Gives a turn that ended to who waits next.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let mut queue = self.lock();
            let Some(next) = queue.leave_first() else {
                queue.running -= 1;
                return;
            };
            drop(queue);
            match next.turn.send(self.turn()) {
                Ok(()) => return,
                // It left meanwhile. The turn must not pass itself on: that would recur.
                Err(mut turn) => turn.lane = None,
            }
        }
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            lane.pass_on();
        }
    }
}

impl Waiter {
    /// The turn, if it comes in time.
    pub(super) async fn turn(mut self, deadline: Instant) -> Option<QueuePermit> {
        timeout_at(deadline, &mut self.turn).await.ok()?.ok()
    }
}

impl Drop for Waiter {
    /// A turn that is on its way passes on by itself, as nobody takes it.
    fn drop(&mut self) {
        self.lane.lock().leave(self.caller, self.ticket);
    }
}

impl Queue {
    fn enter(&mut self, caller: QueueKey, turn: oneshot::Sender<QueuePermit>) -> u64 {
        self.tickets += 1;
        self.waiting += 1;
        let line = self.lines.entry(caller).or_default();
        if line.is_empty() {
            self.order.push_back(caller);
        }
        line.push_back(Waiting {
            ticket: self.tickets,
            turn,
        });
        self.tickets
    }

    /// The first of the next caller, who then is the last.
    fn leave_first(&mut self) -> Option<Waiting> {
        let caller = self.order.pop_front()?;
        let line = self.lines.get_mut(&caller)?;
        let first = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&caller);
        } else {
            self.order.push_back(caller);
        }
        self.waiting -= usize::from(first.is_some());
        first
    }

    /// Gives up a place, unless its turn came.
    fn leave(&mut self, caller: QueueKey, ticket: u64) {
        let Some(line) = self.lines.get_mut(&caller) else {
            return;
        };
        let Ok(at) = line.binary_search_by_key(&ticket, |place| place.ticket) else {
            return;
        };
        line.remove(at);
        self.waiting -= 1;
        if line.is_empty() {
            self.lines.remove(&caller);
            self.order.retain(|waiting| *waiting != caller);
        }
    }
}

#[cfg(test)]
mod tests;
