//! Finds a fragment (`#`) in the `:path` of a header block (RFC 7541), which `h2` drops.
//!
//! The block is not decoded: its fields are skipped by their lengths, and only the value of `:path`
//! is searched. The name of a field is unknown where it refers to the dynamic table; such a value is
//! searched as well if it begins like a path, among the pseudo-header fields.

use memchr::memchr;

const PATH: &[u8] = b":path";
/// [`PATH`] in Huffman code.
const PATH_IN_HUFFMAN: &[u8] = b"\xb9\x58\xd3\x3f";
/// Indices of `:path` in the static table.
const PATH_INDICES: [u32; 2] = [4, 5];
/// Indices of the regular fields in the static table. Those above are in the dynamic table.
const REGULAR: std::ops::RangeInclusive<u32> = 15..=61;

/// Follows one header block, over all its frames.
#[derive(Debug)]
pub(crate) struct BlockScanner {
    state: State,
    name: Name,
    /// The current string is in Huffman code.
    in_huffman: bool,
    /// A regular field has begun, so no pseudo-header field follows (RFC 9113 section 8.3).
    is_regular: bool,
    code: HuffmanCode,
    found: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
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
        is_first: bool,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Path,
    InDynamicTable,
    Other,
}

impl Default for BlockScanner {
    fn default() -> Self {
        Self {
            state: State::Field,
            name: Name::Other,
            in_huffman: false,
            is_regular: false,
            code: HuffmanCode::default(),
            found: false,
        }
    }
}

impl BlockScanner {
    /// Returns `true` if a fragment was found.
    pub(crate) fn has_fragment(&self) -> bool {
        self.found
    }

    /// Scans the next bytes of the block.
    pub(crate) fn scan(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            let mut taken = 1;
            match self.state {
                State::Field => match byte {
                    0x80.. => self.prefix(Integer::Indexed, byte, 0x7f),
                    0x40.. => self.prefix(Integer::NameIndex, byte, 0x3f),
                    0x20.. => self.prefix(Integer::SizeUpdate, byte, 0x1f),
                    _ => self.prefix(Integer::NameIndex, byte, 0x0f),
                },
                State::Length(of) => {
                    self.in_huffman = byte & 0x80 != 0;
                    self.prefix(of, byte, 0x7f);
                }
                State::Integer { of, value, shift } => {
                    let more = u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
                    let value = value.saturating_add(more);
                    if byte & 0x80 == 0 {
                        self.end_integer(of, value);
                    } else {
                        let shift = shift + 7;
                        self.state = State::Integer { of, value, shift };
                    }
                }
                State::Name { left, matched } => {
                    taken = bytes.len().min(left as usize);
                    self.scan_name(&bytes[..taken], left, matched);
                }
                State::Value { left, is_first } => {
                    taken = bytes.len().min(left as usize);
                    self.scan_value(&bytes[..taken], left, is_first);
                }
            }
            bytes = if taken == 1 { rest } else { &bytes[taken..] };
        }
    }

    fn prefix(&mut self, of: Integer, byte: u8, mask: u8) {
        let value = u32::from(byte & mask);
        if byte & mask == mask {
            self.state = State::Integer {
                of,
                value,
                shift: 0,
            };
        } else {
            self.end_integer(of, value);
        }
    }

    fn end_integer(&mut self, of: Integer, value: u32) {
        self.state = match of {
            Integer::SizeUpdate => State::Field,
            Integer::Indexed => {
                self.is_regular |= REGULAR.contains(&value);
                State::Field
            }
            Integer::NameIndex => {
                self.is_regular |= REGULAR.contains(&value);
                self.name = match value {
                    _ if PATH_INDICES.contains(&value) => Name::Path,
                    _ if value > *REGULAR.end() && !self.is_regular => Name::InDynamicTable,
                    _ => Name::Other,
                };
                State::Length(match value {
                    0 => Integer::NameLength,
                    _ => Integer::ValueLength,
                })
            }
            Integer::NameLength if value == 0 => State::Length(Integer::ValueLength),
            Integer::NameLength => State::Name {
                left: value,
                matched: Some(0),
            },
            Integer::ValueLength if value == 0 => State::Field,
            Integer::ValueLength => {
                self.code = HuffmanCode::default();
                State::Value {
                    left: value,
                    is_first: true,
                }
            }
        };
    }

    fn scan_name(&mut self, part: &[u8], left: u32, matched: Option<usize>) {
        let (path, is_pseudo) = if self.in_huffman {
            // `:` has the first seven bits.
            (PATH_IN_HUFFMAN, part[0] >> 1 == 0x5c)
        } else {
            (PATH, part[0] == b':')
        };
        self.is_regular |= matched == Some(0) && !is_pseudo;
        let matched = matched
            .filter(|&at| path.get(at..).is_some_and(|rest| rest.starts_with(part)))
            .map(|at| at + part.len());
        let left = left - u32::try_from(part.len()).unwrap_or(left);
        if left > 0 {
            self.state = State::Name { left, matched };
            return;
        }
        if matched == Some(path.len()) {
            self.name = Name::Path;
        }
        self.state = State::Length(Integer::ValueLength);
    }

    fn scan_value(&mut self, part: &[u8], left: u32, is_first: bool) {
        let begins_like_path = if self.in_huffman {
            part[0] >> 2 == 0x18
        } else {
            part[0] == b'/'
        };
        if self.name == Name::InDynamicTable && is_first && !begins_like_path {
            self.name = Name::Other;
        }
        if self.name != Name::Other {
            self.found |= if self.in_huffman {
                self.code.finds_fragment(part)
            } else {
                memchr(b'#', part).is_some()
            };
        }
        let left = left - u32::try_from(part.len()).unwrap_or(left);
        self.state = match left {
            0 => State::Field,
            _ => State::Value {
                left,
                is_first: false,
            },
        };
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

/// Bits of a string in Huffman code that are no whole character yet.
#[derive(Clone, Copy, Debug, Default)]
struct HuffmanCode {
    bits: u64,
    count: u32,
}

impl HuffmanCode {
    fn finds_fragment(&mut self, bytes: &[u8]) -> bool {
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

    fn finds(block: &[u8]) -> bool {
        let results = [1, 2, 5, 1000].map(|size| {
            let mut scanner = BlockScanner::default();
            block.chunks(size).for_each(|part| scanner.scan(part));
            scanner.has_fragment()
        });
        assert!(results.iter().all(|found| *found == results[0]));
        results[0]
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
            // A name in the dynamic table, with an index in one byte and in two.
            b"\x7e\x04/a#b",
            b"\x0f\x2f\x84\x60\x7f\xf5\x1f",
        ] {
            assert!(finds(&[START, path].concat()), "{path:x?}");
            let more = b"\x00\x03x-a\x01b";
            assert!(finds(&[path, START, more].concat()), "{path:x?}");
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
            b"\x84\x00\x03x-a\x01b\x7e\x04/a#b",
            b"\x84\x7e\x04a/#b",
            b"\x3f\xe1\x1f\x84\x00\x00\x01#",
        ] {
            assert!(!finds(&[START, fields].concat()), "{fields:x?}");
        }
    }
}
