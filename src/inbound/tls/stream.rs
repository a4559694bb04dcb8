//! The TLS session of a caller's connection, on rustls without its buffers.
//!
//! The buffered sessions of rustls keep 4 KiB to read into for as long as they exist. This one
//! borrows the buffers of its thread while bytes flow. It keeps what cannot be passed on yet: a part
//! of a record, plaintext that is not read, and records that the socket does not accept.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// Maximum bytes of messages of the handshake that are not complete.
const MAX_UNFINISHED: usize = 64 * 1024;
/// Bytes that are read at once during the handshake.
const HANDSHAKE_READ: usize = 4 * 1024;
/// Maximum bytes of a record that is not complete and a read: more than a record (RFC 5246 section
/// 6.2.3).
const READ: usize = 20 * 1024;
/// Bytes that are encrypted at once: four records.
const WRITE: usize = 64 * 1024;
/// Bytes of a record (RFC 8446 section 5.1), into which small slices are combined.
const RECORD: usize = 16 * 1024;
/// Space for the headers and tags of these records, and for a key update before them.
const OVERHEAD: usize = 1024;

/// Buffers that the sessions of a thread use in turn.
struct Buffers {
    /// A read is placed at [`MAX_UNFINISHED`], so that what preceded it fits before it.
    received: Box<[u8]>,
    combined: Vec<u8>,
    encrypted: Box<[u8]>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        received: vec![0; MAX_UNFINISHED + READ].into(),
        combined: Vec::with_capacity(RECORD),
        encrypted: vec![0; WRITE + OVERHEAD].into(),
    });
}

/// A server's TLS session over a socket.
pub struct TlsStream<S> {
    socket: S,
    session: UnbufferedServerConnection,
    /// Received bytes that rustls needs again: an incomplete record or message of the handshake.
    unfinished: Vec<u8>,
    /// Decrypted bytes that were not read, from `read` on.
    plaintext: Vec<u8>,
    read: usize,
    /// Encrypted bytes that were not written.
    unwritten: Vec<u8>,
    /// The peer has sent `close_notify`.
    peer_closed: bool,
    /// This side has sent `close_notify`.
    closed: bool,
    /// The session ended with an error.
    failed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Completes the handshake. `first` are the bytes that were read before.
    ///
    /// # Errors
    /// When the handshake fails, after an alert, or the connection ends.
    pub async fn accept(socket: S, first: &[u8], config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut stream = Self {
            socket,
            session: UnbufferedServerConnection::new(config).map_err(io::Error::other)?,
            unfinished: first.to_vec(),
            plaintext: Vec::new(),
            read: 0,
            unwritten: Vec::new(),
            peer_closed: false,
            closed: false,
            failed: false,
        };
        while stream.session.is_handshaking() {
            let mut nothing = ReadBuf::new(&mut []);
            if poll_fn(|cx| stream.poll_receive(cx, &mut nothing)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            stream.flush().await?;
        }
        Ok(stream)
    }

    /// Returns the state of the session.
    pub fn session(&self) -> &rustls::CommonState {
        &self.session
    }

    /// Reads from the socket and decrypts into `into`, and the rest into `plaintext`. Returns the
    /// number of bytes that arrived, 0 at the end.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.failed {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = self.unfinished.len();
        let space = if self.session.is_handshaking() {
            HANDSHAKE_READ.min(MAX_UNFINISHED.saturating_sub(before))
        } else {
            READ.saturating_sub(before)
        };
        if space == 0 {
            return Poll::Ready(Err(io::Error::other("TLS message too long")));
        }
        BUFFERS.with_borrow_mut(|buffers| {
            let mut read = ReadBuf::new(&mut buffers.received[MAX_UNFINISHED..][..space]);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
            let arrived = read.filled().len();
            if arrived > 0 {
                let start = MAX_UNFINISHED - before;
                buffers.received[start..MAX_UNFINISHED].copy_from_slice(&self.unfinished);
                let received = &mut buffers.received[start..MAX_UNFINISHED + arrived];
                let processed = self.process(received, into);
                if processed.is_err() {
                    self.failed = true;
                    // The alert; the socket accepts it, unless the peer reads nothing.
                    let _ = self.poll_write_out(cx);
                }
                self.unfinished = received[processed?..].to_vec();
            }
            Poll::Ready(Ok(arrived))
        })
    }

