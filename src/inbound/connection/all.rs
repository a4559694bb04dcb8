//! The connections of a worker, and the sweep that closes overdue ones.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;

use super::caller_time::CallerTime;
use super::evictable::{Evictable, FoundConnections};
use super::evictions::{EvictionLimit, Evictions};
use super::turns::Turns;
use super::{Connection, Directive};
use crate::config::Limits;
use crate::limit::owner::{Exceeded, Owner, Resource, ResourceKind};

/// Connections parked per sweep, so that many that fall idle at once do not delay the others.
const MAX_PARKED: usize = 500;
/// Yields after which all connections have read what had arrived before: the first completes after
/// all that is ready has run and sockets were polled, the second after what they made ready.
const READ_ROUNDS: usize = 2;

/// All connections of one worker.
pub struct Connections {
    pub(super) all: RefCell<HashMap<u64, Rc<Connection>>>,
    /// The waits of exchanges that hold queue permits.
    held: RefCell<Vec<Weak<CallerTime>>>,
    phase_changes: Rc<Cell<u64>>,
    /// Phase changes at the last two sweeps.
    swept: Cell<[u64; 2]>,
    evictable: RefCell<FoundConnections>,
    /// Those that had waited too long for their callers at the last sweep, the longest at the end.
    stalled: RefCell<Vec<(Instant, Weak<Connection>)>>,
    next: Cell<u64>,
    pub(super) turns: Turns,
    /// Bytes of unfinished heads, of all workers.
    heads: Arc<Resource>,
    /// Bytes of the HTTP/2 streams of connections with an admitted request, of all workers.
    streams: Arc<Resource>,
    evictions: Evictions,
}

impl Connections {
    /// Creates an empty set. `heads` counts the bytes of unfinished heads of all workers, `streams`
    /// those of HTTP/2 streams after an admitted request.
    pub fn new(heads: Arc<Resource>, streams: Arc<Resource>, evictions: Evictions) -> Rc<Self> {
        Rc::new(Self {
            all: RefCell::default(),
            held: RefCell::default(),
            phase_changes: Rc::default(),
            swept: Cell::default(),
            evictable: RefCell::default(),
            stalled: RefCell::default(),
            next: Cell::new(0),
            turns: Turns::default(),
            heads,
            streams,
            evictions,
        })
    }

    /// Returns the bytes of unfinished heads of all workers.
    pub(super) fn heads(&self) -> &Arc<Resource> {
        &self.heads
    }

    /// Returns the bytes of HTTP/2 streams of connections with an admitted request.
    pub(super) fn streams(&self) -> &Arc<Resource> {
        &self.streams
    }

    /// Adds a new connection until the guard is dropped.
    pub fn register(self: &Rc<Self>) -> RegisteredConnection {
        let id = self.next.get();
        self.next.set(id + 1);
        let connection = Rc::new(Connection::new(
            Rc::downgrade(self),
            id,
            Rc::clone(&self.phase_changes),
        ));
        self.all.borrow_mut().insert(id, Rc::clone(&connection));
        RegisteredConnection {
            connection,
            id,
            all: Rc::downgrade(self),
        }
    }

    /// Returns the number of connections.
    pub fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Returns the number of phase changes of all connections so far.
    pub fn phase_changes(&self) -> u64 {
        self.phase_changes.get()
    }

    /// Returns `true` without connections.
    pub fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Returns the number of connections with a request in progress.
    pub fn busy(&self) -> usize {
        self.all
            .borrow()
            .values()
            .filter(|connection| connection.is_busy())
            .count()
    }

    /// Drains all connections on which no request is arriving. Called repeatedly, until those have
    /// been drained too.
    pub fn drain_all(&self) {
        let now = Instant::now();
        let all = self.all.borrow();
        for connection in all
            .values()
            .filter(|connection| !connection.is_receiving_head(now))
        {
            connection.direct(Directive::Drain);
        }
    }

    /// Closes all connections, because the program stops.
    pub fn abort_all(&self) {
        for connection in self.all.borrow().values() {
            connection.stopped.set(true);
            connection.direct(Directive::Abort);
        }
    }

    /// Bounds the waits of an exchange that holds a queue permit.
    pub(super) fn watch(&self, time: &Rc<CallerTime>) {
        self.held.borrow_mut().push(Rc::downgrade(time));
    }

