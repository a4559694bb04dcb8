//! The pooled connections of all workers by origin, for operators.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Connections to one origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginConnections {
    /// HTTP/1.1 connections that wait for a request.
    pub http1_idle: usize,
    /// HTTP/2 connections, in use or not.
    pub http2: usize,
    /// The origin last chose HTTP/1.1.
    pub chose_http1: bool,
}

/// Connections by the id of their origin. Each worker replaces its own about once a second, so that
/// requests count nothing for them.
#[derive(Debug)]
pub struct ConnectionTable(Vec<Mutex<BTreeMap<u64, OriginConnections>>>);

impl ConnectionTable {
    /// Creates a table for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Mutex::default()).collect())
    }

    /// Replaces the connections of one worker.
    pub fn set(&self, worker: usize, connections: BTreeMap<u64, OriginConnections>) {
        if let Some(own) = self.0.get(worker) {
            *lock(own) = connections;
        }
    }

    /// Returns the connections to one origin; `None` if no worker had one.
    pub fn of(&self, origin: u64) -> Option<OriginConnections> {
        let workers = self.0.iter();
        let known = workers.filter_map(|worker| lock(worker).get(&origin).copied());
        known.reduce(|sum, one| OriginConnections {
            http1_idle: sum.http1_idle + one.http1_idle,
            http2: sum.http2 + one.http2,
            chose_http1: sum.chose_http1 || one.chose_http1,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_sums_over_workers() {
        let table = ConnectionTable::new(2);
        let connections = |http1_idle, http2| OriginConnections {
            http1_idle,
            http2,
            chose_http1: http1_idle > 0,
        };
        table.set(
            0,
            BTreeMap::from([(1, connections(0, 1)), (2, connections(3, 0))]),
        );
        table.set(1, BTreeMap::from([(2, connections(2, 0))]));
        assert_eq!(table.of(2), Some(connections(5, 0)));
        assert_eq!(table.of(1), Some(connections(0, 1)));
        table.set(0, BTreeMap::new());
        assert_eq!((table.of(1), table.of(2)), (None, Some(connections(2, 0))));
    }
}
