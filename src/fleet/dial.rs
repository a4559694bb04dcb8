//! Byte streams to stores and sentinels: our resolver, address racing and TLS, never through an
//! egress proxy.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::error::{Step, StoreError, within};
use crate::config::HostPort;
use crate::upstream::dial;

/// A byte stream to a store.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

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
    let host = host_of(target);
    let resolving = async {
        let found = dial::resolve(host, target.port).await;
        found.map_err(StoreError::Resolve)
    };
    let addresses = within(deadline, Step::Resolve, resolving).await?;
    let connecting = async {
        let socket = dial::connect(&addresses).await;
        socket.map_err(StoreError::Connect)
    };
    let socket = within(deadline, Step::Connect, connecting).await?;
    let Some(tls) = tls else {
        return Ok(Box::new(socket));
    };
    let handshake = secure(socket, host, tls);
    within(deadline, Step::Handshake, handshake).await
}

/// Returns the host without brackets.
pub(super) fn host_of(target: &HostPort) -> &str {
    target.host.trim_start_matches('[').trim_end_matches(']')
}

/// Performs a TLS handshake.
///
/// # Errors
/// When it fails. The caller bounds the time.
pub(super) async fn secure(
    socket: TcpStream,
    host: &str,
    tls: &Arc<ClientConfig>,
) -> Result<Box<dyn Stream>, StoreError> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|error| StoreError::Handshake(io::Error::other(error)))?;
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(name, socket).await;
    Ok(Box::new(stream.map_err(StoreError::Handshake)?))
}
