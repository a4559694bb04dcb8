//! A bounded number of places, counted over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many places are taken.
#[derive(Debug, Default)]
pub struct Places(AtomicUsize);

impl Places {
    /// How many there are now.
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A place, unless `limit` are taken.
    pub fn enter(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let place = Place {
            places: Arc::clone(self),
            taken: 1,
        };
        // Counted first and looked at then: dropping the place takes it back.
        (self.0.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }
}

/// One place, or several that belong together; given up when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    taken: usize,
}

impl Place {
    /// Takes `more` places besides. `false`: then more than `limit` would be taken, and nothing changed.
    pub fn widen(&mut self, more: usize, limit: usize) -> bool {
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

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let places = Arc::new(Places::default());
        let first = places.enter(2).unwrap();
        let second = places.enter(2).unwrap();
        assert!(places.enter(2).is_none());
        assert_eq!(places.taken(), 2);
        drop(first);
        assert!(places.enter(2).is_some());
        drop(second);
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn a_place_is_widened_within_the_limit() {
        let places = Arc::new(Places::default());
        let mut wide = places.enter(10).unwrap();
        let mut other = places.enter(10).unwrap();
        assert!(wide.widen(7, 10) && !other.widen(2, 10) && other.widen(1, 10));
        assert!(places.enter(10).is_none());
        drop(wide);
        assert_eq!(places.taken(), 2);
        drop(other);
        assert_eq!(places.taken(), 0);
    }
}
