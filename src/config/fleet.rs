//! `[fleet]`: several replicas for the same customers.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::SecretSource;

/// The part of `[fleet]` that a reload replaces.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The number of replicas while no store reports it; `None`: as many as it reported last.
    pub replicas: Option<NonZeroU32>,
    /// Timeout of one command to the store.
    pub timeout: Duration,
    /// The secrets for the store; `None` without one.
    pub secrets: Option<FleetSecrets>,
}

/// The secrets of a fleet that shares a store.
#[derive(Clone, Debug)]
pub struct FleetSecrets {
    /// Read again for each connection.
    pub password: Option<SecretSource>,
    /// The key that seals tokens and hashes names, at least 32 bytes.
    pub key: SecretString,
    /// A key that still opens what it sealed.
    pub key_previous: Option<SecretString>,
}

/// The store that replicas share, and how they use it. Read at start only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetStore {
    /// The fleet's name in the store.
    pub name: String,
    pub address: StoreAddress,
    pub user: Option<String>,
    pub database: u16,
    /// Present for `rediss`.
    pub tls: Option<StoreTls>,
    /// The sentinels that name the primary, in place of `address`.
    pub sentinels: Option<Sentinels>,
    /// Whether logins and tokens are shared.
    pub tokens: bool,
    /// Whether permits, rate limits and gates are shared.
    pub limits: bool,
    /// The lifetime of a permit without renewal.
    pub lease: Duration,
}

impl FleetStore {
    /// Returns the address of the store, or of its sentinels.
    pub fn location(&self) -> String {
        match (&self.sentinels, &self.address) {
            (Some(sentinels), _) => {
                let addresses = sentinels.addresses.iter().map(ToString::to_string);
                let addresses: Vec<_> = addresses.collect();
                format!("{} of sentinels {}", sentinels.master, addresses.join(", "))
            }
            (None, StoreAddress::Tcp(address)) => address.to_string(),
            (None, StoreAddress::Unix(path)) => path.display().to_string(),
        }
    }
}

/// The address of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    Tcp(HostPort),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// A host name or address literal, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// IPv6 literals are in brackets.
    pub host: String,
    pub port: u16,
}

impl Fleet {
    /// Returns the number of replicas that use Citrix's limits while none can ask another.
    pub fn replicas_alone(&self) -> NonZeroU32 {
        self.replicas.unwrap_or(NonZeroU32::MIN)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// TLS to the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreTls {
    /// Trusted roots in addition to those of `[upstream]`, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The client certificate and its private key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The sentinels of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentinels {
    /// At least one.
    pub addresses: Vec<HostPort>,
    /// The primary's name at the sentinels.
    pub master: String,
    pub password: Option<SecretSource>,
}
