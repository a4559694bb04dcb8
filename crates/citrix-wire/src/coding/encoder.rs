//! Into a coding.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::Format;

/// The link to the caller is short; time counts for more than size.
const DEFLATE_LEVEL: u32 = 1;
const BROTLI_QUALITY: u32 = 1;
/// 256 KiB, in bits: enough for repetitive JSON, and the caller's decoder needs no more either.
const BROTLI_WINDOW: u32 = 18;
const BROTLI_BUFFER: usize = 16 * 1024;

/// An encoder: write, flush, take what came out.
pub struct Encoder(Writer);

enum Writer {
    Gzip(GzEncoder<Vec<u8>>),
    Zlib(ZlibEncoder<Vec<u8>>),
    Deflate(DeflateEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
}

impl Encoder {
    /// One for a body.
    pub fn new(format: Format) -> Self {
        let level = Compression::new(DEFLATE_LEVEL);
        Self(match format {
            Format::Gzip => Writer::Gzip(GzEncoder::new(Vec::new(), level)),
            Format::Zlib => Writer::Zlib(ZlibEncoder::new(Vec::new(), level)),
            Format::Deflate => Writer::Deflate(DeflateEncoder::new(Vec::new(), level)),
            Format::Brotli => Writer::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
        })
    }

    /// Takes a piece of the body.
    ///
    /// # Errors
    /// When the library refuses; it has no known reason to.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.writer().write_all(piece)
    }

    /// Everything that went in so far, so that the receiver can decode it now.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn flush(&mut self) -> io::Result<Bytes> {
        self.writer().flush()?;
        Ok(match &mut self.0 {
            Writer::Gzip(writer) => take(writer.get_mut()),
            Writer::Zlib(writer) => take(writer.get_mut()),
            Writer::Deflate(writer) => take(writer.get_mut()),
            Writer::Brotli(writer) => take(writer.get_mut()),
        })
    }

    /// The rest, with the coding's end.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(self) -> io::Result<Bytes> {
        Ok(Bytes::from(match self.0 {
            Writer::Gzip(writer) => writer.finish()?,
            Writer::Zlib(writer) => writer.finish()?,
            Writer::Deflate(writer) => writer.finish()?,
            Writer::Brotli(writer) => writer.into_inner(),
        }))
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.0 {
            Writer::Gzip(writer) => writer,
            Writer::Zlib(writer) => writer,
            Writer::Deflate(writer) => writer,
            Writer::Brotli(writer) => writer,
        }
    }
}

fn take(written: &mut Vec<u8>) -> Bytes {
    Bytes::from(std::mem::take(written))
}
