//! The dynamic table of a connection (RFC 7541 section 2.3.2), without the texts: lengths determine
//! which fields it holds.

use std::collections::VecDeque;

/// The default of SETTINGS_HEADER_TABLE_SIZE, which the server leaves unchanged.
const MAX_SIZE: u32 = 4096;
/// Bytes that each field counts beyond its texts (RFC 7541 section 4.1).
const OVERHEAD: u32 = 32;
/// Indices of `:path` in the static table.
const PATH_INDICES: [usize; 2] = [4, 5];
/// Lengths of the names in the static table, from index 1 (RFC 7541 appendix A).
const STATIC_NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14,
    16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10,
    25, 17, 10, 4, 3, 16,
];

/// The name of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) is_path: bool,
    pub(super) length: u32,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Name,
    value_length: u32,
    has_fragment: bool,
}

/// The fields that a client has added, the last one first.
#[derive(Debug)]
pub(crate) struct DynamicTable {
    fields: VecDeque<Field>,
    size: u32,
    max_size: u32,
}

impl Default for DynamicTable {
    fn default() -> Self {
        Self {
            fields: VecDeque::new(),
            size: 0,
            max_size: MAX_SIZE,
        }
    }
}

impl Field {
    fn size(&self) -> u32 {
        self.name.length + self.value_length + OVERHEAD
    }
}

impl DynamicTable {
    /// Returns the name at an index of both tables. Invalid ones end the connection.
    pub(super) fn name(&self, index: u32) -> Name {
        let index = index as usize;
        match STATIC_NAMES.get(index.wrapping_sub(1)) {
            Some(length) => Name {
                is_path: PATH_INDICES.contains(&index),
                length: u32::from(*length),
            },
            None => self
                .field(index)
                .map_or_else(Name::default, |field| field.name),
        }
    }

    /// Returns `true` if the field at an index is a `:path` with a fragment.
    pub(super) fn has_fragment(&self, index: u32) -> bool {
        self.field(index as usize)
            .is_some_and(|field| field.has_fragment)
    }

    fn field(&self, index: usize) -> Option<&Field> {
        self.fields.get(index.checked_sub(STATIC_NAMES.len() + 1)?)
    }

    /// Adds a field and evicts the oldest that it displaces.
    pub(super) fn add(&mut self, name: Name, value_length: u32, has_fragment: bool) {
        // Strings above the size are not added, whatever their length.
        let limit = |length: u32| length.min(MAX_SIZE);
        let field = Field {
            name: Name {
                length: limit(name.length),
                ..name
            },
            value_length: limit(value_length),
            has_fragment,
        };
        let size = field.size();
        self.evict(self.max_size.saturating_sub(size));
        if size <= self.max_size {
            self.size += size;
            self.fields.push_front(field);
        }
    }

    /// Applies an update of the size. Larger ones than [`MAX_SIZE`] end the connection.
    pub(super) fn resize(&mut self, max_size: u32) {
        self.max_size = max_size.min(MAX_SIZE);
        self.evict(self.max_size);
    }

    fn evict(&mut self, limit: u32) {
        while self.size > limit
            && let Some(oldest) = self.fields.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(length: u32) -> Name {
        Name {
            is_path: false,
            length,
        }
    }

    #[test]
    fn rfc7541_4_4_oldest_fields_are_evicted() {
        let mut table = DynamicTable::default();
        for length in 0..50 {
            table.add(name(length), 100, length == 49);
        }
        // 132 bytes and the name each.
        assert_eq!(table.fields.len(), 24);
        assert_eq!(table.name(62), name(49));
        assert_eq!(table.name(85), name(26));
        assert_eq!(table.name(86), Name::default());
        assert!(table.has_fragment(62) && !table.has_fragment(63));
        table.resize(400);
        assert_eq!(table.fields.len(), 2);
        table.add(name(9), 500, false);
        assert!(table.fields.is_empty(), "larger than the table");
        table.resize(u32::MAX);
        table.add(name(u32::MAX), u32::MAX, false);
        table.add(name(1), MAX_SIZE - 33, false);
        assert_eq!((table.fields.len(), table.size), (1, MAX_SIZE));
    }

    #[test]
    fn names_of_the_static_table_are_known() {
        let table = DynamicTable::default();
        let path = Name {
            is_path: true,
            length: 5,
        };
        assert_eq!([4, 5].map(|index| table.name(index)), [path; 2]);
        // `:authority`, `host`, `user-agent`, `www-authenticate`.
        for (index, length) in [(1, 10), (38, 4), (58, 10), (61, 16)] {
            assert_eq!(table.name(index), name(length));
        }
    }
}
