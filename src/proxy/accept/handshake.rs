//! TLS on accepted connections, and clients that use the wrong scheme.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use prometheus::IntCounter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Acceptor;
use crate::inbound::connection::Connection;
use crate::inbound::stream::{CallerProtocol, Socket, Stream, Transport, WatchedSocket};
use crate::inbound::tls::{
    CallerCertificate, HandshakeFailure, HandshakeFailures, InboundTls, TlsStream,
};
use crate::tls::ALPN_H2;

/// The first byte of a TLS handshake, the type of its record; no HTTP method begins with it.
pub(super) const HANDSHAKE: u8 = 0x16;
/// A record with the fatal alert `handshake_failure` (RFC 8446 section 6).
const HANDSHAKE_FAILURE_ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 40];
/// Timeout for the client to read the alert and disconnect.
const ALERT_TIMEOUT: Duration = Duration::from_secs(1);

/// Records a handshake that ends early.
pub(super) struct HandshakeGuard<'a> {
    pub(super) failures: &'a HandshakeFailures,
    /// Counts failures in place of Citrix's hosts as well.
    pub(super) intercepted: Option<&'a IntCounter>,
    pub(super) connection: &'a Connection,
    pub(super) peer: Option<SocketAddr>,
    /// Bytes have arrived, and the handshake has not ended.
    pub(super) in_progress: bool,
}

impl HandshakeGuard<'_> {
    pub(super) fn fail(&mut self, failure: HandshakeFailure, error: Option<&io::Error>) {
        self.in_progress = false;
        if let Some(counter) = self.intercepted {
            counter.inc();
        }
        self.failures.record(failure, self.peer, error);
    }
}

impl Drop for HandshakeGuard<'_> {
    fn drop(&mut self) {
        let is_aborted = self.connection.is_stopped() || self.connection.is_evicted();
        if self.in_progress && !is_aborted {
            self.fail(HandshakeFailure::Timeout, None);
        }
    }
}

impl Acceptor {
    /// Completes the TLS handshake. A client that sends HTTP instead gets 400 from the data path.
    pub(super) async fn open_tls(
        &self,
        socket: Socket,
        tls: &InboundTls,
        peer: Option<SocketAddr>,
        connection: &Rc<Connection>,
    ) -> io::Result<(Stream, CallerProtocol)> {
        let mut guard = HandshakeGuard {
            failures: &self.proxy.shared.handshake_failures,
            intercepted: None,
            connection,
            peer,
            in_progress: false,
        };
        let mut socket = WatchedSocket::new(socket, Rc::clone(connection));
        // A health check that only connects is no failure.
        let first = socket.read_u8().await?;
        if first.is_ascii_alphabetic() {
            guard.fail(HandshakeFailure::PlainHttp, None);
            connection.set_plain_on_tls();
            return open_plain(socket, &[first], connection).await;
        }
        guard.in_progress = true;
        connection.handshake_began();
        let opened = TlsStream::accept(socket, &[first], tls.config())
            .await
            .and_then(|stream| self.open_session(stream, connection));
        match &opened {
            Ok(_) => guard.in_progress = false,
            Err(error) => guard.fail(HandshakeFailure::of(error), Some(error)),
        }
        opened
    }

    fn open_session(
        &self,
        stream: TlsStream<WatchedSocket>,
        connection: &Rc<Connection>,
    ) -> io::Result<(Stream, CallerProtocol)> {
        let state = stream.session();
        let protocol = if state.alpn_protocol() == Some(ALPN_H2) {
            CallerProtocol::Http2
        } else {
            CallerProtocol::Http1
        };
        if let Some([leaf, ..]) = state.peer_certificates() {
            let now = self.proxy.shared.clock.now();
            let certificate = CallerCertificate::read(leaf, now).map_err(io::Error::other)?;
            // In the form for `client_certificate`.
            tracing::debug!(
                subject = certificate.subject,
                dns_names = ?certificate.dns_names,
                "client certificate received"
            );
            connection.set_certificate(certificate);
        }
        let stream = Stream::new(Transport::Tls(Box::new(stream)), Rc::clone(connection));
        connection.set_tls();
        connection.opened();
        Ok((stream, protocol))
    }

    /// Detects the HTTP version. A client that uses TLS gets an alert.
    pub(super) async fn open_without_tls(
        &self,
        socket: Socket,
        peer: Option<SocketAddr>,
        connection: &Rc<Connection>,
    ) -> io::Result<(Stream, CallerProtocol)> {
        let socket = WatchedSocket::new(socket, Rc::clone(connection));
        let (mut stream, protocol) = open_plain(socket, &[], connection).await?;
        if stream.first_byte() == Some(HANDSHAKE) {
            let failures = &self.proxy.shared.handshake_failures;
            failures.record(HandshakeFailure::PlainListener, peer, None);
            // The client may have disconnected.
            let _ = timeout(ALERT_TIMEOUT, send_alert(&mut stream)).await;
            return Err(io::Error::other("TLS handshake on a listener without TLS"));
        }
        Ok((stream, protocol))
    }
}

pub(super) async fn open_plain(
    socket: WatchedSocket,
    read: &[u8],
    connection: &Rc<Connection>,
) -> io::Result<(Stream, CallerProtocol)> {
    connection.opened();
    let mut stream = Stream::new(Transport::Plain(socket), Rc::clone(connection));
    stream.put_back(read);
    let protocol = stream.detect_protocol().await?;
    Ok((stream, protocol))
}

/// Sends the alert and reads on until the client disconnects: closing a socket with unread bytes
/// resets the connection, and the alert may be lost.
async fn send_alert(stream: &mut Stream) -> io::Result<()> {
    stream.write_all(&HANDSHAKE_FAILURE_ALERT).await?;
    stream.shutdown().await?;
    let mut scratch = [0; 256];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}
