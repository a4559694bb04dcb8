//! Finds a fragment (`#`) in the `:path` of a header block (RFC 7541), which `h2` drops.
//!
//! The block is not decoded: its fields are skipped by their lengths, and only the value of `:path`
//! is searched. Of the fields that a client adds to the dynamic table, the lengths are kept, so that
//! it is known which of them are a `:path`.

mod dynamic_table;

use memchr::memchr;

pub(crate) use self::dynamic_table::DynamicTable;
use self::dynamic_table::Name;

const PATH: &[u8] = b":path";
/// [`PATH`] in Huffman code.
const PATH_IN_HUFFMAN: &[u8] = b"\xb9\x58\xd3\x3f";

/// Follows one header block, over all its frames.
#[derive(Debug, Default)]
pub(crate) struct BlockScanner {
    state: State,
    /// The current field is added to the dynamic table.
    is_added: bool,
    name: Name,
    /// The current string is in Huffman code.
    in_huffman: bool,
    code: HuffmanCode,
    /// The current value has a `#`.
    has_fragment: bool,
    found: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Field,
    Length(Integer),
    Integer {
        of: Integer,
        value: u32,
        shift: u32,
    },
    Name {
        left: u32,
        /// Bytes so far; `None` once they differ from [`PATH`].
        matched: Option<usize>,
    },
    Value {
        left: u32,
        length: u32,
    },
}

#[derive(Clone, Copy, Debug)]
enum Integer {
    SizeUpdate,
    Indexed,
    NameIndex,
    NameLength,
    ValueLength,
}

impl BlockScanner {
    /// Returns `true` if a fragment was found.
    pub(crate) fn found_fragment(&self) -> bool {
        self.found
    }

    /// Returns `true` if `next`, the next byte, belongs to an update of the dynamic table's size.
    pub(crate) fn is_size_update(&self, next: u8) -> bool {
        match self.state {
            State::Field => next & 0xe0 == 0x20,
            State::Integer { of, .. } => matches!(of, Integer::SizeUpdate),
            _ => false,
        }
    }

    /// Scans the next bytes of the block.
    pub(crate) fn scan(&mut self, mut bytes: &[u8], table: &mut DynamicTable) {
        while let Some((&byte, rest)) = bytes.split_first() {
            let mut taken = 1;
            match self.state {
                State::Field => self.begin_field(byte, table),
                State::Length(of) => {
                    self.in_huffman = byte & 0x80 != 0;
                    self.prefix(of, byte, 0x7f, table);
                }
                State::Integer { of, value, shift } => {
                    let more = u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
                    let value = value.saturating_add(more);
                    if byte & 0x80 == 0 {
                        self.end_integer(of, value, table);
                    } else {
                        let shift = shift + 7;
                        self.state = State::Integer { of, value, shift };
                    }
                }
                State::Name { left, matched } => {
                    taken = bytes.len().min(left as usize);
                    self.scan_name(&bytes[..taken], left, matched);
                }
                State::Value { left, length } => {
                    taken = bytes.len().min(left as usize);
                    self.scan_value(&bytes[..taken], left, length, table);
                }
            }
            bytes = if taken == 1 { rest } else { &bytes[taken..] };
        }
    }

    fn begin_field(&mut self, byte: u8, table: &mut DynamicTable) {
        self.is_added = byte & 0xc0 == 0x40;
        match byte {
            0x80.. => self.prefix(Integer::Indexed, byte, 0x7f, table),
            0x40.. => self.prefix(Integer::NameIndex, byte, 0x3f, table),
            0x20.. => self.prefix(Integer::SizeUpdate, byte, 0x1f, table),
            _ => self.prefix(Integer::NameIndex, byte, 0x0f, table),
        }
    }

    fn prefix(&mut self, of: Integer, byte: u8, mask: u8, table: &mut DynamicTable) {
        let value = u32::from(byte & mask);
        if byte & mask == mask {
            self.state = State::Integer {
                of,
                value,
                shift: 0,
            };
        } else {
            self.end_integer(of, value, table);
        }
    }

