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
        let place = Place(Arc::clone(self));
        // Counted first and looked at then: dropping the place takes it back.
        (self.0.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }
}

/// One place; given up when dropped.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
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
}
