//! Incremental encoding.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::CodingFormat;

/// Fastest level: the caller is near, so that time matters more than size.
const DEFLATE_LEVEL: u32 = 1;
/// Fastest useful quality, as for [`DEFLATE_LEVEL`].
const BROTLI_QUALITY: u32 = 1;
/// Binary logarithm of the window, 256 KiB: enough for repetitive JSON, and limits the memory of
/// encoder and decoder.
const BROTLI_WINDOW: u32 = 18;
const BROTLI_BUFFER: usize = 16 * 1024;

/// A streaming encoder: write, then flush or finish.
pub struct ContentEncoder(FormatEncoder);

enum FormatEncoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zlib(ZlibEncoder<Vec<u8>>),
    Deflate(DeflateEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
}

impl ContentEncoder {
    /// Creates an encoder for one body.
    pub fn new(format: CodingFormat) -> Self {
        let level = Compression::new(DEFLATE_LEVEL);
        Self(match format {
            CodingFormat::Gzip => FormatEncoder::Gzip(GzEncoder::new(Vec::new(), level)),
            CodingFormat::Zlib => FormatEncoder::Zlib(ZlibEncoder::new(Vec::new(), level)),
            CodingFormat::Deflate => FormatEncoder::Deflate(DeflateEncoder::new(Vec::new(), level)),
            CodingFormat::Brotli => FormatEncoder::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
        })
    }

    /// Encodes a piece of the body.
    ///
    /// # Errors
    /// If the library fails; no input is known to cause that.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.writer().write_all(piece)
    }

    /// Returns output with which the receiver can decode everything written so far.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn flush(&mut self) -> io::Result<Bytes> {
        self.writer().flush()?;
        Ok(match &mut self.0 {
            FormatEncoder::Gzip(encoder) => take(encoder.get_mut()),
            FormatEncoder::Zlib(encoder) => take(encoder.get_mut()),
            FormatEncoder::Deflate(encoder) => take(encoder.get_mut()),
            FormatEncoder::Brotli(encoder) => take(encoder.get_mut()),
        })
    }

    /// Returns the remaining output with the end of the format.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn finish(self) -> io::Result<Bytes> {
        Ok(Bytes::from(match self.0 {
            FormatEncoder::Gzip(encoder) => encoder.finish()?,
            FormatEncoder::Zlib(encoder) => encoder.finish()?,
            FormatEncoder::Deflate(encoder) => encoder.finish()?,
            FormatEncoder::Brotli(encoder) => encoder.into_inner(),
        }))
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.0 {
            FormatEncoder::Gzip(encoder) => encoder,
            FormatEncoder::Zlib(encoder) => encoder,
            FormatEncoder::Deflate(encoder) => encoder,
            FormatEncoder::Brotli(encoder) => encoder,
        }
    }
}

fn take(output: &mut Vec<u8>) -> Bytes {
    Bytes::from(std::mem::take(output))
}
