//! A bounded number of places, counted over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many places are taken.
#[derive(Debug, Default)]
pub struct PermitCounter(AtomicUsize);

impl PermitCounter {
    /// How many there are now.
    pub fn in_use(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A place, unless `limit` are taken.
    pub fn acquire(self: &Arc<Self>, limit: usize) -> Option<Permit> {
        let place = Permit {
            places: Arc::clone(self),
            taken: 1,
        };
        // Counted first and looked at then: dropping the place takes it back.
        (self.0.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }
}

/// One place, or several that belong together; given up when dropped.
#[derive(Debug)]
pub struct Permit {
    places: Arc<PermitCounter>,
    taken: usize,
}

impl Permit {
    /// Takes `more` places besides. `false`: then more than `limit` would be taken, and nothing changed.
    pub fn grow(&mut self, more: usize, limit: usize) -> bool {
        if self
            .places
            .0
            .fetch_add(more, Ordering::Relaxed)
            .saturating_add(more)
            > limit
        {
            self.places.0.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.taken += more;
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.places.0.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let places = Arc::new(PermitCounter::default());
        let first = places.acquire(2).unwrap();
        let second = places.acquire(2).unwrap();
        assert!(places.acquire(2).is_none());
        assert_eq!(places.in_use(), 2);
        drop(first);
        assert!(places.acquire(2).is_some());
        drop(second);
        assert_eq!(places.in_use(), 0);
    }

    #[test]
    fn a_place_is_widened_within_the_limit() {
        let places = Arc::new(PermitCounter::default());
        let mut wide = places.acquire(10).unwrap();
        let mut other = places.acquire(10).unwrap();
        assert!(wide.grow(7, 10) && !other.grow(2, 10) && other.grow(1, 10));
        assert!(places.acquire(10).is_none());
        drop(wide);
        assert_eq!(places.in_use(), 2);
        drop(other);
        assert_eq!(places.in_use(), 0);
    }
}
