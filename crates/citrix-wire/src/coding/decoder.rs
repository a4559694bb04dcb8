//! Out of a coding.

use std::collections::VecDeque;
use std::io::{self, BufRead, ErrorKind, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::{CodingError, Format};

/// The most that comes out of a decoder at once, in bytes.
pub const SLICE: usize = 64 * 1024;

/// How much of a `br` body its decoder reads ahead, in bytes.
const BROTLI_INPUT: usize = 16 * 1024;

/// A decoder: push a piece, pull until nothing comes, push the next.
pub struct Decoder {
    reader: Reader,
    /// The room for the next slice, kept while there is nothing to put in.
    room: Vec<u8>,
    over: bool,
}

/// The libraries' decoders read from a [`Source`], which says `WouldBlock` when it is empty; they are made for that.
enum Reader {
    Gzip(MultiGzDecoder<Source>),
    Zlib(ZlibDecoder<Source>),
    Deflate(DeflateDecoder<Source>),
    Brotli(Box<brotli::Decompressor<Source>>),
}

impl Decoder {
    /// One for a body.
    pub fn new(format: Format) -> Self {
        let source = Source::default();
        let reader = match format {
            Format::Gzip => Reader::Gzip(MultiGzDecoder::new(source)),
            Format::Zlib => Reader::Zlib(ZlibDecoder::new(source)),
            Format::Deflate => Reader::Deflate(DeflateDecoder::new(source)),
            Format::Brotli => {
                Reader::Brotli(Box::new(brotli::Decompressor::new(source, BROTLI_INPUT)))
            }
        };
        Self {
            reader,
            room: Vec::new(),
            over: false,
        }
    }

    /// Takes the next piece.
    pub fn push(&mut self, encoded: Bytes) {
        self.reader.source().pieces.push_back(encoded);
    }

    /// Says that the last piece went in.
    pub fn finish(&mut self) {
        self.reader.source().ended = true;
    }

    /// The next slice, at most [`SLICE`] bytes; `None` when it needs more, or all came out.
    ///
    /// # Errors
    /// When the body cannot be decoded to its end. Nothing more comes then.
    pub fn pull(&mut self) -> Result<Option<Bytes>, CodingError> {
        if !self.over {
            let mut slice = std::mem::take(&mut self.room);
            slice.resize(SLICE, 0);
            match self.reader.read(&mut slice) {
                Ok(0) => self.end(&mut slice)?,
                Ok(length) => {
                    slice.truncate(length);
                    return Ok(Some(Bytes::from(slice)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.room = slice;
                    return Ok(None);
                }
                Err(error) => return Err(CodingError::Broken(error)),
            }
        }
        if self.reader.source().is_empty() {
            Ok(None)
        } else {
            Err(CodingError::Trailing)
        }
    }

    /// The coding's own end was met. brotli's decoder may have read something behind it, and says so when it is asked
    /// once more.
    fn end(&mut self, slice: &mut [u8]) -> Result<(), CodingError> {
        self.over = true;
        match self.reader.read(slice) {
            Ok(0) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Ok(_) | Err(_) => Err(CodingError::Trailing),
        }
    }
}

impl Reader {
    fn source(&mut self) -> &mut Source {
        match self {
            Self::Gzip(reader) => reader.get_mut(),
            Self::Zlib(reader) => reader.get_mut(),
            Self::Deflate(reader) => reader.get_mut(),
            Self::Brotli(reader) => reader.get_mut(),
        }
    }

    fn read(&mut self, slice: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(reader) => reader.read(slice),
            Self::Zlib(reader) => reader.read(slice),
            Self::Deflate(reader) => reader.read(slice),
            Self::Brotli(reader) => reader.read(slice),
        }
    }
}

/// What went in and was not read yet.
#[derive(Default)]
struct Source {
    pieces: VecDeque<Bytes>,
    ended: bool,
}

impl Source {
    fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.pieces.front().is_some_and(Bytes::is_empty) {
            self.pieces.pop_front();
        }
        match self.pieces.front() {
            Some(piece) => Ok(piece),
            None if self.ended => Ok(&[]),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn consume(&mut self, length: usize) {
        if let Some(piece) = self.pieces.front_mut() {
            piece.advance(length);
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}
