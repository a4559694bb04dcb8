//! The TLS handshake with an upstream.
//!
//! A ClientHello with a post-quantum key share exceeds one packet. Some firewalls and TLS-inspecting
//! proxies expect all of it in the first one and reset, close or ignore the connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::BufReader;
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

/// The TLS session of a connection.
pub type UpstreamTlsStream = TlsStream<BufReader<TcpStream>>;

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
    let another = open_tcp(target, proxy.as_ref())
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
