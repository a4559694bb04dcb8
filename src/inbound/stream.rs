//! The byte stream of a caller's connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::connection::Connection;
use super::tls::TlsStream;
use citrix_wire::framing_guard::FramingGuard;

/// The client's HTTP/2 connection preface (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that are read at once while a request head is due. What arrives after the head is copied
/// twice, so that a large read would cost more than another one.
const HEAD_READ: usize = 4 * 1024;

/// Bytes that are read at once to detect the HTTP version, and from a parked connection.
const READ_AHEAD: usize = 1024;

/// Timeout for writing the end of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket that records written bytes in its [`Connection`]; below TLS, so that only sent bytes
/// count. Dropped within a response that only the close delimits, it resets the connection, so that
/// the caller does not take the response for complete.
pub struct WatchedSocket {
    socket: Socket,
    connection: Rc<Connection>,
}

impl WatchedSocket {
    /// Wraps an accepted socket.
    pub const fn new(socket: Socket, connection: Rc<Connection>) -> Self {
        Self { socket, connection }
    }

    fn record(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => self.connection.write_blocked(),
            Poll::Ready(written) => self.connection.wrote(*written.as_ref().unwrap_or(&0)),
        }
        written
    }
}

impl Drop for WatchedSocket {
    fn drop(&mut self) {
        // A Unix socket cannot be reset.
        if let Socket::Tcp(socket) = &self.socket
            && self.connection.must_reset()
        {
            // Fails only if the connection has ended.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
    }
}

/// A socket with or without TLS.
pub enum Transport {
    Plain(WatchedSocket),
    /// Boxed, because a TLS session is far larger than a socket.
    Tls(Box<TlsStream<WatchedSocket>>),
}

/// The HTTP version of a caller, from ALPN or from the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerProtocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2, by ALPN or prior knowledge.
    Http2,
}

/// A transport that records reads and flushes in its [`Connection`], and returns first the bytes
/// that were read to detect the HTTP version.
pub struct Stream {
    transport: Transport,
    /// Bytes read but not returned yet; at most one read.
    pending: BytesMut,
    /// HTTP/1 only: scans the returned bytes and limits how many are returned at once.
    guard: Option<Rc<RefCell<FramingGuard>>>,
    connection: Rc<Connection>,
}

impl Stream {
    pub fn new(transport: Transport, connection: Rc<Connection>) -> Self {
        Self {
            transport,
            pending: BytesMut::new(),
            guard: None,
            connection,
        }
    }

