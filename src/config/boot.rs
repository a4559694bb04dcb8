//! Settings that are read at start only.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::FleetStore;
use crate::system::digest::Sha256;

/// Settings that are read at start only.
#[derive(Clone, Debug)]
pub struct Boot {
    /// `listen.address` and `listen.tls.address`.
    pub listeners: Vec<ListenAddress>,
    /// `listen.tls`.
    pub certificate: Option<CertificateFiles>,
    /// `[intercept]`.
    pub intercept: Option<InterceptSettings>,
    /// Permission bits of unix socket files.
    pub unix_mode: u32,
    /// Number of data-path threads.
    pub workers: NonZeroUsize,
    /// `[admin]`.
    pub admin: AdminSettings,
    /// `[log]`. A reload may change the level.
    pub log: LogSettings,
    /// The name of this replica: `fleet.replica`, else that of the pod or host; may be empty.
    pub replica: String,
    /// The store that replicas share.
    pub fleet_store: Option<FleetStore>,
}

impl Boot {
    /// Returns `true` if another listener has an IPv4 address with the port of this IPv6 address.
    /// `[::]` accepts IPv4 as well otherwise.
    pub fn is_ipv6_only(&self, address: &BindAddress) -> bool {
        let BindAddress::Tcp(SocketAddr::V6(address)) = address else {
            return false;
        };
        let intercept = self.intercept.iter().flat_map(|it| &it.addresses);
        let callers = self.listeners.iter().map(|listener| &listener.address);
        let callers = callers.chain(intercept);
        let mut others = callers.filter_map(|other| match other {
            BindAddress::Tcp(other) => Some(other),
            BindAddress::Unix(_) => None,
        });
        let shares_port = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
        address.port() != 0 && (others.any(shares_port) || shares_port(&self.admin.address))
    }
}

/// An address for callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// The address to bind.
    pub address: BindAddress,
    /// Whether connections use TLS.
    pub tls: bool,
}

/// The address of a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    Tcp(SocketAddr),
    /// The path of a unix socket.
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

/// `[intercept]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterceptSettings {
    /// `intercept.address`, at least one.
    pub addresses: Vec<BindAddress>,
    /// `intercept.ca`.
    pub authority: AuthorityFiles,
}

/// The PEM files of the authority that issues certificates for intercepted hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorityFiles {
    /// Its certificate and those above it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The PEM files of the TLS listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// Client authentication; `None` if no certificate is requested.
    pub clients: Option<ClientCertificates>,
}

/// Requirements for client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The trusted authorities, in PEM.
    pub ca_file: PathBuf,
    /// Whether the handshake fails without a certificate.
    pub required: bool,
}

/// `[admin]`.
#[derive(Clone)]
pub struct AdminSettings {
    /// The address of the admin listener.
    pub address: SocketAddr,
    /// SHA-256 of the secret that is required except for the probes and `/metrics`.
    pub secret_sha256: Option<Sha256>,
}

impl fmt::Debug for AdminSettings {
    /// Redacts the hash: a weak secret can be guessed from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.secret_sha256.map(|_| "[REDACTED]");
        f.debug_struct("AdminSettings")
            .field("address", &self.address)
            .field("secret_sha256", &secret)
            .finish()
    }
}

/// `log.format` and `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The format of a line; `None` for [`LogFormat::of_stderr`].
    pub format: Option<LogFormat>,
    /// The least severe level that is written.
    pub level: tracing::level_filters::LevelFilter,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// Text for terminals.
    Text,
}

impl LogFormat {
    /// Returns the default: text if stderr is a terminal, else JSON.
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}
