//! Incremental decoding.

use std::collections::VecDeque;
use std::io::{self, BufRead, ErrorKind, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::{CodingError, CodingFormat};

/// Maximum length of a decoded slice in bytes.
pub const SLICE: usize = 64 * 1024;

/// Input buffer of a `br` decoder in bytes.
const BROTLI_INPUT: usize = 16 * 1024;

/// Maximum number of gzip members in a row without content. Each costs time, but yields nothing.
const MAX_EMPTY_MEMBERS: usize = 16;

/// A streaming decoder: push a piece, pull until `None`, push the next.
pub struct ContentDecoder {
    format: FormatDecoder,
    /// Allocation for the next slice, kept while input is missing.
    buffer: Vec<u8>,
    ended: bool,
}

/// The members of a gzip body (RFC 1952 section 2.2).
struct Members {
    /// Decodes one member; the next needs another decoder.
    decoder: GzDecoder<Source>,
    /// Members that ended since the last content.
    ended: usize,
}

/// A decoder that reads from a [`Source`] and can resume after `WouldBlock`.
enum FormatDecoder {
    Gzip(Members),
    /// Zeros after the last gzip member.
    Padding(Source),
    Zlib(ZlibDecoder<Source>),
    Deflate(DeflateDecoder<Source>),
    Brotli(Box<brotli::Decompressor<Source>>),
}

impl ContentDecoder {
    /// Creates a decoder for one body.
    pub fn new(format: CodingFormat) -> Self {
        let source = Source::default();
        let format = match format {
            CodingFormat::Gzip => FormatDecoder::Gzip(Members {
                decoder: GzDecoder::new(source),
                ended: 0,
            }),
            CodingFormat::Zlib => FormatDecoder::Zlib(ZlibDecoder::new(source)),
            CodingFormat::Deflate => FormatDecoder::Deflate(DeflateDecoder::new(source)),
            CodingFormat::Brotli => {
                let decoder = brotli::Decompressor::new(source, BROTLI_INPUT);
                FormatDecoder::Brotli(Box::new(decoder))
            }
        };
        Self {
            format,
            buffer: Vec::new(),
            ended: false,
        }
    }

    /// Appends a piece of the encoded body.
    pub fn push(&mut self, encoded: Bytes) {
        self.format.source().pieces.push_back(encoded);
    }

    /// Marks the end of the encoded body.
    pub fn finish(&mut self) {
        self.format.source().ended = true;
    }

    /// Returns the next slice of at most [`SLICE`] bytes; `None` if more input is needed or the
    /// body has ended.
    ///
    /// # Errors
    /// If the body cannot be decoded. The decoder must not be used afterwards.
    pub fn pull(&mut self) -> Result<Option<Bytes>, CodingError> {
        if !self.ended {
            let mut slice = std::mem::take(&mut self.buffer);
            slice.resize(SLICE, 0);
            match self.format.read(&mut slice) {
                Ok(0) => self.end(&mut slice)?,
                Ok(length) => {
                    slice.truncate(length);
                    return Ok(Some(Bytes::from(slice)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.buffer = slice;
                    return Ok(None);
                }
                Err(error) => return Err(CodingError::Invalid(error)),
            }
        }
        if self.format.source().is_empty() {
            Ok(None)
        } else {
            Err(CodingError::Trailing)
        }
    }

    /// Handles the end of the format. brotli's decoder may have buffered trailing data, and reports
    /// it on another read.
    fn end(&mut self, slice: &mut [u8]) -> Result<(), CodingError> {
        self.ended = true;
        match self.format.read(slice) {
            Ok(0) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Ok(_) | Err(_) => Err(CodingError::Trailing),
        }
    }
}

impl FormatDecoder {
    fn source(&mut self) -> &mut Source {
        match self {
            Self::Gzip(members) => members.decoder.get_mut(),
            Self::Padding(source) => source,
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
        }
    }

    fn read(&mut self, slice: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(members) => match members.read(slice)? {
                Some(length) => Ok(length),
                None => {
                    let mut source = std::mem::take(members.decoder.get_mut());
                    let skipped = source.skip_zeros();
                    *self = Self::Padding(source);
                    skipped.map(|()| 0)
                }
            },
            Self::Padding(source) => source.skip_zeros().map(|()| 0),
            Self::Zlib(decoder) => decoder.read(slice),
            Self::Deflate(decoder) => decoder.read(slice),
            Self::Brotli(decoder) => decoder.read(slice),
        }
    }
}

impl Members {
    /// Returns the length of the next content, 0 at the end of the body, or `None` before zeros, which
    /// some servers add up to the end and gzip(1) and browsers ignore.
    fn read(&mut self, slice: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let length = self.decoder.read(slice)?;
            if length > 0 {
                self.ended = 0;
                return Ok(Some(length));
            }
            match self.decoder.get_mut().fill_buf()?.first() {
                None => return Ok(Some(0)),
                Some(0) => return Ok(None),
                Some(_) => {}
            }
            self.ended += 1;
            if self.ended > MAX_EMPTY_MEMBERS {
                let error = "too many gzip members without content";
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
            let source = std::mem::take(self.decoder.get_mut());
            self.decoder = GzDecoder::new(source);
        }
    }
}

/// Pushed input that the decoder has not read. Returns `WouldBlock` when empty before the end.
#[derive(Default)]
struct Source {
    pieces: VecDeque<Bytes>,
    ended: bool,
}

impl Source {
    fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }

    /// Consumes zeros up to the end, or up to another byte, which remains.
    fn skip_zeros(&mut self) -> io::Result<()> {
        loop {
            let piece = self.fill_buf()?;
            let zeros = piece.iter().take_while(|&&byte| byte == 0).count();
            if zeros == 0 {
                return Ok(());
            }
            self.consume(zeros);
        }
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
