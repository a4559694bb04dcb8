//! Limits that replicas share through a store. A thread of its own asks the store; the limits send
//! it events and get its decisions.

pub mod queue;
pub mod rate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fleet_protocol::machine::{PermitId, Slot};
use fleet_protocol::{Event, Name, State, Time};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::queue::SharedQueue;
use self::rate::SharedRate;

/// Queues about which the store is asked at a time.
const MAX_HELD: usize = 256;

/// The limits that replicas share, by their names in the store.
#[derive(Debug)]
pub struct SharedLimits {
    events: mpsc::Sender<Event>,
    origin: Instant,
    queues: Mutex<HashMap<Name, Weak<SharedQueue>>>,
    rates: Mutex<HashMap<Name, Weak<SharedRate>>>,
}

/// A limit as replicas share it.
#[derive(Clone, Copy, Debug)]
pub struct Sharing<'f> {
    pub limits: &'f Arc<SharedLimits>,
    /// The limit's name in the store.
    pub name: Name,
    /// The longest wait of a request.
    pub timeout: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedLimits {
    /// Creates a registry whose limits send `events`. Times in them count from `origin`.
    pub fn new(events: mpsc::Sender<Event>, origin: Instant) -> Arc<Self> {
        Arc::new(Self {
            events,
            origin,
            queues: Mutex::default(),
            rates: Mutex::default(),
        })
    }

    /// Returns the time that events state for `instant`.
    fn time(&self, instant: Instant) -> Time {
        Time::new(instant.saturating_duration_since(self.origin))
    }

    fn add_queue(&self, name: Name, queue: &Arc<SharedQueue>) {
        add(&self.queues, name, queue);
    }

    fn add_rate(&self, name: Name, rate: &Arc<SharedRate>) {
        add(&self.rates, name, rate);
    }

    /// Returns queues of which this replica holds permits.
    pub fn held(&self) -> Vec<(Name, Arc<SharedQueue>)> {
        let queues = lock(&self.queues);
        let queues = queues.iter();
        let queues = queues.filter_map(|(name, queue)| Some((*name, queue.upgrade()?)));
        let held = queues.filter(|(_, queue)| queue.is_held());
        held.take(MAX_HELD).collect()
    }

    /// Gives a permit to the first request of a caller in a queue. Returns an event that is due
    /// because of it.
    pub fn granted(&self, queue: Name, caller: Name, permit: PermitId, by: State) -> Option<Event> {
        let queue = lock(&self.queues).get(&queue).and_then(Weak::upgrade);
        match queue {
            Some(queue) => queue.granted(caller, permit, by),
            None => Some(Event::Released(permit)),
        }
    }

    /// Gives a slot to the request that waits for it.
    pub fn reserved(&self, limit: Name, slot: Slot) {
        let rate = lock(&self.rates).get(&limit).and_then(Weak::upgrade);
        if let Some(rate) = rate {
            rate.reserved(slot);
        }
    }
}

/// Adds a limit, or its new name. Names that are not used any more are removed.
fn add<T>(limits: &Mutex<HashMap<Name, Weak<T>>>, name: Name, limit: &Arc<T>) {
    let mut limits = lock(limits);
    let limit = Arc::downgrade(limit);
    limits.retain(|_, other| other.strong_count() > 0 && !other.ptr_eq(&limit));
    limits.insert(name, limit);
}
