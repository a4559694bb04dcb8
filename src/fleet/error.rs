//! Failures of a store.

use std::io;

use fleet_protocol::reply::Malformed;
use redis::RedisError;
use tokio::time::{Instant, timeout_at};

use crate::config::{HostPort, SecretError};
use crate::tls::TlsError;

/// A failure of the store. [`StoreError::diagnosis`] describes it for operators.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The password cannot be read.
    #[error("password unusable")]
    Password(#[from] SecretError),
    /// A file of `[fleet.tls]` cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The host name does not resolve.
    #[error("DNS lookup failed")]
    Resolve(#[source] io::Error),
    /// No stream.
    #[error("connection failed")]
    Connect(#[source] io::Error),
    /// No TLS.
    #[error("TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The store rejected a command, or the connection ended. The text holds no password.
    #[error("{0}")]
    Store(#[from] RedisError),
    /// The server is a replica.
    #[error("not a primary")]
    NotPrimary,
    /// No sentinel names the primary; with the reason of each.
    #[error("no sentinel names a primary")]
    NoPrimary(String),
    /// A reply is not in the expected format.
    #[error("unexpected reply")]
    Malformed,
    /// A step took too long.
    #[error("timed out")]
    Timeout(Step),
}

/// The steps of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads of files.
    Read,
    /// Lookup of the host name.
    Resolve,
    /// The TCP connection.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// The login.
    Login,
    /// Commands.
    Command,
}

impl StoreError {
    /// Returns the node of a cluster that holds the fleet's keys, if the store names it.
    pub(super) fn moved_to(&self) -> Option<HostPort> {
        let Self::Store(error) = self else {
            return None;
        };
        let is_moved = error.code() == Some("MOVED");
        let (node, _) = error.redirect_node().filter(|_| is_moved)?;
        let (host, port) = node.rsplit_once(':')?;
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let port = port.parse().ok().filter(|_| !host.is_empty())?;
        Some(HostPort { host, port })
    }
}

impl From<Malformed> for StoreError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Runs a step until the deadline of the connection.
///
/// # Errors
/// Those of the step.
pub(super) async fn within<T>(
    deadline: Instant,
    step: Step,
    future: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let result = timeout_at(deadline, future).await;
    result.unwrap_or(Err(StoreError::Timeout(step)))
}
