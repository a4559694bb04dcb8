//! The framing of a chunked body (RFC 9112 section 7.1), without its content and trailers.

/// Maximum number of digits of a chunk size, with leading zeros.
const MAX_DIGITS: u8 = 64;
/// Maximum size of all chunk extensions of a body, and of white space around them.
pub(super) const MAX_EXTENSIONS: usize = 16 * 1024;

/// Chunks that are malformed, or that two implementations may read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkFramingError {
    #[error("malformed chunk size")]
    Size,
    #[error("malformed or too large chunk extension")]
    Extension,
    #[error("chunk without its line end")]
    End,
}

/// The kind and number of the next bytes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// This many bytes of sizes, extensions and line ends; all of the input, or up to the next data
    /// or the trailers.
    Framing(usize),
    /// This many bytes of content, at least 1.
    Data(usize),
    /// The trailer section, which ends the body. It is present even if it has no field.
    Trailers,
}

/// Follows a body that arrives in pieces, up to its trailer section.
#[derive(Debug)]
pub struct ChunkFraming {
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
    Trailers,
}

const NEXT_SIZE: State = State::Size { size: 0, digits: 0 };

impl Default for ChunkFraming {
    fn default() -> Self {
        Self {
            state: NEXT_SIZE,
            extensions: 0,
        }
    }
}

impl ChunkFraming {
    /// Returns what the input begins with. The next input begins after the framing or data that is
    /// returned.
    ///
    /// # Errors
    /// When the coding is malformed. The body must not be read after that.
    pub fn next(&mut self, input: &[u8]) -> Result<Span, ChunkFramingError> {
        match self.state {
            State::Trailers => Ok(Span::Trailers),
            State::Data { left } if !input.is_empty() => {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                self.state = match left - length as u64 {
                    0 => State::DataEnd,
                    left => State::Data { left },
                };
                Ok(Span::Data(length))
            }
            _ => self.read_framing(input).map(Span::Framing),
        }
    }

    /// Reads up to the next data or the trailers, and returns the number of bytes read.
    fn read_framing(&mut self, input: &[u8]) -> Result<usize, ChunkFramingError> {
        for (at, &byte) in input.iter().enumerate() {
            self.state = match (self.state, byte) {
                (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    let is_overflow = size.leading_zeros() < 4;
                    if is_overflow || digits == MAX_DIGITS {
                        return Err(ChunkFramingError::Size);
                    }
                    State::Size {
                        size: size << 4 | u64::from(hex_digit(byte)),
                        digits: digits + 1,
                    }
                }
                (State::Size { digits: 0, .. }, _) => return Err(ChunkFramingError::Size),
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
                (State::Size { .. } | State::Space { .. }, _) => {
                    return Err(ChunkFramingError::Size);
                }
                (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                    self.count_extension()?;
                    State::Extension { size }
                }
                (State::Extension { .. }, _) => return Err(ChunkFramingError::Extension),
                (State::SizeEnd { size: 0 }, b'\n') => State::Trailers,
                (State::SizeEnd { size }, b'\n') => State::Data { left: size },
                (State::SizeEnd { .. }, _) => return Err(ChunkFramingError::Size),
                (State::DataEnd, b'\r') => State::DataLineFeed,
                (State::DataLineFeed, b'\n') => NEXT_SIZE,
                (State::DataEnd | State::DataLineFeed, _) => return Err(ChunkFramingError::End),
                (State::Data { .. } | State::Trailers, _) => return Ok(at),
            };
        }
        Ok(input.len())
    }

    fn count_extension(&mut self) -> Result<(), ChunkFramingError> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS {
            return Err(ChunkFramingError::Extension);
        }
        Ok(())
    }
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}