    /// Processes what was received as far as it is complete. Returns the number of these bytes.
    fn process(&mut self, received: &mut [u8], into: &mut ReadBuf<'_>) -> io::Result<usize> {
        let mut processed = 0;
        loop {
            let rest = &mut received[processed..];
            let UnbufferedStatus { mut discard, state } = self.session.process_tls_records(rest);
            let mut is_blocked = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid_data)?;
                        discard += record.discard;
                        let now = record.payload.len().min(into.remaining());
                        let (now, later) = record.payload.split_at(now);
                        into.put_slice(now);
                        self.plaintext.extend_from_slice(later);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, &mut self.unwritten)?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                // Early data is not accepted.
                Ok(_) => is_blocked = true,
                Err(error) => {
                    let rest = &mut received[processed + discard..];
                    // The alert, and what precedes it.
                    while self.session.wants_write()
                        && let Ok(ConnectionState::EncodeTlsData(mut data)) =
                            self.session.process_tls_records(rest).state
                    {
                        encode(&mut data, &mut self.unwritten)?;
                    }
                    return Err(invalid_data(error));
                }
            }
            processed += discard;
            if is_blocked {
                return Ok(processed);
            }
        }
    }

    /// Encrypts `data`, or `close_notify` if it is `None`. Returns the number of encrypted bytes.
    fn encrypt(&mut self, data: Option<&[u8]>, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let status = self.session.process_tls_records(&mut self.unfinished);
            let discard = status.discard;
            match status.state.map_err(invalid_data)? {
                // A key update, for example, which precedes the data.
                ConnectionState::EncodeTlsData(mut data) => encode(&mut data, &mut self.unwritten)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(mut traffic) => {
                    let encrypted = match data {
                        Some(data) => traffic.encrypt(data, to),
                        None => traffic.queue_close_notify(to),
                    };
                    return encrypted.map_err(io::Error::other);
                }
                _ => return Err(io::ErrorKind::NotConnected.into()),
            }
            self.unfinished.drain(..discard);
        }
    }

    /// Encrypts and writes; what the socket does not accept is written later.
    fn poll_encrypt(&mut self, cx: &mut Context<'_>, data: Option<&[u8]>) -> Poll<io::Result<()>> {
        if self.failed || self.closed {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        ready!(self.poll_write_out(cx))?;
        BUFFERS.with_borrow_mut(|buffers| {
            let length = self.encrypt(data, &mut buffers.encrypted)?;
            let mut encrypted = &buffers.encrypted[..length];
            while self.unwritten.is_empty() && !encrypted.is_empty() {
                match Pin::new(&mut self.socket).poll_write(cx, encrypted)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(written) => encrypted = &encrypted[written..],
                    Poll::Pending => break,
                }
            }
            self.unwritten.extend_from_slice(encrypted);
            Poll::Ready(Ok(()))
        })
    }

    /// Writes what the socket did not accept.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.unwritten))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unwritten.drain(..written);
        }
        // An idle connection holds no buffer.
        self.unwritten = Vec::new();
        Poll::Ready(Ok(()))
    }
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, to: &mut Vec<u8>) -> io::Result<()> {
    let start = to.len();
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        to.resize(start + size.required_size, 0);
        data.encode(&mut to[start..]).map_err(io::Error::other)?;
    }
    Ok(())
}

fn invalid_data(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            let unread = &this.plaintext[this.read..];
            let length = unread.len().min(buf.remaining());
            buf.put_slice(&unread[..length]);
            this.read += length;
            if this.read == this.plaintext.len() {
                // An idle connection holds no buffer.
                (this.plaintext, this.read) = (Vec::new(), 0);
            }
            if buf.filled().len() > before || buf.remaining() == 0 || this.peer_closed {
                return Poll::Ready(Ok(()));
            }
            if ready!(this.poll_receive(cx, buf))? == 0 {
                // RFC 8446 section 6.1: without `close_notify` the data may be truncated.
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            // What rustls responds to messages of the handshake.
            if !this.unwritten.is_empty() {
                let _ = this.poll_write_out(cx)?;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let data = &buf[..buf.len().min(WRITE)];
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.get_mut().poll_encrypt(cx, Some(data)))?;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        match first {
            Some(first) if first.len() < all.min(RECORD) => {
                // Taken out, because encrypting borrows the buffers.
                let mut combined = BUFFERS.with_borrow_mut(|b| std::mem::take(&mut b.combined));
                combined.clear();
                for slice in slices {
                    let space = RECORD - combined.len();
                    combined.extend_from_slice(&slice[..slice.len().min(space)]);
                }
                let polled = self.poll_write(cx, &combined);
                BUFFERS.with_borrow_mut(|buffers| buffers.combined = combined);
                polled
            }
            first => self.poll_write(cx, first.map_or(&[], |first| first)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_out(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed && !this.failed {
            ready!(this.poll_encrypt(cx, None))?;
            this.closed = true;
        }
        ready!(this.poll_write_out(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
