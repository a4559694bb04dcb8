//! Settings that a reload replaces.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use citrix_wire::citrix::clouds::Cloud;

use super::{Caller, Credential, Egress, Fleet, RouteSettings, SecretSource, UpstreamUrl};

/// A set of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    pub(super) const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Returns `true` if a network contains `address`. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Settings that each request takes from one snapshot.
#[derive(Clone, Debug)]
pub struct Live {
    /// One per customer, in the order of the file; at least one. Customer ids are unique, ignoring
    /// case.
    pub credentials: Vec<Arc<Credential>>,
    /// The index of the customer of requests that name none.
    pub default_customer: Option<usize>,
    /// Configured routes and `/`, longest prefix first, then the other built-in routes.
    pub routes: Vec<Arc<RouteSettings>>,
    /// Callers; without any, requests are anonymous.
    pub callers: Vec<Arc<Caller>>,
    /// Whether anonymous requests from other machines are permitted.
    pub allow_anonymous: bool,
    /// Known API gateways, besides `api_url` the only permitted targets of a region redirect: those
    /// of the customers' clouds, and the upstreams of routes for `/region/{name}`.
    pub gateways: Vec<KnownGateway>,
    /// Host names that requests may use besides IP literals and `localhost`.
    pub hosts: AllowedHosts,
    /// Peers whose connections must start with a PROXY protocol v2 header.
    pub proxy_protocol: Networks,
    /// Peers whose `Forwarded` field is logged.
    pub trusted_forwarders: Networks,
    /// The base of rewritten links, without a trailing slash; `None`: scheme and host of the
    /// request.
    pub public_url: Option<String>,
    /// `[upstream]`: connections and requests to Citrix.
    pub upstream: UpstreamSettings,
    /// `[token]`: Citrix tokens.
    pub token: TokenSettings,
    /// The file that keeps tokens across restarts.
    pub token_cache: Option<TokenCache>,
    /// `[limits]`: connections and requests of callers.
    pub limits: Limits,
    /// `[login]`: gateway tokens, which callers obtain.
    pub login: LoginSettings,
    /// `intercept.tunnel`: hosts to which CONNECT opens a blind tunnel.
    pub tunnels: Vec<HostPattern>,
    /// `[fleet]`: other replicas; `None` if there are none.
    pub fleet: Option<Fleet>,
    /// Whether each exchange is logged.
    pub access_log: bool,
    /// The time that requests are still accepted while the readiness probe already fails.
    pub drain_delay: Duration,
    /// The time that requests in flight have to finish during a drain.
    pub drain_timeout: Duration,
}

impl Live {
    /// Returns the number of replicas that divide Citrix's limits, this one included.
    pub fn replicas(&self) -> NonZeroU32 {
        self.fleet
            .as_ref()
            .map_or(NonZeroU32::MIN, Fleet::replicas_alone)
    }
}

/// The gateway's own token endpoints (interface §4.5).
#[derive(Clone, Debug)]
pub struct LoginSettings {
    /// The key that signs gateway tokens, at least 32 bytes; `None`: random per process.
    pub signing_key: Option<SecretString>,
    /// The lifetime of a gateway token, at least one second.
    pub token_lifetime: Duration,
}

/// An API gateway to which requests may be redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownGateway {
    /// The cloud whose customers it serves; `None` for all customers.
    pub cloud: Option<Cloud>,
    pub url: UpstreamUrl,
}

/// Host names that requests may use (the browser guard of interface §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHosts {
    Any,
    /// These names in lower case and without port, IP literals and `localhost`.
    Only(Vec<String>),
}

/// Hosts by name: one, or all names below a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This name, in lower case.
    Exact(String),
    /// Names that end with this text, which begins with a dot.
    Below(String),
}

impl HostPattern {
    /// Returns `true` for a host, in lower case, that the pattern names.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

/// Addresses by host.
pub type FixedAddresses = BTreeMap<String, Vec<IpAddr>>;

/// `[upstream]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Trusted roots in addition to the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The egress proxy and its exceptions.
    pub egress: Egress,
    /// Addresses that replace those of the resolver, by host in lower case.
    pub resolve: FixedAddresses,
    /// Whether HTTP/2 is offered.
    pub http2: Http2Mode,
    /// Timeout for TCP and TLS together.
    pub connect_timeout: Duration,
    /// Timeout from the end of the request to the response head.
    pub response_timeout: Duration,
    /// Timeout between frames of a response body.
    pub idle_timeout: Duration,
    /// The time that an idle connection stays in the pool.
    pub pool_idle_timeout: Duration,
    /// The age at which a connection is no longer used, so that DNS changes take effect.
    pub max_connection_age: Duration,
    /// The total wait of one request for 429 and 503 responses; zero: never wait.
    pub retry_budget: Duration,
}

/// The HTTP versions offered to upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Mode {
    /// HTTP/2 and HTTP/1.1, negotiated by ALPN.
    Auto,
    /// HTTP/1.1 only.
    Never,
}

/// `[token]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenSettings {
    /// The fraction of a token's usable lifetime after which it is refreshed: 0.1 to 0.95.
    pub refresh_at: f64,
    /// The time that a request waits for the first token.
    pub startup_wait: Duration,
    /// Timeout for one token request, including connect.
    pub request_timeout: Duration,
    /// The minimum time between refreshes that a 401 or an operator triggers.
    pub min_forced_interval: Duration,
}

/// The file that keeps tokens across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCache {
    /// The file; its directory exists.
    pub file: PathBuf,
    /// The encryption key, at least 32 bytes.
    pub key: SecretSource,
}

/// `[limits]`: maxima and timeouts. Counts apply to all workers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections from callers.
    pub max_connections: usize,
    /// Connections from one address; zero: no limit.
    pub max_connections_per_address: usize,
    /// Requests in flight, without those in a queue.
    pub max_in_flight: usize,
    /// Requests in one queue: for a customer's token, for a limit of Citrix, or for the wait that a
    /// 429 or 503 requested.
    pub max_queued: usize,
    /// Timeout for a request head, from its first byte; for the first, from the start of the
    /// connection, TLS handshake included.
    pub header_read_timeout: Duration,
    /// Timeout between reads of a request body.
    pub body_idle_timeout: Duration,
    /// Timeout between requests on a connection.
    pub keep_alive_timeout: Duration,
    /// Size of a request head in bytes.
    pub max_header_bytes: usize,
    /// Size of a request body in bytes.
    pub max_body_bytes: u64,
    /// Bytes of one request body that are kept for a replay.
    pub replay_buffer_bytes: usize,
}
