//! A new connection to an upstream: name, TCP, TLS, within one deadline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::BufReader;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::origin::Origin;
use crate::tls::ALPN_H2;

/// Read ahead of rustls, which itself asks for 4 KiB at a time: a quarter of the system calls on large answers.
const TLS_READ_BUFFER: usize = 64 * 1024;
/// Long calls cross NATs that forget quiet connections.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection's bytes.
pub enum UpstreamIo {
    /// In clear, to a loopback address.
    Plain(TcpStream),
    /// Boxed: a TLS session is far larger than a socket.
    Tls(Box<TlsStream<BufReader<TcpStream>>>),
}

mod io_impl {
    //! Kept apart so that the macro's imports do not spread.
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::UpstreamIo;

    crate::inbound::stream::delegate!(UpstreamIo: Plain, Tls);
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve.
    #[error("the name cannot be resolved")]
    Dns(#[source] io::Error),
    /// Nobody answers at the address.
    #[error("no TCP connection")]
    Tcp(#[source] io::Error),
    /// The handshake failed: certificate, protocol version, or a closed connection.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The upstream does not speak HTTP on it.
    #[error("the HTTP handshake failed")]
    Http(#[source] hyper::Error),
    /// `upstream.connect_timeout` passed.
    #[error("no connection within upstream.connect_timeout ({})", humantime::format_duration(*.0))]
    Timeout(Duration),
}

impl ConnectError {
    /// What an operator should look at first.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Dns(_) => "check the host in the configuration, and the resolver",
            Self::Tcp(_) => "check routing, firewalls and the port",
            Self::Tls(_) => "if a corporate proxy inspects TLS, name its root in upstream.ca_file",
            Self::Http(_) => "check that the address is that of an HTTP server",
            Self::Timeout(_) => "check firewalls that drop packets, or raise upstream.connect_timeout",
        }
    }
}

/// Opens a connection; true when ALPN chose HTTP/2.
///
/// # Errors
/// When any of the steps fails, or all together take longer than `limit`.
pub async fn dial(origin: &Origin, limit: Duration) -> Result<(UpstreamIo, bool), ConnectError> {
    timeout(limit, connect(origin)).await.map_err(|_| ConnectError::Timeout(limit))?
}

async fn connect(origin: &Origin) -> Result<(UpstreamIo, bool), ConnectError> {
    let socket = connect_tcp(origin).await?;
    let Some(server_name) = origin.server_name.clone() else {
        return Ok((UpstreamIo::Plain(socket), false));
    };
    let buffered = BufReader::with_capacity(TLS_READ_BUFFER, socket);
    let stream = TlsConnector::from(Arc::clone(&origin.tls))
        .connect(server_name, buffered)
        .await
        .map_err(ConnectError::Tls)?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_H2);
    Ok((UpstreamIo::Tls(Box::new(stream)), http2))
}

async fn connect_tcp(origin: &Origin) -> Result<TcpStream, ConnectError> {
    let addresses = lookup_host((origin.host_to_resolve(), origin.port)).await.map_err(ConnectError::Dns)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => {
                socket.set_nodelay(true).map_err(ConnectError::Tcp)?;
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
                SockRef::from(&socket).set_tcp_keepalive(&keepalive).map_err(ConnectError::Tcp)?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(ConnectError::Tcp(last))
}