    /// Reads until the bytes equal the HTTP/2 preface or differ from it. An early end of the stream
    /// counts as HTTP/1.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn detect_protocol(&mut self) -> io::Result<CallerProtocol> {
        while self.pending.len() < PREFACE.len() && PREFACE.starts_with(&self.pending) {
            if !poll_fn(|cx| self.poll_read_ahead(cx)).await? {
                return Ok(CallerProtocol::Http1);
            }
            self.connection.bytes_arrived();
        }
        Ok(if self.pending.starts_with(PREFACE) {
            CallerProtocol::Http2
        } else {
            CallerProtocol::Http1
        })
    }

    /// Returns the first byte that was read but not returned yet.
    pub fn first_byte(&self) -> Option<u8> {
        self.pending.first().copied()
    }

    /// Closes the connection in an orderly way: over TLS with `close_notify` (RFC 9112
    /// section 9.8).
    pub(super) async fn close(mut self) {
        // The caller may have disconnected, or not read for a while.
        let _ = timeout(CLOSE_TIMEOUT, self.transport.shutdown()).await;
    }

    /// Takes back bytes that were read but not parsed, and removes the framing guard.
    pub fn put_back(&mut self, unread: &[u8]) {
        self.guard = None;
        if !unread.is_empty() {
            let behind = std::mem::replace(&mut self.pending, BytesMut::from(unread));
            self.pending.extend_from_slice(&behind);
        }
    }

    /// Records the number of bytes of an HTTP/2 header block that is arriving. Returns `false` if the
    /// connection must close.
    pub(super) fn block_arrived(&self, bytes: u32) -> bool {
        self.connection.block_arrived(bytes as usize)
    }

    /// Waits for bytes without holding a buffer. Returns `false` at the end of the stream.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.pending.is_empty() {
            if !self.connection.may_read() {
                return Poll::Pending;
            }
            if !ready!(self.poll_read_ahead(cx))? {
                return Poll::Ready(Ok(false));
            }
        }
        self.connection.bytes_arrived();
        Poll::Ready(Ok(true))
    }

    /// Reads before there is a buffer to read into. Returns `false` at the end of the stream.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        // Most heads fit, so that they need no additional read.
        let mut space = [MaybeUninit::uninit(); READ_AHEAD];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut read))?;
        self.pending.extend_from_slice(read.filled());
        Poll::Ready(Ok(!read.filled().is_empty()))
    }

    /// Adds a framing guard, and returns it.
    pub fn add_framing_guard(&mut self) -> Rc<RefCell<FramingGuard>> {
        let guard = Rc::<RefCell<FramingGuard>>::default();
        self.guard = Some(Rc::clone(&guard));
        guard
    }

    /// Reads bytes that no recipient needs, which takes no turn. Returns their number, 0 at the end
    /// of the stream.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn discard(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        if self.pending.is_empty() {
            return self.transport.read(scratch).await;
        }
        Ok(std::mem::take(&mut self.pending).len())
    }

    /// Tells the caller that nothing follows, unless hyper has (see `poll_shutdown`).
    ///
    /// # Errors
    /// When the caller has disconnected.
    pub(super) async fn end_writes(&mut self) -> io::Result<()> {
        match &mut self.transport {
            Transport::Plain(socket) => socket.shutdown().await,
            Transport::Tls(_) => Ok(()),
        }
    }

    /// Returns the socket and the bytes that were read but not returned; `None` over TLS.
    pub fn into_plain(self) -> Option<(WatchedSocket, Vec<u8>)> {
        match self.transport {
            Transport::Plain(socket) => Some((socket, self.pending.to_vec())),
            Transport::Tls(_) => None,
        }
    }

    fn is_head_due(&self) -> bool {
        let guard = self.guard.as_ref();
        guard.is_some_and(|guard| guard.borrow().is_head_due())
    }

    /// HTTP/1 only: the next byte belongs to a body.
    fn is_body_due(&self) -> bool {
        self.guard.is_some() && !self.is_head_due()
    }

    fn poll_read_head(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Not zeroed, which would cost more than the read.
        let mut space = [MaybeUninit::uninit(); HEAD_READ];
        let mut read = ReadBuf::uninit(&mut space[..HEAD_READ.min(buf.remaining())]);
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut read))?;
        let received = read.filled();
        if received.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if !self.connection.received(received.len()) {
            // The connection is closed by the directive.
            return Poll::Pending;
        }
        let permitted = self.permitted(received)?;
        buf.put_slice(&received[..permitted]);
        self.pending.extend_from_slice(&received[permitted..]);
        Poll::Ready(Ok(()))
    }

    /// Returns the number of these bytes that may be returned now.
    fn permitted(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.guard {
            Some(guard) => guard.borrow_mut().scan(bytes).map_err(io::Error::other),
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
        if !this.pending.is_empty() {
            if this.is_body_due() {
                this.connection.body_arrived();
            } else {
                this.connection.bytes_arrived();
            }
            let permitted =
                this.permitted(&this.pending[..this.pending.len().min(buf.remaining())])?;
            buf.put_slice(&this.pending[..permitted]);
            this.pending.advance(permitted);
            if this.pending.is_empty() {
                // An idle connection holds no buffer.
                this.pending = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        if !this.connection.may_read() {
            // The task of the connection is woken at its turn.
            return Poll::Pending;
        }
        if this.is_head_due() {
            return this.poll_read_head(cx, buf);
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.transport).poll_read(cx, buf);
        let received = &buf.filled()[before..];
        if !received.is_empty() {
            if this.is_body_due() {
                this.connection.body_arrived();
            } else if !this.connection.received(received.len()) {
                // The connection is closed by the directive.
                buf.set_filled(before);
                return Poll::Pending;
            }
            let permitted = this.permitted(received)?;
            this.pending.extend_from_slice(&received[permitted..]);
            buf.set_filled(before + permitted);
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
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        if !self
            .connection
            .arrived_at_socket(buf.filled().len() - before)
        {
            // The connection is closed by the directive.
            buf.set_filled(before);
            return Poll::Pending;
        }
        polled
    }
}

impl AsyncWrite for WatchedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.record(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.record(written)
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

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.transport {
            // A close follows at once, or `end_writes` before the rest of a request is read.
            Transport::Plain(_) if this.guard.is_some() => Poll::Ready(Ok(())),
            transport => Pin::new(transport).poll_shutdown(cx),
        }
    }
}

/// Implements tokio's I/O traits for an enum by its variants.
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
