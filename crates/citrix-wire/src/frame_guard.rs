//! Finds malformed requests that the `h2` crate accepts: pseudo-header fields in trailers (RFC 9113
//! section 8.1), and a fragment in `:path` (section 8.3.1).
//!
//! `h2` drops pseudo-header fields and passes the rest of the trailers. It does reject a pseudo-header field
//! after a regular one. The guard therefore inserts a regular field at the start of each block of
//! trailers: one byte, which refers to the static table and leaves the dynamic one unchanged. Trailers are
//! those of a request that has not ended: `h2` must see other HEADERS as they are, since it looks at
//! their fields before the state of their stream. A fragment, which `h2` drops as well, is reported by
//! its stream.

use crate::header_block::{BlockScanner, DynamicTable};

/// `host` without a value (RFC 7541 section 6.1 and appendix A), which no trailers may have.
const MARKER: u8 = 0x80 | 38;

const PREFACE_LENGTH: u32 = 24;
const FRAME_HEADER_LENGTH: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Requests without their end that are known. A client has more only if it goes on after its streams
/// were refused.
const MAX_OPEN: usize = 500;

/// The result of [`FrameGuard::scan`].
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
pub struct FrameGuard {
    position: Position,
    /// The stream of the last request.
    last_stream: u32,
    /// The streams of requests that have not ended, in ascending order.
    open: Vec<u32>,
    /// There were more than [`MAX_OPEN`]: any stream may be open.
    is_any_open: bool,
    /// The header block that is not complete.
    block: Option<BlockScanner>,
    /// It is that of a request, not of trailers or of a stream that has ended.
    in_request: bool,
    table: DynamicTable,
    /// Streams whose `:path` has a fragment.
    fragments: Vec<u32>,
    /// Bytes of the last header block, up to the end of the present frame; 0 after other frames.
    block_bytes: u32,
    /// The present frame is the last of the block.
    block_ends: bool,
    /// Frames since they were taken.
    frames: u32,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    FrameHeader,
    /// In the payload of a frame, or in the preface, with this many bytes left.
    Payload(u32),
    /// Before the length of padding of HEADERS.
    PadLength {
        left: u32,
        skip: u32,
    },
    /// In a frame with fields.
    Head {
        left: u32,
        /// Bytes before the fields: the priority.
        skip: u32,
        /// Bytes after the fields.
        padding: u32,
    },
    /// In the first frame of trailers, before the fields.
    Trailers {
        left: u32,
        /// Bytes before the block: the length of padding, and the priority.
        skip: u32,
        /// The next byte is the length of padding.
        is_padded: bool,
        padding: u32,
    },
}

impl Default for FrameGuard {
    fn default() -> Self {
        Self {
            position: Position::Payload(PREFACE_LENGTH),
            last_stream: 0,
            open: Vec::new(),
            is_any_open: false,
            block: None,
            in_request: false,
            table: DynamicTable::default(),
            fragments: Vec::new(),
            block_bytes: 0,
            block_ends: false,
            frames: 0,
        }
    }
}