    /// Closes or parks overdue connections, and ends exchanges that keep others waiting.
    pub fn sweep(&self, limits: &Limits) {
        let now = Instant::now();
        self.held.borrow_mut().retain(|time| {
            time.upgrade()
                .is_some_and(|time| self.sweep_held(&time, limits, now))
        });
        let mut parked = 0;
        let [_, last] = self.swept.get();
        self.swept.set([last, self.phase_changes.get()]);
        // The next eviction begins with the order of its time.
        *self.evictable.borrow_mut() = FoundConnections::default();
        let mut stalled = self.stalled.borrow_mut();
        stalled.clear();
        for connection in self.all.borrow().values() {
            if let Some(since) = connection.stalled_since(limits, now) {
                stalled.push((since, Rc::downgrade(connection)));
            }
            match connection.overdue(limits, now) {
                Some(Directive::Park) if parked >= MAX_PARKED => {}
                Some(Directive::Park) => {
                    parked += 1;
                    connection.may_park.set(false);
                    connection.direct(Directive::Park);
                }
                Some(directive) => connection.direct(directive),
                None => {}
            }
        }
        stalled.sort_unstable_by_key(|(since, _)| Reverse(*since));
    }

    /// Ends an exchange whose time is over. Returns `false` once its permit is released.
    fn sweep_held(&self, time: &CallerTime, limits: &Limits, now: Instant) -> bool {
        let was_revoked = time.is_revoked();
        let is_held = time.sweep(limits, now);
        if !was_revoked && time.is_revoked() {
            self.evictions.count(EvictionLimit::Concurrent);
        }
        is_held
    }

    /// Closes a connection that waits for its caller, so that `owner` gets a permit: of the owners
    /// with such connections the one that holds the most permits loses the one that has waited
    /// longest, if it holds more than `owner`. Beyond its share, `owner` loses its own. Returns
    /// `false` if there is none.
    pub(super) fn evict_stalled(&self, owner: &Owner, exceeded: Exceeded) -> bool {
        let permits = |owner: &Owner| owner.held(ResourceKind::InFlight).load(Ordering::Relaxed);
        let (held, at_limit) = (permits(owner), exceeded == Exceeded::Limit);
        let mut stalled = self.stalled.borrow_mut();
        // A wait may have ended since the sweep.
        let waits = |connection: &Weak<Connection>| {
            connection
                .upgrade()
                .is_some_and(|connection| connection.is_waited_for())
        };
        stalled.retain(|(_, connection)| waits(connection));
        // Of equal ones the last, which has waited longest.
        let evicted = stalled
            .iter()
            .enumerate()
            .filter_map(|(index, (_, connection))| {
                let connection = connection.upgrade()?;
                let holder = connection.holder.borrow();
                let holder = holder.as_ref()?;
                let is_own = holder.key() == owner.key();
                let yields = is_own || at_limit && permits(holder) > held;
                yields.then(|| (permits(holder), index))
            })
            .max();
        let Some((_, index)) = evicted else {
            return false;
        };
        if let Some(connection) = stalled.remove(index).1.upgrade() {
            connection.evict();
            self.evictions.count(EvictionLimit::InFlight);
        }
        true
    }

    /// Closes the connection that has waited longest for its client, if given, of this owner; one
    /// without an admitted request before all others. Returns `false` if there is none.
    ///
    /// Before, all connections read what has arrived, for which an overloaded worker takes a while:
    /// what seems idle may have a request.
    pub async fn evict(&self, owner: Option<&Arc<Owner>>) -> bool {
        let all_read = self.phase_changes.get();
        for _ in 0..READ_ROUNDS {
            yield_now().await;
        }
        let [swept, _] = self.swept.get();
        let mut found = self.evictable.borrow_mut();
        // Those that arrived after the search come before the other kinds.
        let evicted = found
            .take(Evictable::WithoutRequest, all_read, owner)
            .or_else(|| {
                found.search(&self.all.borrow());
                found.take(Evictable::WithoutRequest, all_read, owner)
            })
            // A busy gateway that evicted the handshakes it has begun would complete none.
            .or_else(|| found.take(Evictable::Handshake, swept, owner))
            .or_else(|| found.take(Evictable::Idle, all_read, owner));
        if let Some(connection) = &evicted {
            connection.evict();
            self.evictions.count(EvictionLimit::Connections);
        }
        evicted.is_some()
    }
}

/// Returns the time between two calls of [`Connections::sweep`]: a tenth of the shortest timeout.
pub fn sweep_interval(limits: &Limits) -> Duration {
    let shortest = limits
        .header_read_timeout
        .min(limits.keep_alive_timeout)
        .min(limits.body_idle_timeout);
    (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

/// A connection in [`Connections`].
pub struct RegisteredConnection {
    connection: Rc<Connection>,
    id: u64,
    all: Weak<Connections>,
}

impl RegisteredConnection {
    /// Returns the state of the connection.
    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }
}

impl Drop for RegisteredConnection {
    fn drop(&mut self) {
        if let Some(all) = self.all.upgrade() {
            all.all.borrow_mut().remove(&self.id);
        }
    }
}
