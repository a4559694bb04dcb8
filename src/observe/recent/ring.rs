//! The last so many records, each in a slot that is written over and over.

use super::Record;

pub(super) struct Ring {
    slots: Vec<Record>,
    capacity: usize,
    /// The oldest, once all slots are in use.
    next: usize,
}

impl Ring {
    /// Its memory is touched as it fills.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::with_capacity(capacity),
            capacity,
            next: 0,
        }
    }

    /// The slot to write over: a new one, then the oldest.
    pub(super) fn slot(&mut self) -> &mut Record {
        let at = if self.slots.len() < self.capacity {
            self.slots.push(Record::default());
            self.slots.len() - 1
        } else {
            let following = (self.next + 1) % self.capacity;
            std::mem::replace(&mut self.next, following)
        };
        &mut self.slots[at]
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Record> {
        let (newer, older) = self.slots.split_at(self.next);
        newer.iter().rev().chain(older.iter().rev())
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_told_newest_first() {
        let mut ring = Ring::new(3);
        let paths = |ring: &Ring| {
            ring.newest_first()
                .map(|one| one.path.as_str().into_owned())
                .collect::<Vec<_>>()
        };
        for (path, kept) in [
            ("a", &["a"][..]),
            ("b", &["b", "a"]),
            ("c", &["c", "b", "a"]),
            ("d", &["d", "c", "b"]),
            ("e", &["e", "d", "c"]),
            ("f", &["f", "e", "d"]),
            ("g", &["g", "f", "e"]),
        ] {
            ring.slot().path.set(path.as_bytes());
            assert_eq!(paths(&ring), kept);
        }
        assert_eq!(ring.len(), 3);
    }
}