impl FrameGuard {
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
                Position::PadLength { left, skip } => {
                    self.position = Position::Head {
                        left: *left - 1,
                        skip: *skip,
                        padding: u32::from(rest[0]),
                    };
                    at += 1;
                    self.end_head_frame();
                }
                Position::Head { .. } => at += self.scan_head(&bytes[at..]),
                Position::Trailers { left, .. } if *left == 0 => return self.insert(at),
                Position::Trailers { .. } => {
                    if !self.scan_trailers_start(rest[0]) {
                        return self.insert(at);
                    }
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

    /// Returns the number of bytes of the header block that is arriving, the rest of the present
    /// frame included.
    pub fn unfinished_block(&self) -> u32 {
        match self.position {
            Position::FrameHeader if self.block_ends => 0,
            _ => self.block_bytes,
        }
    }

    /// Returns `true` if `limit` frames have begun since the last call that did.
    pub fn take_frames(&mut self, limit: u32) -> bool {
        let reached = self.frames >= limit;
        if reached {
            self.frames = 0;
        }
        reached
    }

    /// Scans a byte of trailers before their fields. Returns `false` if it is one of a field.
    fn scan_trailers_start(&mut self, byte: u8) -> bool {
        let Position::Trailers {
            left,
            skip,
            is_padded,
            padding,
        } = &mut self.position
        else {
            return false;
        };
        if *skip > 0 {
            *skip -= 1;
            if std::mem::take(is_padded) {
                *padding = u32::from(byte);
            }
        } else if let Some(block) = &mut self.block
            && block.is_size_update(byte)
            && left > padding
        {
            // They must precede all fields (RFC 7541 section 4.2).
            block.scan(&[byte], &mut self.table);
        } else {
            return false;
        }
        *left -= 1;
        true
    }

    fn insert(&mut self, at: usize) -> Scanned {
        if let Position::Trailers { left, padding, .. } = self.position {
            self.position = match left {
                0 => Position::FrameHeader,
                left => Position::Head {
                    left,
                    skip: 0,
                    padding,
                },
            };
        }
        Scanned {
            permitted: at,
            insert: Some(MARKER),
        }
    }

    /// Returns the streams whose `:path` has a fragment, in ascending order. The caller removes
    /// those that it has seen.
    pub fn fragments(&mut self) -> &mut Vec<u32> {
        &mut self.fragments
    }

    /// Scans a part of a frame with fields. Returns its length.
    fn scan_head(&mut self, bytes: &[u8]) -> usize {
        let Position::Head {
            left,
            skip,
            padding,
        } = &mut self.position
        else {
            return 0;
        };
        let length = if *skip > 0 {
            bytes.len().min(*skip as usize)
        } else {
            bytes.len().min(*left as usize)
        };
        let part = u32::try_from(length).unwrap_or(*left);
        if *skip > 0 {
            *skip -= part;
        } else if let Some(block) = &mut self.block {
            let fields = length.min(left.saturating_sub(*padding) as usize);
            block.scan(&bytes[..fields], &mut self.table);
        }
        *left = left.saturating_sub(part);
        self.end_head_frame();
        length
    }

    /// Leaves a frame with fields once it is complete.
    fn end_head_frame(&mut self) {
        let Position::Head { left: 0, .. } = self.position else {
            return;
        };
        self.position = Position::FrameHeader;
        if let Some(block) = &self.block
            && block.found_fragment()
            && self.in_request
            && self.fragments.last() != Some(&self.last_stream)
        {
            self.fragments.push(self.last_stream);
        }
    }

    /// Enters HEADERS that begin a request, or CONTINUATION.
    fn enter_head(&mut self, left: u32, flags: u8) {
        let skip = 5 * u32::from(flags & PRIORITY != 0);
        self.position = if flags & PADDED != 0 {
            Position::PadLength { left, skip }
        } else {
            Position::Head {
                left,
                skip,
                padding: 0,
            }
        };
    }

    fn enter_frame(&mut self, header: &mut [u8; FRAME_HEADER_LENGTH]) {
        self.frames = self.frames.saturating_add(1);
        let [high, middle, low, kind, flags, stream @ ..] = *header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.position = match length {
            0 => Position::FrameHeader,
            _ => Position::Payload(length),
        };
        if kind == CONTINUATION && length > 0 && self.block.is_some() {
            self.enter_head(length, 0);
        }
        self.block_bytes = match kind {
            HEADERS => length,
            CONTINUATION => self.block_bytes.saturating_add(length),
            _ => 0,
        };
        self.block_ends = flags & END_HEADERS != 0;
        // The first bit is reserved.
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        if kind == RST_STREAM || kind == DATA && flags & END_STREAM != 0 {
            self.request_ended(stream);
        }
        if kind != HEADERS {
            return;
        }
        self.in_request = stream > self.last_stream;
        let is_open = || self.is_any_open || self.open.binary_search(&stream).is_ok();
        let in_trailers = !self.in_request && is_open();
        if flags & END_STREAM != 0 {
            self.request_ended(stream);
        } else if self.in_request {
            self.request_began(stream);
        }
        self.last_stream = self.last_stream.max(stream);
        self.block = Some(BlockScanner::default());
        if !in_trailers {
            if length > 0 {
                self.enter_head(length, flags);
            }
            return;
        }
        let skip = u32::from(flags & PADDED != 0) + 5 * u32::from(flags & PRIORITY != 0);
        if length < skip {
            // Malformed, which `h2` detects.
            self.block = None;
            return;
        }
        let [_, longer @ ..] = (length + 1).to_be_bytes();
        header[..3].copy_from_slice(&longer);
        self.position = Position::Trailers {
            left: length,
            skip,
            is_padded: flags & PADDED != 0,
            padding: 0,
        };
    }

    fn request_began(&mut self, stream: u32) {
        if self.open.len() < MAX_OPEN {
            self.open.push(stream);
        } else {
            self.is_any_open = true;
        }
    }

    fn request_ended(&mut self, stream: u32) {
        if let Ok(at) = self.open.binary_search(&stream) {
            self.open.remove(at);
        }
    }
}

#[cfg(test)]
mod tests;
