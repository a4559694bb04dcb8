//! The checked configuration: what the rest of the program may rely on.
//!
//! `file` mirrors what a user writes, [`check`] is the only way from there to a [`Config`], and it reports
//! every problem at once. In between, `syntax` reads TOML without stopping at the first mistake, `environment`
//! lays variables over it, and `value` turns single values into types.

pub mod check;
mod environment;
mod file;
mod report;
pub mod secret;
mod syntax;
mod value;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};

use crate::citrix::{AuthorizationScheme, TokenDialect};

pub use check::{from_toml, load};
pub use environment::process_environment;
pub use report::Problem;
pub use secret::{SecretError, SecretSource};

/// A whole configuration without a mistake in it.
#[derive(Clone, Debug)]
pub struct Config {
    /// What cannot change while the program runs.
    pub boot: Boot,
    /// What a reload may replace.
    pub live: Arc<Live>,
    /// What deserves a warning at start, in sentences ("citrix.client_secret is written in the file itself: …").
    pub warnings: Vec<String>,
}

/// Settings that are read once: addresses, threads, where logs go.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Where callers are served.
    pub listeners: Vec<Listener>,
    /// Certificate and key of the listeners that speak TLS.
    pub certificate: Option<CertificateFiles>,
    /// Permission bits of a unix socket's file.
    pub unix_mode: u32,
    /// Data-path threads.
    pub workers: NonZeroUsize,
    /// The admin listener.
    pub admin: Admin,
    /// Format and level of the log.
    pub log: Log,
}

/// One address to serve callers on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
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

/// A certificate chain and its private key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// The admin listener's settings.
#[derive(Clone)]
pub struct Admin {
    /// Where.
    pub address: SocketAddr,
    /// SHA-256 of the secret that everything but the probes and `/metrics` asks for.
    pub secret_sha256: Option<[u8; 32]>,
}

impl fmt::Debug for Admin {
    /// Without the hash: a weak secret can be guessed from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.secret_sha256.map(|_| "[REDACTED]");
        f.debug_struct("Admin").field("address", &self.address).field("secret_sha256", &secret).finish()
    }
}

/// How the program logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
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

/// Settings that each request takes from one snapshot.
#[derive(Clone, Debug)]
pub struct Live {
    /// One per customer; the first is the default.
    pub credentials: Vec<Credential>,
    /// Longest prefix first; the last is `/`.
    pub routes: Vec<Route>,
    /// Names the program answers to, lower case and without port, besides IP literals and `localhost`.
    pub hosts: AllowedHosts,
    /// Connections to Citrix.
    pub upstream: Upstream,
    /// The token's life.
    pub token: Token,
    /// Where tokens survive a restart, if anywhere.
    pub token_cache: Option<TokenCache>,
    /// Bounds.
    pub limits: Limits,
    /// Whether each exchange is logged.
    pub access_log: bool,
    /// How long requests in flight may take to finish once the program is asked to stop.
    pub drain_timeout: Duration,
}

/// Which `Host` values are answered (the browser guard of design 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHosts {
    /// `hosts = ["*"]`.
    Any,
    /// These, lower case, besides IP literals and `localhost`.
    Only(Vec<String>),
}

/// How one customer logs in.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Citrix's customer id, as it is sent in `Citrix-CustomerId`.
    pub customer_id: HeaderValue,
    /// The API client's id.
    pub client_id: String,
    /// The API client's secret.
    pub client_secret: SecretSource,
    /// The second secret of a rotation.
    pub client_secret_next: Option<SecretSource>,
    /// Where the site id for `Citrix-InstanceId` comes from.
    pub instance_id: InstanceId,
    /// The token endpoint.
    pub token_url: Uri,
    /// What it speaks.
    pub token_dialect: TokenDialect,
}

impl Credential {
    /// The customer id as text (it was checked to be visible ASCII).
    pub fn customer(&self) -> &str {
        self.customer_id.to_str().unwrap_or_default()
    }
}

/// Where `Citrix-InstanceId` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceId {
    /// Asked of Citrix when first needed.
    Auto,
    /// None is sent.
    None,
    /// This one.
    Fixed(HeaderValue),
}

/// Requests below one path prefix go to one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The prefix, from its slash on and without one at the end (`/` alone is the empty string). Also the
    /// route's name in metrics and logs, where the empty one is written `/`.
    pub prefix: String,
    /// Whether the prefix is taken off before the request leaves.
    pub strip_prefix: bool,
    /// Where requests go.
    pub upstream: UpstreamUrl,
    /// How the token is written.
    pub authorization: AuthorizationScheme,
}

impl Route {
    /// The route's name in metrics and logs.
    pub fn name(&self) -> &str {
        if self.prefix.is_empty() { "/" } else { &self.prefix }
    }
}

/// The base URL of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// `https`, or `http` for a loopback address.
    pub scheme: Scheme,
    /// Host and, when it is not the scheme's own, port.
    pub authority: Authority,
    /// The path put in front of the rest, without a slash at the end; often empty.
    pub base_path: String,
}

impl UpstreamUrl {
    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.scheme == Scheme::HTTPS { 443 } else { 80 })
    }
}

/// Connections to Citrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Roots trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether HTTP/2 is offered.
    pub http2: Http2,
    /// TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the request's end to the response's head.
    pub response_timeout: Duration,
    /// Between pieces of a response body.
    pub idle_timeout: Duration,
    /// How long an unused connection is kept.
    pub pool_idle_timeout: Duration,
    /// How old a connection may grow, so that DNS changes are followed.
    pub max_connection_age: Duration,
}

/// Whether HTTP/2 is offered to upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2 {
    /// ALPN decides.
    Auto,
    /// HTTP/1.1 only.
    Never,
}

/// The token's life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    /// The part of the usable life after which a new token is asked for: 0.1 to 0.95.
    pub refresh_at: f64,
    /// How long a request may wait for the first token.
    pub startup_wait: Duration,
    /// One token request, connecting included.
    pub request_timeout: Duration,
    /// The least time between refreshes that a 401 asked for.
    pub min_forced_interval: Duration,
}

/// Where tokens survive a restart.
#[derive(Clone, Debug)]
pub struct TokenCache {
    /// The file, in a folder that exists.
    pub file: PathBuf,
    /// The key it is encrypted with: 32 bytes or more.
    pub key: SecretSource,
}

/// Bounds on what callers may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of callers, all workers together.
    pub max_connections: usize,
    /// Requests being answered, all workers together.
    pub max_in_flight: usize,
    /// For a request head to arrive, from its first byte on; for a TLS handshake too.
    pub header_read_timeout: Duration,
    /// Between pieces of a request body.
    pub body_idle_timeout: Duration,
    /// Between requests of one connection.
    pub keep_alive_timeout: Duration,
    /// Of one request head.
    pub max_header_bytes: usize,
    /// Of one request body.
    pub max_body_bytes: u64,
}
