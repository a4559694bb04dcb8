//! How many connections there are: in all, of each worker, of each address.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many more connections than the least busy worker one may have before it hands new ones over.
const IMBALANCE: usize = 2;
/// Parts of the counts by address, each with a lock of its own.
const SHARDS: usize = 16;
/// What of an IPv6 address tells hosts apart: each has a network of that size to choose addresses from.
const IPV6_NETWORK: u128 = !0 << 64;

/// Connections of callers: all of them against the limit, and each worker's for balance.
#[derive(Debug)]
pub struct ConnectionCount {
    total: AtomicUsize,
    by_worker: Box<[AtomicUsize]>,
    by_address: ByAddress,
    idle: AtomicUsize,
}

impl ConnectionCount {
    /// None yet, for `workers` workers.
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

    /// How many there are.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Returns the number of idle HTTP/1 connections that have released their buffers.
    pub fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// Counts an idle connection until the guard is dropped.
    pub(super) fn enter_idle(&self) -> Idle<'_> {
        self.idle.fetch_add(1, Ordering::Relaxed);
        Idle(&self.idle)
    }

    /// Counts one, unless there are `limit` already.
    pub fn enter(self: &Arc<Self>, worker: usize, limit: usize) -> Option<Counted> {
        let counted = Counted {
            count: Arc::clone(self),
            worker,
        };
        self.by_worker[worker].fetch_add(1, Ordering::Relaxed);
        (self.total.fetch_add(1, Ordering::Relaxed) < limit).then_some(counted)
    }

    /// Counts one of this address, unless there are `limit` already. An IPv6 address stands for its /64.
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

    /// The worker a new connection should go to: `me`, unless another has clearly fewer.
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

/// One connection that counts.
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
pub(super) struct Idle<'a>(&'a AtomicUsize);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts by address, of addresses that have a connection; so there are no more than connections.
#[derive(Debug, Default)]
struct ByAddress {
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
    /// Keyed, so that nobody can choose addresses that meet in one shard.
    hasher: RandomState,
}

impl ByAddress {
    fn shard(&self, address: &IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let hash = self.hasher.hash_one(address).to_le_bytes();
        // A panic elsewhere leaves the counts as they are, whole.
        self.shards[usize::from(hash[0]) % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection that counts for its address.
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
    fn an_address_has_its_share_and_no_more_and_gets_it_back() {
        let count = ConnectionCount::new(1);
        let enter = |address: &str| count.enter_from(address.parse().unwrap(), 2);
        let (first, second) = (enter("10.0.0.1"), enter("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("10.0.0.1").is_none());
        assert!(enter("10.0.0.2").is_some());
        drop(first);
        assert!(enter("10.0.0.1").is_some());
        let (_a, _b) = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(enter("2001:db8:0:0:ffff::").is_none(), "of the same /64");
        assert!(enter("2001:db8:0:1::").is_some());
    }

    #[test]
    fn nothing_is_left_of_addresses_that_are_gone() {
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
