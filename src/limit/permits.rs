//! A counter of permits, shared by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of permits in use. The limit is an argument of each operation: a reload may change
/// it.
#[derive(Debug, Default)]
pub struct PermitCounter(AtomicUsize);

impl PermitCounter {
    /// Returns the number of permits in use.
    pub fn in_use(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Acquires one permit; `None` if `limit` are in use.
    pub fn acquire(self: &Arc<Self>, limit: usize) -> Option<Permit> {
        let permit = Permit {
            counter: Arc::clone(self),
            count: 1,
        };
        // Counted before the check; dropping the permit undoes it.
        (self.0.fetch_add(1, Ordering::Relaxed) < limit).then_some(permit)
    }
}

/// One or more permits, released on drop.
#[derive(Debug)]
pub struct Permit {
    counter: Arc<PermitCounter>,
    count: usize,
}

impl Permit {
    /// Acquires `more` permits. Returns `false`, and changes nothing, if more than `limit` would be
    /// in use.
    pub fn grow(&mut self, more: usize, limit: usize) -> bool {
        let in_use = self.counter.0.fetch_add(more, Ordering::Relaxed);
        if in_use.saturating_add(more) > limit {
            self.counter.0.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.count += more;
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counter.0.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_permit_can_be_acquired_again() {
        let permits = Arc::new(PermitCounter::default());
        let first = permits.acquire(2).unwrap();
        let second = permits.acquire(2).unwrap();
        assert!(permits.acquire(2).is_none());
        assert_eq!(permits.in_use(), 2);
        drop(first);
        assert!(permits.acquire(2).is_some());
        drop(second);
        assert_eq!(permits.in_use(), 0);
    }

    #[test]
    fn permit_grows_up_to_the_limit() {
        let permits = Arc::new(PermitCounter::default());
        let mut first = permits.acquire(10).unwrap();
        let mut other = permits.acquire(10).unwrap();
        assert!(first.grow(7, 10) && !other.grow(2, 10) && other.grow(1, 10));
        assert!(permits.acquire(10).is_none());
        drop(first);
        assert_eq!(permits.in_use(), 2);
        drop(other);
        assert_eq!(permits.in_use(), 0);
    }
}