    fn end_integer(&mut self, of: Integer, value: u32, table: &mut DynamicTable) {
        self.state = match of {
            Integer::SizeUpdate => {
                table.resize(value);
                State::Field
            }
            Integer::Indexed => {
                self.found |= table.has_fragment(value);
                State::Field
            }
            Integer::NameIndex if value == 0 => State::Length(Integer::NameLength),
            Integer::NameIndex => {
                self.name = table.name(value);
                State::Length(Integer::ValueLength)
            }
            Integer::NameLength => {
                self.begin_string();
                self.name = Name {
                    is_path: false,
                    length: value,
                };
                match value {
                    0 => State::Length(Integer::ValueLength),
                    _ => State::Name {
                        left: value,
                        matched: Some(0),
                    },
                }
            }
            Integer::ValueLength => {
                self.begin_string();
                if value == 0 {
                    return self.end_field(0, table);
                }
                State::Value {
                    left: value,
                    length: value,
                }
            }
        };
    }

    fn begin_string(&mut self) {
        self.code = HuffmanCode::default();
        self.has_fragment = false;
    }

    fn scan_name(&mut self, part: &[u8], left: u32, matched: Option<usize>) {
        let path = if self.in_huffman {
            PATH_IN_HUFFMAN
        } else {
            PATH
        };
        if self.in_huffman && self.is_added {
            self.code.decode(part);
        }
        let matched = matched
            .filter(|&at| path.get(at..).is_some_and(|rest| rest.starts_with(part)))
            .map(|at| at + part.len());
        let left = left - u32::try_from(part.len()).unwrap_or(left);
        if left > 0 {
            self.state = State::Name { left, matched };
            return;
        }
        self.name.is_path = matched == Some(path.len());
        self.name.length = self.decoded_length(self.name.length);
        self.state = State::Length(Integer::ValueLength);
    }

    fn scan_value(&mut self, part: &[u8], left: u32, length: u32, table: &mut DynamicTable) {
        if self.in_huffman {
            if self.name.is_path || self.is_added {
                self.has_fragment |= self.code.decode(part);
            }
        } else if self.name.is_path {
            self.has_fragment |= memchr(b'#', part).is_some();
        }
        let left = left - u32::try_from(part.len()).unwrap_or(left);
        if left > 0 {
            self.state = State::Value { left, length };
        } else {
            self.end_field(self.decoded_length(length), table);
        }
    }

    fn end_field(&mut self, value_length: u32, table: &mut DynamicTable) {
        let has_fragment = self.name.is_path && self.has_fragment;
        self.found |= has_fragment;
        if self.is_added {
            table.add(self.name, value_length, has_fragment);
        }
        self.state = State::Field;
    }

    /// Returns the length of the current string, of which `length` bytes were sent.
    fn decoded_length(&self, length: u32) -> u32 {
        if self.in_huffman {
            self.code.characters
        } else {
            length
        }
    }
}

/// `#` in Huffman code.
const FRAGMENT: (u32, u32) = (12, 0xffa);
/// The first code, left-aligned, that is longer than this number of bits (RFC 7541 appendix B: the
/// code is canonical). All others have 30.
const CODE_LENGTHS: [(u32, u32); 20] = [
    (0x5000_0000, 5),
    (0xb800_0000, 6),
    (0xf800_0000, 7),
    (0xfe00_0000, 8),
    (0xff40_0000, 10),
    (0xffa0_0000, 11),
    (0xffc0_0000, 12),
    (0xfff0_0000, 13),
    (0xfff8_0000, 14),
    (0xfffe_0000, 15),
    (0xfffe_6000, 19),
    (0xfffe_e000, 20),
    (0xffff_4800, 21),
    (0xffff_b000, 22),
    (0xffff_ea00, 23),
    (0xffff_f600, 24),
    (0xffff_f800, 25),
    (0xffff_fbc0, 26),
    (0xffff_fe20, 27),
    (0xffff_fff0, 28),
];

/// A string in Huffman code.
#[derive(Clone, Copy, Debug, Default)]
struct HuffmanCode {
    /// Bits that are no whole character yet.
    bits: u64,
    count: u32,
    /// Characters so far.
    characters: u32,
}

