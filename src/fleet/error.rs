//! Failures of a store.

use std::io;

use fleet_protocol::reply::Malformed;
use redis::RedisError;

use crate::config::SecretError;
use crate::tls::TlsError;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The password cannot be read.
    #[error("password unusable")]
    Password(#[from] SecretError),
    /// A file of `[fleet.tls]` cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No stream.
    #[error("connection failed")]
    Connect(#[source] io::Error),
    /// The store rejected a command, or the connection ended. The text holds no password.
    #[error("{0}")]
    Store(#[from] RedisError),
    /// The server is a replica.
    #[error("not a primary")]
    NotPrimary,
    /// No sentinel knows the primary.
    #[error("no sentinel names a primary")]
    NoPrimary,
    /// A reply is not in the expected format.
    #[error("unexpected reply")]
    Malformed,
    /// A step took too long.
    #[error("timed out")]
    Timeout,
}

impl From<Malformed> for StoreError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}
