//! The chunked transfer coding of responses (RFC 9112 section 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::head::{self, HeadError};
use super::section::SectionEnd;

/// Maximum number of digits of a chunk size: those of 64 bits.
const MAX_DIGITS: u8 = 16;
/// Maximum size of all chunk extensions of a body, and of white space around them.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// A body that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("malformed chunk size")]
    Size,
    #[error("malformed or too large chunk extension")]
    Extension,
    #[error("chunk without its line end")]
    End,
    #[error("trailers: {0}")]
    Trailers(HeadError),
}

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Data(Bytes),
    /// The last piece, if there are any.
    Trailers(HeaderMap),
    End,
}

/// Decodes a body that arrives in pieces.
#[derive(Debug)]
pub struct ChunkDecoder {
    state: State,
    extensions: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size {
        size: u64,
        digits: u8,
    },
    /// White space after the size.
    Space {
        size: u64,
    },
    Extension {
        size: u64,
    },
    /// The LF after the size.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// The CR after the data.
    DataEnd,
    /// The LF after it.
    DataLineFeed,
    Trailers(SectionEnd),
    Ended,
}

const NEXT_SIZE: State = State::Size { size: 0, digits: 0 };

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self {
            state: NEXT_SIZE,
            extensions: 0,
        }
    }
}

impl ChunkDecoder {
    /// Returns `true` after the end of the body.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Removes the next piece from `input`, if it has arrived.
    ///
    /// # Errors
    /// When the coding is malformed. The decoder must not be used after that.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, ChunkError> {
        loop {
            match self.state {
                State::Data { left } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    self.state = match left - length as u64 {
                        0 => State::DataEnd,
                        left => State::Data { left },
                    };
                    return Ok(Some(Piece::Data(input.split_to(length).freeze())));
                }
                State::Trailers(mut end) => {
                    let found = end.find(input).map_err(ChunkError::Trailers)?;
                    self.state = State::Trailers(end);
                    let Some(length) = found else {
                        return Ok(None);
                    };
                    self.state = State::Ended;
                    return trailers(input.split_to(length).freeze()).map(Some);
                }
                State::Ended => return Ok(Some(Piece::End)),
                _ => {
                    let read = self.read_framing(input)?;
                    input.advance(read);
                    if input.is_empty() && !self.is_ended() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Reads up to the next data or the trailers, and returns the number of bytes read.
    fn read_framing(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        for (at, &byte) in input.iter().enumerate() {
            self.state = match (self.state, byte) {
                (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    if digits == MAX_DIGITS {
                        return Err(ChunkError::Size);
                    }
                    State::Size {
                        size: size << 4 | u64::from(hex_digit(byte)),
                        digits: digits + 1,
                    }
                }
                (State::Size { digits: 0, .. }, _) => return Err(ChunkError::Size),
                (
                    State::Size { size, .. } | State::Space { size } | State::Extension { size },
                    b'\r',
                ) => State::SizeEnd { size },
                (State::Size { size, .. } | State::Space { size }, b' ' | b'\t') => {
                    self.count_extension()?;
                    State::Space { size }
                }
                (State::Size { size, .. } | State::Space { size }, b';') => {
                    State::Extension { size }
                }
                (State::Size { .. } | State::Space { .. }, _) => return Err(ChunkError::Size),
                (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                    self.count_extension()?;
                    State::Extension { size }
                }
                (State::Extension { .. }, _) => return Err(ChunkError::Extension),
                (State::SizeEnd { size: 0 }, b'\n') => State::Trailers(SectionEnd::default()),
                (State::SizeEnd { size }, b'\n') => State::Data { left: size },
                (State::SizeEnd { .. }, _) => return Err(ChunkError::Size),
                (State::DataEnd, b'\r') => State::DataLineFeed,
                (State::DataLineFeed, b'\n') => NEXT_SIZE,
                (State::DataEnd | State::DataLineFeed, _) => return Err(ChunkError::End),
                (State::Data { .. } | State::Trailers(_) | State::Ended, _) => return Ok(at),
            };
        }
        Ok(input.len())
    }

    fn count_extension(&mut self) -> Result<(), ChunkError> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS {
            return Err(ChunkError::Extension);
        }
        Ok(())
    }
}

fn trailers(section: Bytes) -> Result<Piece, ChunkError> {
    if section == b"\r\n"[..] {
        return Ok(Piece::End);
    }
    let trailers = head::parse_trailers(&section).map_err(ChunkError::Trailers)?;
    Ok(Piece::Trailers(trailers))
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests;
