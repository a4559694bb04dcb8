//! The byte stream of a caller's connection, whatever carries it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::connection::Connection;
use citrix_wire::framing_guard::FramingGuard;

/// What every HTTP/2 connection begins with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket as it was accepted.
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// A socket that tells its [`Connection`] how well the caller reads: below TLS, so that what counts has left us.
pub struct WatchedSocket {
    socket: Socket,
    connection: Rc<Connection>,
}

impl WatchedSocket {
    /// A socket that was accepted.
    pub const fn new(socket: Socket, connection: Rc<Connection>) -> Self {
        Self { socket, connection }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => self.connection.write_blocked(),
            Poll::Ready(written) => self.connection.wrote(*written.as_ref().unwrap_or(&0)),
        }
        written
    }
}

/// A socket, with TLS on it or without.
pub enum Transport {
    /// In clear.
    Plain(WatchedSocket),
    /// Boxed: a TLS session is far larger than a socket.
    Tls(Box<TlsStream<WatchedSocket>>),
}

/// The version of HTTP a caller speaks, known from ALPN or from his first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerProtocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2, negotiated or with prior knowledge.
    Http2,
}

/// A transport that tells its [`Connection`] when bytes come and when all are out, and that hands out first what was
/// read to find out the version of HTTP.
pub struct Stream {
    transport: Transport,
    /// Read, but still to be handed out: no more than one read gives.
    held: BytesMut,
    /// Of HTTP/1: has a look at what is handed out, and says how much of it may be.
    heads: Option<Rc<RefCell<FramingGuard>>>,
    connection: Rc<Connection>,
}

impl Stream {
    /// Wraps a transport.
    pub fn new(transport: Transport, connection: Rc<Connection>) -> Self {
        Self {
            transport,
            held: BytesMut::new(),
            heads: None,
            connection,
        }
    }

    /// Reads until it is clear whether the caller speaks HTTP/2 with prior knowledge.
    ///
    /// # Errors
    /// Those of reading. An end of the stream is HTTP/1's matter.
    pub async fn detect_protocol(&mut self) -> io::Result<CallerProtocol> {
        let mut ahead = [0; PREFACE.len()];
        let mut length = 0;
        while length < PREFACE.len() {
            let read = self.transport.read(&mut ahead[length..]).await?;
            if read > 0 {
                self.connection.bytes_arrived();
            }
            self.held.extend_from_slice(&ahead[length..length + read]);
            length += read;
            if read == 0 || ahead[..length] != PREFACE[..length] {
                return Ok(CallerProtocol::Http1);
            }
        }
        Ok(CallerProtocol::Http2)
    }

    /// Takes back what was handed out last and not looked at. No watch is kept any more.
    pub(super) fn put_back(&mut self, unread: &[u8]) {
        self.heads = None;
        if !unread.is_empty() {
            let behind = std::mem::replace(&mut self.held, BytesMut::from(unread));
            self.held.extend_from_slice(&behind);
        }
    }

    /// Waits until there is something to read, without a buffer; `false` at the end of the stream.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.held.is_empty() {
            // Most heads fit, so that a request after a rest takes no more reads than others.
            let mut first = [0; 1024];
            let mut first = ReadBuf::new(&mut first);
            ready!(Pin::new(&mut self.transport).poll_read(cx, &mut first))?;
            if first.filled().is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.held.extend_from_slice(first.filled());
        }
        self.connection.bytes_arrived();
        Poll::Ready(Ok(true))
    }

    /// From now on the heads of requests are watched; to be asked about each that is read.
    pub fn watch_heads(&mut self) -> Rc<RefCell<FramingGuard>> {
        let heads = Rc::<RefCell<FramingGuard>>::default();
        self.heads = Some(Rc::clone(&heads));
        heads
    }

    /// What comes is not handed to hyper any more.
    pub fn unwatch(&mut self) {
        self.heads = None;
    }

    /// How many of these bytes may be handed out now.
    fn pass(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.heads {
            Some(heads) => heads.borrow_mut().scan(bytes).map_err(io::Error::other),
            None => Ok(bytes.len()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.held.is_empty() {
            let passed = this.pass(&this.held[..this.held.len().min(buf.remaining())])?;
            buf.put_slice(&this.held[..passed]);
            this.held.advance(passed);
            if this.held.is_empty() {
                // An idle connection holds no buffer.
                this.held = BytesMut::new();
            }
            this.connection.bytes_arrived();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.transport).poll_read(cx, buf);
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            this.connection.bytes_arrived();
            let passed = this.pass(came)?;
            this.held.extend_from_slice(&came[passed..]);
            buf.set_filled(before + passed);
        }
        polled
    }
}

impl AsyncRead for WatchedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for WatchedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.transport).poll_flush(cx);
        if polled.is_ready() {
            self.connection.flushed();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

/// Passes the calls of tokio's traits on to the variants of an enum.
macro_rules! delegate {
    ($name:ident: $($variant:ident),+) => {
        impl AsyncRead for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(inner) => Pin::new(inner).poll_read(cx, buf),)+
                }
            }
        }

        impl AsyncWrite for $name {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(inner) => Pin::new(inner).poll_write(cx, buf),)+
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(inner) => Pin::new(inner).poll_write_vectored(cx, bufs),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $(Self::$variant(inner) => inner.is_write_vectored(),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(inner) => Pin::new(inner).poll_flush(cx),)+
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(inner) => Pin::new(inner).poll_shutdown(cx),)+
                }
            }
        }
    };
}

pub(crate) use delegate;

delegate!(Socket: Tcp, Unix);
delegate!(Transport: Plain, Tls);
