//! A ring of reused records.

use super::Record;

pub(super) struct Ring {
    slots: Vec<Record>,
    capacity: usize,
    /// Index of the oldest record, once all slots are in use.
    oldest: usize,
}

impl Ring {
    /// Reserves memory, which is resident only once records are written to it.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::with_capacity(capacity),
            capacity,
            oldest: 0,
        }
    }

    /// Returns the slot for the next record: a new one, or the oldest if the ring is full.
    pub(super) fn slot(&mut self) -> &mut Record {
        let at = if self.slots.len() < self.capacity {
            self.slots.push(Record::default());
            self.slots.len() - 1
        } else {
            let next = (self.oldest + 1) % self.capacity;
            std::mem::replace(&mut self.oldest, next)
        };
        &mut self.slots[at]
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Record> {
        let (newer, older) = self.slots.split_at(self.oldest);
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
    fn full_ring_overwrites_the_oldest_record() {
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
