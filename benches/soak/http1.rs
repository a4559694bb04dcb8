//! HTTP/1 as both ends of the soak write and read it.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use crate::content::Verifier;

/// Longest head.
const MAX_HEAD: usize = 64 * 1024;
/// Longest text that is kept whole.
const MAX_TEXT: usize = 4 * 1024 * 1024;

/// A connection over TCP, with TLS or without.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Io for client::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl Io for server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

pub(crate) type Stream = Box<dyn Io>;

/// Makes the connection end with a reset when it is dropped.
pub(crate) fn reset_on_drop(tcp: &TcpStream) {
    // Fails on a connection that the peer has reset, which is harmless.
    socket2::SockRef::from(tcp)
        .set_linger(Some(Duration::ZERO))
        .ok();
}

/// A start line and its fields, with names in lower case.
pub(crate) struct Head {
    pub(crate) start: String,
    fields: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(each, _)| each == name);
        field.map(|(_, value)| value.as_str())
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1);
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// Returns the framing of the body, which ends as `otherwise` without a field.
    pub(crate) fn framing(&self, otherwise: Framing) -> Framing {
        if self.field("transfer-encoding").is_some() {
            return Framing::Chunked;
        }
        let length = self.field("content-length");
        length
            .and_then(|length| length.parse().ok())
            .map_or(otherwise, Framing::Length)
    }
}

/// The end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    /// With the connection.
    Close,
}

/// Takes the content of a body.
pub(crate) enum Sink {
    Bytes(Verifier),
    Text(Vec<u8>),
}

impl Sink {
    pub(crate) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Bytes(verifier) => verifier.update(bytes),
            Self::Text(text) if text.len() + bytes.len() > MAX_TEXT => {
                return Err(io::Error::other("too much text"));
            }
            Self::Text(text) => text.extend_from_slice(bytes),
        }
        Ok(())
    }

    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Bytes(verifier) => verifier.length(),
            Self::Text(text) => text.len(),
        }
    }
}

/// The rate at which a body is read, and the length that is.
#[derive(Clone, Copy)]
pub(crate) struct ReadLimits {
    /// Pause after each 64 KiB.
    pub(crate) pause: Duration,
    /// Bytes after which the rest is left.
    pub(crate) max_bytes: usize,
}

impl ReadLimits {
    pub(crate) const NONE: Self = Self {
        pause: Duration::ZERO,
        max_bytes: usize::MAX,
    };
}

/// The reading side of a connection.
pub(crate) struct Reader<R> {
    pub(crate) io: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
        }
    }

    /// Reads a head, or `None` if the connection ends before its first byte.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(io::Error::other("the head does not end"));
            }
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = self.buffer.split_to(end + 4);
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        Ok(Some(Head {
            start,
            fields: fields.collect(),
        }))
    }

    /// Reads a body. Fails if the connection ends before it.
    pub(crate) async fn body(
        &mut self,
        framing: Framing,
        sink: &mut Sink,
        limits: ReadLimits,
    ) -> io::Result<()> {
        match framing {
            Framing::Length(length) => self.bytes(length, sink, limits).await,
            Framing::Close => match self.bytes(usize::MAX, sink, limits).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && is_clean(&error) => {
                    Ok(())
                }
                read => read,
            },
            Framing::Chunked => loop {
                let line = self.line().await?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
                if size == 0 {
                    while !self.line().await?.is_empty() {}
                    return Ok(());
                }
                self.bytes(size, sink, limits).await?;
                if !self.line().await?.is_empty() {
                    return Err(io::Error::other("a chunk that does not end"));
                }
            },
        }
    }

    async fn bytes(
        &mut self,
        length: usize,
        sink: &mut Sink,
        limits: ReadLimits,
    ) -> io::Result<()> {
        let mut left = length;
        let mut since_pause = 0;
        while left > 0 {
            if self.buffer.is_empty() && self.io.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, CleanEnd));
            }
            let taken = left.min(self.buffer.len());
            sink.add(&self.buffer[..taken])?;
            self.buffer.advance(taken);
            left -= taken;
            if sink.length() >= limits.max_bytes {
                return Err(io::Error::other("the rest is left"));
            }
            since_pause += taken;
            if since_pause >= 64 * 1024 && !limits.pause.is_zero() {
                since_pause = 0;
                tokio::time::sleep(limits.pause).await;
            }
        }
        Ok(())
    }

    async fn line(&mut self) -> io::Result<String> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                break end;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(io::Error::other("the line does not end"));
            }
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let line = self.buffer.split_to(end + 2);
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// Returns whether nothing more has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// The orderly end of a connection, over TLS with close_notify.
#[derive(Debug, thiserror::Error)]
#[error("the connection ended")]
struct CleanEnd;

fn is_clean(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<CleanEnd>())
}

fn find(bytes: &[u8], end: &[u8]) -> Option<usize> {
    bytes.windows(end.len()).position(|window| window == end)
}

/// Returns a piece of a chunked body.
pub(crate) fn chunk(piece: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
    chunk.extend_from_slice(piece);
    chunk.extend_from_slice(b"\r\n");
    chunk
}
