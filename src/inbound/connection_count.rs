//! The number of connections: in total, per worker, and per owner.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::limit::owner::{self, Exceeded, Owner, Owners, ResourceKind};

/// Connections a worker may have more than the least busy one before it transfers new ones.
const IMBALANCE: usize = 2;
/// Connections that every client host may have: below it, only the limit itself and the eviction of
/// idle connections apply.
const MIN_SHARE: usize = 64;

/// New connections that may wait for the eviction of another, of all workers: their descriptors
/// exceed `limits.max_connections`.
const MAX_ARRIVING: usize = 64;

/// Counts connections of callers.
#[derive(Debug)]
pub struct ConnectionCount {
    total: AtomicUsize,
    by_worker: Box<[AtomicUsize]>,
    owners: Owners,
    idle: AtomicUsize,
    arriving: AtomicUsize,
    /// The last connection that waited for an eviction was rejected.
    is_crowded: AtomicBool,
}

impl ConnectionCount {
    /// Starts with no connection.
    pub fn new(workers: usize) -> Arc<Self> {
        let by_worker = std::iter::repeat_with(AtomicUsize::default)
            .take(workers)
            .collect();
        Arc::new(Self {
            total: AtomicUsize::new(0),
            by_worker,
            owners: Owners::default(),
            idle: AtomicUsize::new(0),
            arriving: AtomicUsize::new(0),
            is_crowded: AtomicBool::new(false),
        })
    }

    /// Returns the number of connections.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Returns the number of idle HTTP/1 connections that have released their buffers.
    pub fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// Counts an idle connection until the guard is dropped.
    pub(super) fn enter_idle(&self) -> IdleGuard<'_> {
        self.idle.fetch_add(1, Ordering::Relaxed);
        IdleGuard(&self.idle)
    }

    /// Counts a new connection that waits for the eviction of another until the guard is dropped.
    /// Returns `None` if too many wait.
    pub fn enter_arriving(self: &Arc<Self>) -> Option<Arriving> {
        let guard = Arriving(Arc::clone(self));
        (self.arriving.fetch_add(1, Ordering::Relaxed) < MAX_ARRIVING).then_some(guard)
    }

    /// Returns `true` if another connection that has to wait for an eviction would be rejected,
    /// although those before it may find one.
    pub fn must_wait_to_accept(&self) -> bool {
        self.arriving.load(Ordering::Relaxed) >= MAX_ARRIVING
            && !self.is_crowded.load(Ordering::Relaxed)
    }

    /// Counts a connection until the guard is dropped.
    pub fn enter(self: &Arc<Self>, worker: usize) -> Counted {
        self.by_worker[worker].fetch_add(1, Ordering::Relaxed);
        Counted {
            number: self.total.fetch_add(1, Ordering::Relaxed) + 1,
            count: Arc::clone(self),
            worker,
        }
    }

    /// Returns the owner of connections from `address`; `None` is a Unix socket.
    pub fn owner(&self, address: Option<IpAddr>) -> Arc<Owner> {
        self.owners.at(address)
    }

    /// Counts an entered connection for its owner until the guard is dropped.
    pub fn enter_for(owner: Arc<Owner>) -> CountedOwner {
        let held = owner.held(ResourceKind::Connections);
        CountedOwner {
            number: held.fetch_add(1, Ordering::Relaxed) + 1,
            owner,
        }
    }

    /// Checks that the connection is within its owner's share of `limit`.
    ///
    /// # Errors
    /// If it exceeds the share.
    pub fn check_share(&self, counted: &CountedOwner, limit: usize) -> Result<(), Exceeded> {
        owner::check_above(MIN_SHARE, limit, self.total().min(limit), counted.number)
    }

    /// Returns the worker that should serve a new connection: `me`, unless another has clearly
    /// fewer.
    pub fn least_busy(&self, me: usize) -> usize {
        let load = |worker: &AtomicUsize| worker.load(Ordering::Relaxed);
        let least = (0..self.by_worker.len())
            .min_by_key(|&index| load(&self.by_worker[index]))
            .unwrap_or(me);
        if load(&self.by_worker[me]) > load(&self.by_worker[least]) + IMBALANCE {
            least
        } else {
            me
        }
    }
}

/// A connection in [`ConnectionCount::total`].
pub struct Counted {
    count: Arc<ConnectionCount>,
    worker: usize,
    number: usize,
}

impl Counted {
    /// Returns `true` if there were more than `limit` connections with this one.
    pub fn exceeds(&self, limit: usize) -> bool {
        self.number > limit
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.total.fetch_sub(1, Ordering::Relaxed);
        self.count.by_worker[self.worker].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A new connection that waits for the eviction of another.
pub struct Arriving(Arc<ConnectionCount>);

impl Arriving {
    /// Records whether a connection was evicted.
    pub fn end(self, has_evicted: bool) {
        self.0.is_crowded.store(!has_evicted, Ordering::Relaxed);
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if self.0.arriving.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Others may be idle when the next one arrives.
            self.0.is_crowded.store(false, Ordering::Relaxed);
        }
    }
}

/// An idle connection in [`ConnectionCount::idle`].
pub(super) struct IdleGuard<'a>(&'a AtomicUsize);

impl Drop for IdleGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection counted for its owner.
pub struct CountedOwner {
    owner: Arc<Owner>,
    number: usize,
}

impl CountedOwner {
    /// Returns the number of the owner's connections, with this one.
    pub fn number(&self) -> usize {
        self.number
    }
}

impl Drop for CountedOwner {
    fn drop(&mut self) {
        self.owner
            .held(ResourceKind::Connections)
            .fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_per_host_and_released() {
        let count = ConnectionCount::new(1);
        let enter =
            |address: &str| ConnectionCount::enter_for(count.owner(Some(address.parse().unwrap())));
        let (first, second) = (enter("10.0.0.1"), enter("::ffff:10.0.0.1"));
        assert_eq!((first.number(), second.number()), (1, 2));
        assert_eq!(enter("10.0.0.2").number(), 1);
        drop(first);
        assert_eq!(enter("10.0.0.1").number(), 2);
        let _v6 = enter("2001:db8::1");
        assert_eq!(enter("2001:db8:0:0:ffff::").number(), 2, "same /64");
        assert_eq!(enter("2001:db8:0:1::").number(), 1);
    }

    #[test]
    fn one_host_has_most_of_a_limit_and_leaves_a_part() {
        let count = ConnectionCount::new(1);
        let admit = |host: u8, limit: usize| {
            let counted = count.enter(0);
            let of_owner = ConnectionCount::enter_for(count.owner(Some([10, 0, 0, host].into())));
            let within = !counted.exceeds(limit) && count.check_share(&of_owner, limit).is_ok();
            within.then_some((counted, of_owner))
        };
        let small: Vec<_> = (0..100).filter_map(|_| admit(1, 50)).collect();
        assert_eq!(small.len(), 50);
        drop(small);
        let greedy: Vec<_> = (0..2000).filter_map(|_| admit(1, 1000)).collect();
        assert_eq!(greedy.len(), 909);
        assert_eq!((0..200).filter_map(|_| admit(2, 1000)).count(), 200);
        assert_eq!(count.total(), 909);
    }
}
