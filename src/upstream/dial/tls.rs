//! The TLS handshake with an upstream.
//!
//! A ClientHello with a post-quantum key share exceeds one packet. Some firewalls and TLS-inspecting
//! proxies expect all of it in the first one and reset, close or ignore the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{Connect, TlsConnector};

use super::{DialConfig, DialTarget, open_tcp};

/// Buffer below rustls, which reads 4 KiB at a time: a quarter of the system calls for large
/// responses.
const READ_BUFFER: usize = 64 * 1024;

/// Time without a byte of the server, or half of the time for the connection if that is shorter,
/// after which the small ClientHello is tried.
const MAX_SILENCE: Duration = Duration::from_secs(3);

/// Size of a record after which another has probably arrived, because a sender fills records as long
/// as it has data.
const FULL_RECORD: usize = 4 * 1024;

type UpstreamTlsStream = TlsStream<BufReader<TcpStream>>;

/// The TLS session of a connection.
pub struct UpstreamTls {
    stream: UpstreamTlsStream,
    /// Occurred after bytes that were returned first.
    error: Option<io::Error>,
}

impl UpstreamTls {
    const fn new(stream: UpstreamTlsStream) -> Self {
        let error = None;
        Self { stream, error }
    }

    /// Returns the TLS session.
    pub fn session(&self) -> &ClientConnection {
        self.stream.get_ref().1
    }

    /// Returns `true` if only the socket can have more, and it has none.
    fn has_nothing(&self, cx: &mut Context<'_>) -> bool {
        let (io, session) = self.stream.get_ref();
        self.error.is_none()
            && session.wants_read()
            && io.buffer().is_empty()
            && io.get_ref().poll_read_ready(cx).is_pending()
    }

    /// Returns `true` if decrypted bytes, or a close, have not been read.
    fn has_decrypted(&self) -> bool {
        !self.session().wants_read()
    }

    /// Reads what one record contains. Returns its length.
    fn poll_record(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut stream = Pin::new(&mut self.stream);
        let record = ready!(stream.as_mut().poll_fill_buf(cx))?;
        let length = record.len().min(buf.remaining());
        buf.put_slice(&record[..length]);
        stream.consume(length);
        Poll::Ready(Ok(length))
    }
}

/// Ends the session with `close_notify` (RFC 9112 section 9.8), if the socket accepts it at once.
impl Drop for UpstreamTls {
    fn drop(&mut self) {
        let (io, session) = self.stream.get_mut();
        session.send_close_notify();
        let mut socket = AtOnce(io.get_ref());
        while session.wants_write() && session.write_tls(&mut socket).is_ok_and(|sent| sent > 0) {}
    }
}

/// Writes what the socket accepts without a wait.
struct AtOnce<'s>(&'s TcpStream);

impl io::Write for AtOnce<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Unlike the stream's own implementation, it does not ask rustls for what cannot have arrived: a
/// request would otherwise pay three times for a read that is pending.
impl AsyncRead for UpstreamTls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has_nothing(cx) {
            return Poll::Pending;
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        let mut length = ready!(self.poll_record(cx, buf))?;
        while buf.remaining() > 0 && length > 0 && (length >= FULL_RECORD || self.has_decrypted()) {
            length = match self.poll_record(cx, buf) {
                Poll::Ready(Ok(length)) => length,
                Poll::Ready(Err(error)) => {
                    self.error = Some(error);
                    break;
                }
                Poll::Pending => break,
            };
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpstreamTls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Performs the TLS handshake. If the server does not respond at all, repeats it once with the
/// small ClientHello on another connection, and prefers that from then on if it succeeds.
///
/// # Errors
/// When it fails, for example because the certificate is not trusted.
pub async fn secure(
    socket: TcpStream,
    target: DialTarget<'_>,
    server_name: &ServerName<'static>,
    dial_config: &DialConfig,
    deadline: Instant,
) -> io::Result<UpstreamTls> {
    let stream = handshake(socket, target, server_name, dial_config, deadline).await?;
    Ok(UpstreamTls::new(stream))
}

async fn handshake(
    socket: TcpStream,
    target: DialTarget<'_>,
    server_name: &ServerName<'static>,
    dial_config: &DialConfig,
    deadline: Instant,
) -> io::Result<UpstreamTlsStream> {
    let configs = dial_config.tls();
    if dial_config.uses_small_hello() {
        return begin(socket, server_name, &configs.small).await;
    }
    let handshake = begin(socket, server_name, &configs.post_quantum);
    let unanswered = match unless_unanswered(handshake, deadline).await {
        Ok(outcome) => return outcome,
        Err(error) => error,
    };
    let proxy = dial_config.egress().proxy_for(target.host);
    let another = open_tcp(target, proxy.as_ref(), dial_config, |_| true)
        .await
        .map_err(|_| unanswered)?;
    let stream = begin(another, server_name, &configs.small).await?;
    dial_config.use_small_hello(target.host);
    Ok(stream)
}

type Handshake = Connect<BufReader<TcpStream>>;

/// Returns the outcome of a handshake.
///
/// # Errors
/// When the connection ends, or is silent for too long, before the first byte of the server.
async fn unless_unanswered(
    mut handshake: Handshake,
    deadline: Instant,
) -> Result<io::Result<UpstreamTlsStream>, io::Error> {
    let now = Instant::now();
    let half = deadline.saturating_duration_since(now) / 2;
    // Sends the ClientHello, for which a new socket has space.
    let first_byte = match (&mut handshake).now_or_never() {
        Some(Err(error)) if is_disconnect(error.kind()) => return Err(error),
        Some(outcome) => return Ok(outcome),
        None => timeout_at(now + half.min(MAX_SILENCE), wait_for_byte(&handshake)).await,
    };
    match first_byte {
        Ok(Ok(())) => Ok(handshake.await),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn wait_for_byte(handshake: &Handshake) -> io::Result<()> {
    // `None` once the handshake has ended.
    let socket = handshake.get_ref().ok_or(io::ErrorKind::UnexpectedEof)?;
    match socket.get_ref().peek(&mut [0]).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn is_disconnect(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

fn begin(
    socket: TcpStream,
    server_name: &ServerName<'static>,
    config: &Arc<ClientConfig>,
) -> Handshake {
    let buffered = BufReader::with_capacity(READ_BUFFER, socket);
    TlsConnector::from(Arc::clone(config)).connect(server_name.clone(), buffered)
}
