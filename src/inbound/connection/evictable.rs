//! The order in which connections that wait for their clients are closed for the benefit of others.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, ConnectionPhase, Directive, waited};
use crate::config::Limits;
use crate::limit::owner::{Exceeded, Owner};

/// Time of one wait for a caller, whatever it transfers, after which its connection may be evicted
/// at `limits.max_in_flight`; at most a quarter of `limits.body_idle_timeout`.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// Minimum time between two searches for connections to evict, per connection searched. A search
/// takes a tenth of it.
const SEARCH_INTERVAL: Duration = Duration::from_micros(1);

/// Connections that wait for their clients, the first to be evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evictable {
    /// Without an admitted request: it waits for a request, the rest of one, the end of a delay, or
    /// for its client to read a rejection.
    WithoutRequest,
    /// Between the start of its TLS handshake, which costs far more than a rejection, and the head
    /// of its first request.
    Handshake,
    /// After an admitted request.
    Idle,
}

/// Of connections of one kind, the one with the smallest [`Connection::entered`] is evicted first.
pub(super) type EvictionOrder = (Evictable, u64);

/// The result of a search for connections to evict.
#[derive(Default)]
pub(super) struct FoundConnections {
    /// Those of each kind with their [`Connection::entered`] at the time, the first to evict at the
    /// end.
    connections: [Vec<(u64, Weak<Connection>)>; 3],
    searched: Option<Instant>,
}

impl Connection {
    /// Returns `true` if the connection was aborted for the benefit of others.
    pub fn is_evicted(&self) -> bool {
        self.evicted.get()
    }

    /// Returns `true` if the caller must send or read before an exchange continues, unless the
    /// connection is being closed.
    pub(super) fn is_waited_for(&self) -> bool {
        (self.waits.get() > 0 || self.write_blocked.get()) && !self.evicted.get()
    }

    /// Returns the start of the wait for the caller, if it has lasted long enough for an eviction.
    pub(super) fn stalled_since(&self, limits: &Limits, now: Instant) -> Option<Instant> {
        if !self.is_waited_for() {
            self.waits_since.set(None);
            return None;
        }
        let limit = STALLED_AFTER.min(limits.body_idle_timeout / 4);
        let waited = waited(&self.waits_since, now);
        self.waits_since.get().filter(|_| waited >= limit)
    }

    /// Closes the connection for the benefit of others.
    pub(super) fn evict(&self) {
        tracing::debug!(
            admitted = self.admitted.get(),
            "connection evicted; a limit is reached"
        );
        self.evicted.set(true);
        self.direct(Directive::Abort);
    }

    /// Closes a connection of this worker that waits for its caller, so that `owner` gets its
    /// permit. Returns `false` if there is none.
    pub fn evict_stalled(&self, owner: &Owner, exceeded: Exceeded) -> bool {
        self.all
            .upgrade()
            .is_some_and(|all| all.evict_stalled(owner, exceeded))
    }

    /// Records the owner of a permit of `limits.max_in_flight`.
    pub fn set_holder(&self, owner: &Arc<Owner>) {
        let mut holder = self.holder.borrow_mut();
        if !holder
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, owner))
        {
            *holder = Some(Arc::clone(owner));
        }
    }

    /// Returns the order in which a connection that waits for its client is evicted, the smallest
    /// first. `None` if it must not be evicted.
    pub(super) fn eviction_order(&self) -> Option<EvictionOrder> {
        if self.evicted.get() {
            return None;
        }
        let kind = match (self.phase.get(), self.admitted.get()) {
            (ConnectionPhase::Arriving, _) => return None,
            (ConnectionPhase::Idle, true) => Evictable::Idle,
            (_, true) => return None,
            _ if self.handshake.get() && !self.was_used.get() => Evictable::Handshake,
            _ => Evictable::WithoutRequest,
        };
        Some((kind, self.entered.get()))
    }
}

impl FoundConnections {
    /// Removes the first connection of this kind and `owner` that has not changed since the search.
    /// It has waited since the phase change `before` or longer.
    pub(super) fn take(
        &mut self,
        kind: Evictable,
        before: u64,
        owner: Option<&Arc<Owner>>,
    ) -> Option<Rc<Connection>> {
        let connections = &mut self.connections[kind as usize];
        let mut index = connections.len();
        while let Some(next) = index.checked_sub(1) {
            index = next;
            let (entered, connection) = &connections[index];
            if *entered > before {
                return None;
            }
            let unchanged = connection
                .upgrade()
                .filter(|connection| connection.eviction_order() == Some((kind, *entered)));
            match unchanged {
                Some(other) if owner.is_some_and(|owner| !Arc::ptr_eq(owner, other.owner())) => {}
                found => {
                    connections.remove(index);
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
        None
    }

    /// Replaces the connections, unless the last search was a short time ago.
    pub(super) fn search(&mut self, all: &HashMap<u64, Rc<Connection>>) {
        let now = Instant::now();
        let interval = SEARCH_INTERVAL * u32::try_from(all.len()).unwrap_or(u32::MAX);
        if self.searched.is_some_and(|last| now < last + interval) {
            return;
        }
        self.searched = Some(now);
        self.connections.iter_mut().for_each(Vec::clear);
        for connection in all.values() {
            if let Some((kind, entered)) = connection.eviction_order() {
                self.connections[kind as usize].push((entered, Rc::downgrade(connection)));
            }
        }
        for connections in &mut self.connections {
            connections.sort_unstable_by_key(|(entered, _)| Reverse(*entered));
        }
    }
}
