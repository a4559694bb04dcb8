//! What cannot change while the program runs: addresses, threads, where logs go.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::system::digest::Sha256;

/// Settings that are read once: addresses, threads, where logs go.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Where callers are served.
    pub listeners: Vec<ListenAddress>,
    /// Certificate and key of the listeners that speak TLS.
    pub certificate: Option<CertificateFiles>,
    /// Permission bits of a unix socket's file.
    pub unix_mode: u32,
    /// Data-path threads.
    pub workers: NonZeroUsize,
    /// The admin listener.
    pub admin: AdminSettings,
    /// Format of the log, and its level, which a reload may change as well.
    pub log: LogSettings,
}

/// One address to serve callers on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// Where.
    pub address: BindAddress,
    /// Whether callers speak TLS there.
    pub tls: bool,
}

/// An address a socket can be bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket's file.
    Unix(PathBuf),
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A certificate chain, its private key and what is asked of callers, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// Whether callers are asked for certificates, too.
    pub clients: Option<ClientCertificates>,
}

/// Certificates that callers show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities they may be of.
    pub ca_file: PathBuf,
    /// Whether who shows none is turned away in the handshake.
    pub required: bool,
}

/// The admin listener's settings.
#[derive(Clone)]
pub struct AdminSettings {
    /// Where.
    pub address: SocketAddr,
    /// SHA-256 of the secret that everything but the probes and `/metrics` asks for.
    pub secret_sha256: Option<Sha256>,
}

impl fmt::Debug for AdminSettings {
    /// Without the hash: a weak secret can be guessed from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.secret_sha256.map(|_| "[REDACTED]");
        f.debug_struct("AdminSettings")
            .field("address", &self.address)
            .field("secret_sha256", &secret)
            .finish()
    }
}

/// How the program logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Lines as JSON or as text.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: tracing::level_filters::LevelFilter,
}

/// The two forms of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}
