//! The number of connections: in total, per worker, and per address.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections a worker may have more than the least busy one before it transfers new ones.
const IMBALANCE: usize = 2;
/// Shards of the counts per address, each with its own lock.
const SHARDS: usize = 16;
/// Mask of the part of an IPv6 address that identifies a host, which has a whole /64 of addresses.
const IPV6_NETWORK: u128 = !0 << 64;

/// Counts connections of callers.
#[derive(Debug)]
pub struct ConnectionCount {
    total: AtomicUsize,
    by_worker: Box<[AtomicUsize]>,
    by_address: ByAddress,
    idle: AtomicUsize,
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
            by_address: ByAddress::default(),
            idle: AtomicUsize::new(0),
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

    /// Counts a connection, unless there are `limit` already.
    pub fn enter(self: &Arc<Self>, worker: usize, limit: usize) -> Option<Counted> {
        let counted = Counted {
            count: Arc::clone(self),
            worker,
        };
        self.by_worker[worker].fetch_add(1, Ordering::Relaxed);
        (self.total.fetch_add(1, Ordering::Relaxed) < limit).then_some(counted)
    }

    /// Counts a connection from `address`, unless there are `limit` already. An IPv6 address counts
    /// as its /64.
    pub fn enter_from(self: &Arc<Self>, address: IpAddr, limit: usize) -> Option<CountedAddress> {
        let address = host(address);
        let mut counts = self.by_address.shard(&address);
        match counts.entry(address) {
            Entry::Occupied(count) if *count.get() >= limit => return None,
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(count) => drop(count.insert(1)),
        }
        Some(CountedAddress {
            count: Arc::clone(self),
            address,
        })
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

pub struct Counted {
    count: Arc<ConnectionCount>,
    worker: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.total.fetch_sub(1, Ordering::Relaxed);
        self.count.by_worker[self.worker].fetch_sub(1, Ordering::Relaxed);
    }
}

/// An idle connection in [`ConnectionCount::idle`].
pub(super) struct IdleGuard<'a>(&'a AtomicUsize);

impl Drop for IdleGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts of the addresses that have a connection.
#[derive(Debug, Default)]
struct ByAddress {
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
    /// Keyed, so that a client cannot choose addresses of one shard.
    hasher: RandomState,
}

impl ByAddress {
    fn shard(&self, address: &IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let hash = self.hasher.hash_one(address).to_le_bytes();
        // A panic leaves no count half updated.
        self.shards[usize::from(hash[0]) % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection counted for its address.
pub struct CountedAddress {
    count: Arc<ConnectionCount>,
    address: IpAddr,
}

impl Drop for CountedAddress {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self
            .count
            .by_address
            .shard(&self.address)
            .entry(self.address)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_per_address_are_limited_and_released() {
        let count = ConnectionCount::new(1);
        let enter = |address: &str| count.enter_from(address.parse().unwrap(), 2);
        let (first, second) = (enter("10.0.0.1"), enter("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("10.0.0.1").is_none());
        assert!(enter("10.0.0.2").is_some());
        drop(first);
        assert!(enter("10.0.0.1").is_some());
        let (_a, _b) = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(enter("2001:db8:0:0:ffff::").is_none(), "same /64");
        assert!(enter("2001:db8:0:1::").is_some());
    }

    #[test]
    fn closed_connections_leave_no_entry() {
        let count = ConnectionCount::new(1);
        for last in 0..=255 {
            drop(count.enter_from([10, 0, 0, last].into(), 1));
        }
        assert!(
            count
                .by_address
                .shards
                .iter()
                .all(|shard| shard.lock().unwrap().is_empty())
        );
    }
}