impl HuffmanCode {
    /// Decodes the next bytes. Returns `true` if a `#` was found.
    fn decode(&mut self, bytes: &[u8]) -> bool {
        let mut found = false;
        for &byte in bytes {
            self.bits = self.bits << 8 | u64::from(byte);
            self.count += 8;
            loop {
                // At most 37 bits are left.
                let aligned = ((self.bits << (64 - self.count)) >> 32) as u32;
                let is_in = |(limit, _): &&(u32, u32)| aligned < *limit;
                let length = CODE_LENGTHS.iter().find(is_in).map_or(30, |found| found.1);
                if length > self.count {
                    break;
                }
                found |= (length, aligned >> (32 - length)) == FRAGMENT;
                self.count -= length;
                self.characters += 1;
                self.bits &= (1 << self.count) - 1;
                if self.count == 0 {
                    break;
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether a fragment is found in the last of these blocks of one connection.
    fn finds_last(blocks: &[&[u8]]) -> bool {
        let results = [1, 2, 5, 1000].map(|size| {
            let mut table = DynamicTable::default();
            let scanned = blocks.iter().map(|block| {
                let mut scanner = BlockScanner::default();
                block
                    .chunks(size)
                    .for_each(|part| scanner.scan(part, &mut table));
                scanner.found_fragment()
            });
            scanned.last().unwrap()
        });
        assert!(results.iter().all(|found| *found == results[0]));
        results[0]
    }

    fn finds(block: &[u8]) -> bool {
        finds_last(&[block])
    }

    /// GET, http, `:authority: localhost`.
    const START: &[u8] = b"\x82\x86\x41\x09localhost";

    #[test]
    fn fragment_in_path_is_found_in_every_representation() {
        for path in [
            &b"\x44\x04/a#b"[..],
            b"\x04\x04/a#b",
            b"\x14\x04/a#b",
            b"\x45\x02/#",
            b"\x44\x84\x60\x7f\xf5\x1f",
            b"\x44\x83\x60\x7f\xf5",
            // `/a\b~{}|^`, two long codes, and `#`.
            b"\x04\x94\x60\x7f\xff\xc2\x3f\xfe\xff\xef\xff\xf7\xfe\x7f\xf9\xff\xff\xf7\x7f\xe3\xfe\xbf",
            b"\x00\x05:path\x04/a#b",
            b"\x40\x84\xb9\x58\xd3\x3f\x84\x60\x7f\xf5\x1f",
        ] {
            assert!(finds(&[START, path].concat()), "{path:x?}");
            let more = b"\x00\x03x-a\x01b";
            assert!(finds(&[path, START, more].concat()), "{path:x?}");
        }
    }

    #[test]
    fn path_in_the_dynamic_table_is_known() {
        for added in [
            &b"\x44\x02/a"[..],
            b"\x44\x82\x60\x7f",
            b"\x40\x05:path\x02/a",
            b"\x40\x84\xb9\x58\xd3\x3f\x82\x60\x7f",
        ] {
            // `:authority` was added after it, so its index is 63, which needs a second byte.
            let finds_value = |value: &[u8]| {
                let fields = [b"\x82\x86\x7f\x00", value].concat();
                finds_last(&[&[added, START].concat(), &fields])
            };
            assert!(finds_value(b"\x04/a#b"), "{added:x?}");
            assert!(finds_value(b"\x84\x60\x7f\xf5\x1f"), "{added:x?}");
            assert!(!finds_value(b"\x02/a"), "{added:x?}");
        }
    }

    #[test]
    fn added_path_with_a_fragment_is_found_when_it_is_used_again() {
        for added in [
            &b"\x44\x04/a#b"[..],
            b"\x44\x84\x60\x7f\xf5\x1f",
            b"\x40\x05:path\x02/#",
        ] {
            let used = b"\x82\x86\x84\xbf";
            assert!(finds_last(&[&[added, START].concat(), used]));
            let evicted = b"\x20\x82\x86\x84\xbf";
            assert!(!finds_last(&[&[added, START].concat(), evicted]));
        }
    }

    #[test]
    fn other_number_signs_are_no_fragment() {
        for fields in [
            &b"\x84"[..],
            b"\x44\x02/a",
            b"\x44\x82\x60\x7f",
            // `/a?b\c`, a long code, `%3E>`.
            b"\x44\x8b\x60\x7f\xe4\x7f\xff\xc0\x9f\xff\xf5\xaa\xce\x0f\xfb",
            b"\x84\x00\x03x-a\x02/#",
            b"\x84\x7a\x02/#",
            b"\x3f\xe1\x1f\x84\x00\x00\x01#",
            // A name in the dynamic table, also among the pseudo-header fields.
            b"\x84\x40\x03x-a\x01b\x7e\x04/a#b",
            b"\x40\x03x-a\x01b\x7e\x04/a#b\x84",
            b"\x84\x40\x84\xf2\xb2\x0f\xff\x82\x60\x7f\x7e\x04/a#b",
        ] {
            assert!(!finds(&[START, fields].concat()), "{fields:x?}");
        }
    }
}
