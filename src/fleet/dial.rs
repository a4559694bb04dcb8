//! Byte streams to stores and sentinels: our resolver, address racing and TLS, never through an
//! egress proxy.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{Step, StoreError, within};
use crate::config::HostPort;
use crate::upstream::dial;

/// A byte stream to a store.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The address of a store or sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and port.
    Tcp(HostPort),
    /// The path of a socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Opens a stream, over TLS with `tls`; not over a Unix socket.
///
/// # Errors
/// When a step fails, or the deadline passes.
pub(super) async fn dial(
    address: &Address,
    tls: Option<&Arc<ClientConfig>>,
    deadline: Instant,
) -> Result<Box<dyn Stream>, StoreError> {
    let target = match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await;
            return Ok(Box::new(stream.map_err(StoreError::Connect)?));
        }
        Address::Tcp(target) => target,
    };
    let addresses = resolve(target, deadline).await?;
    let socket = connect(&addresses, deadline).await?;
    let Some(tls) = tls else {
        return Ok(Box::new(socket));
    };
    Ok(Box::new(secure(socket, target, tls, deadline).await?))
}

/// Returns the addresses of a host.
///
/// # Errors
/// If there are none at the deadline.
pub(super) async fn resolve(
    target: &HostPort,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, StoreError> {
    let resolving = async {
        let found = dial::resolve(host_of(target), target.port).await;
        found.map_err(StoreError::Resolve)
    };
    within(deadline, Step::Resolve, resolving).await
}

/// Connects to the first address that accepts it.
///
/// # Errors
/// If none has done so at the deadline.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<TcpStream, StoreError> {
    let connecting = async {
        let socket = dial::connect(addresses).await;
        socket.map_err(StoreError::Connect)
    };
    within(deadline, Step::Connect, connecting).await
}

/// Performs a TLS handshake.
///
/// # Errors
/// If it fails or takes longer.
pub(super) async fn secure(
    socket: TcpStream,
    target: &HostPort,
    tls: &Arc<ClientConfig>,
    deadline: Instant,
) -> Result<TlsStream<TcpStream>, StoreError> {
    let handshake = async {
        let name = ServerName::try_from(host_of(target).to_owned());
        let name = name.map_err(|error| StoreError::Handshake(io::Error::other(error)))?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let stream = connector.connect(name, socket).await;
        stream.map_err(StoreError::Handshake)
    };
    within(deadline, Step::Handshake, handshake).await
}

/// Returns the host without brackets.
fn host_of(target: &HostPort) -> &str {
    target.host.trim_start_matches('[').trim_end_matches(']')
}
