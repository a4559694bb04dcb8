//! The chunked transfer coding of responses (RFC 9112 section 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::chunk_framing::{ChunkFraming, ChunkFramingError, Span};
use super::head::{self, HeadError};
use super::section::SectionEnd;

/// A body that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error(transparent)]
    Framing(#[from] ChunkFramingError),
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
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    framing: ChunkFraming,
    trailers: SectionEnd,
    is_ended: bool,
}

impl ChunkDecoder {
    /// Returns `true` after the end of the body.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Removes the next piece from `input`, if it has arrived.
    ///
    /// # Errors
    /// When the coding is malformed. The decoder must not be used after that.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, ChunkError> {
        if self.is_ended {
            return Ok(Some(Piece::End));
        }
        loop {
            match self.framing.next(input)? {
                Span::Data(length) => {
                    return Ok(Some(Piece::Data(input.split_to(length).freeze())));
                }
                Span::Trailers => return self.decode_trailers(input),
                Span::Framing(0) => return Ok(None),
                Span::Framing(length) => input.advance(length),
            }
        }
    }

    fn decode_trailers(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, ChunkError> {
        let Some(length) = self.trailers.find(input).map_err(ChunkError::Trailers)? else {
            return Ok(None);
        };
        self.is_ended = true;
        trailers(input.split_to(length).freeze()).map(Some)
    }
}

fn trailers(section: Bytes) -> Result<Piece, ChunkError> {
    if section == b"\r\n"[..] {
        return Ok(Piece::End);
    }
    let trailers = head::parse_trailers(&section).map_err(ChunkError::Trailers)?;
    Ok(Piece::Trailers(trailers))
}

#[cfg(test)]
mod tests;
