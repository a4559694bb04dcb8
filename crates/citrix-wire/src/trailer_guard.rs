//! Makes the `h2` crate reject pseudo-header fields in request trailers (RFC 9113 section 8.1).
//!
//! `h2` drops such fields and passes the rest of the trailers. It does reject a pseudo-header field
//! after a regular one. The guard therefore inserts a regular field at the start of each block of
//! trailers: one byte, which refers to the static table and leaves the dynamic one unchanged, so no
//! field has to be decoded.

/// `host` without a value (RFC 7541 section 6.1 and appendix A), which no trailers may have.
const MARKER: u8 = 0x80 | 38;

const PREFACE_LENGTH: u32 = 24;
const FRAME_HEADER_LENGTH: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The result of [`TrailerGuard::scan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The number of bytes that may be passed. Fewer than all if a byte is to be inserted, or if
    /// the last bytes are part of a frame's header.
    pub permitted: usize,
    /// The byte to insert after those, before the rest is scanned.
    pub insert: Option<u8>,
}

/// Follows the frames that a client sends on one connection.
#[derive(Debug)]
pub struct TrailerGuard {
    position: Position,
    /// The stream of the last request.
    last_stream: u32,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    FrameHeader,
    /// In the payload of a frame, or in the preface, with this many bytes left.
    Payload(u32),
    /// Before the fields of trailers.
    Trailers {
        left: u32,
        /// Bytes before the block: the length of padding, and the priority.
        skip: u32,
        /// In an integer of several bytes.
        in_size_update: bool,
    },
}

impl Default for TrailerGuard {
    fn default() -> Self {
        Self {
            position: Position::Payload(PREFACE_LENGTH),
            last_stream: 0,
        }
    }
}

impl TrailerGuard {
    /// Scans the next bytes, and changes the length of a frame into which a byte is to be inserted.
    pub fn scan(&mut self, bytes: &mut [u8]) -> Scanned {
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            match &mut self.position {
                Position::FrameHeader => {
                    let Some(header) = rest.first_chunk_mut() else {
                        break;
                    };
                    self.enter_frame(header);
                    at += FRAME_HEADER_LENGTH;
                }
                Position::Payload(left) => {
                    let passed =
                        usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    // At most `left`.
                    *left -= u32::try_from(passed).unwrap_or(*left);
                    at += passed;
                    if *left == 0 {
                        self.position = Position::FrameHeader;
                    }
                }
                Position::Trailers { left, .. } if *left == 0 => return self.insert(at),
                Position::Trailers {
                    left,
                    skip,
                    in_size_update,
                } => {
                    let byte = rest[0];
                    if *skip > 0 {
                        *skip -= 1;
                    } else if *in_size_update {
                        *in_size_update = byte & 0x80 != 0;
                    } else if byte & 0xe0 == 0x20 {
                        // Size updates must precede all fields (RFC 7541 section 4.2).
                        *in_size_update = byte & 0x1f == 0x1f;
                    } else {
                        return self.insert(at);
                    }
                    *left -= 1;
                    at += 1;
                }
            }
        }
        // The last byte of the block has been passed.
        match self.position {
            Position::Trailers { left: 0, .. } => self.insert(at),
            _ => Scanned {
                permitted: at,
                insert: None,
            },
        }
    }

    fn insert(&mut self, at: usize) -> Scanned {
        if let Position::Trailers { left, .. } = self.position {
            self.position = match left {
                0 => Position::FrameHeader,
                left => Position::Payload(left),
            };
        }
        Scanned {
            permitted: at,
            insert: Some(MARKER),
        }
    }

    fn enter_frame(&mut self, header: &mut [u8; FRAME_HEADER_LENGTH]) {
        let [high, middle, low, kind, flags, stream @ ..] = *header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.position = match length {
            0 => Position::FrameHeader,
            _ => Position::Payload(length),
        };
        if kind != HEADERS {
            return;
        }
        // The first bit is reserved.
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        if stream > self.last_stream {
            self.last_stream = stream;
            return;
        }
        let skip = u32::from(flags & PADDED != 0) + 5 * u32::from(flags & PRIORITY != 0);
        if length < skip {
            // Malformed, which `h2` detects.
            return;
        }
        let [_, longer @ ..] = (length + 1).to_be_bytes();
        header[..3].copy_from_slice(&longer);
        self.position = Position::Trailers {
            left: length,
            skip,
            in_size_update: false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const END: u8 = 0x5;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// Returns what is passed when `bytes` arrive in portions of `size`.
    fn passed(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut guard = TrailerGuard::default();
        let (mut passed, mut held) = (Vec::new(), Vec::new());
        for portion in bytes.chunks(size) {
            held.extend_from_slice(portion);
            loop {
                let scanned = guard.scan(&mut held);
                passed.extend(held.drain(..scanned.permitted));
                match scanned.insert {
                    Some(byte) => passed.push(byte),
                    None => break,
                }
            }
        }
        passed.extend(held);
        passed
    }

    fn request(stream: u8) -> Vec<u8> {
        [
            frame(HEADERS, 0x4, stream, &[0x83, 0x84, 0x86]),
            frame(0, 0, stream, b"body"),
        ]
        .concat()
    }

    #[test]
    fn marker_precedes_the_fields_of_trailers_only() {
        let expected: [(u8, &[u8], &[u8]); 7] = [
            (END, &[0x84], &[MARKER, 0x84]),
            (END, &[], &[MARKER]),
            (END | PADDED, &[2, 0x84, 0, 0], &[2, MARKER, 0x84, 0, 0]),
            (END | PADDED, &[1, 0], &[1, MARKER, 0]),
            (
                END | PRIORITY,
                &[0, 0, 0, 0, 1, 0x84],
                &[0, 0, 0, 0, 1, MARKER, 0x84],
            ),
            // Updates of the dynamic table's size, of one byte and of three.
            (
                END,
                &[0x20, 0x3f, 0xe1, 0x1f, 0x84],
                &[0x20, 0x3f, 0xe1, 0x1f, MARKER, 0x84],
            ),
            (END, &[0x20], &[0x20, MARKER]),
        ];
        for (flags, block, changed) in expected {
            let stream = |trailers: &[u8]| {
                [
                    PREFACE.to_vec(),
                    frame(4, 0, 0, &[]),
                    request(1),
                    frame(HEADERS, flags, 1, trailers),
                    request(3),
                ]
                .concat()
            };
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(
                    passed(&stream(block), size),
                    stream(changed),
                    "{block:?}, {size}"
                );
            }
        }
    }

    #[test]
    fn requests_without_trailers_pass_unchanged() {
        let bytes = [
            PREFACE.to_vec(),
            request(1),
            request(3),
            request(9),
            vec![0, 0, 9, 1],
        ]
        .concat();
        for size in [1, 8, 9, 10, 1000] {
            assert_eq!(passed(&bytes, size), bytes);
        }
    }
}
