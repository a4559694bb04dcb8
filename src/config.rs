//! The checked configuration: what the rest of the program may rely on.
//!
//! `file` mirrors what a user writes, [`check`] is the only way from there to a [`Config`], and it reports
//! every problem at once. In between, `syntax` reads TOML without stopping at the first mistake, `environment`
//! lays variables over it, and `value` turns single values into types.

mod caller;
mod changes;
pub mod check;
mod content;
mod egress;
mod environment;
mod file;
mod report;
pub mod secret;
mod syntax;
mod value;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Uri};
use ipnet::IpNet;
use secrecy::SecretString;

use crate::citrix::clouds::Cloud;
use crate::citrix::{AuthorizationScheme, TokenDialect, services};

pub use caller::{Caller, CertificateName, Mode, SecretHash, check_name};
pub use changes::{BOOT, Changes, Written, listed};
pub use check::{from_bytes, from_toml, load};
pub use content::Content;
pub use egress::{BadProxy, Egress, Proxy};
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
    /// What was written, to tell what another configuration changes.
    pub written: Written,
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
    /// Format of the log, and its level, which a reload may change as well.
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

/// Networks that an address may be in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// These networks.
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether it is in one of them; an IPv4 address in IPv6's clothes counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
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
    /// One per customer, in the order of the file; never none, and no two for ids that differ in case alone.
    pub credentials: Vec<Credential>,
    /// Which of them is meant when a request names none.
    pub default_customer: Option<usize>,
    /// Those of the configuration and `/`, longest prefix first; then the other built-in ones.
    pub routes: Vec<Route>,
    /// Who may use the gateway; none: whoever reaches it.
    pub callers: Vec<Caller>,
    /// Whether, without callers, requests of other machines are served.
    pub allow_anonymous: bool,
    /// The API gateways that a redirect may lead to: those of the customers' clouds, every `api_url`, and what a
    /// route from `/region/…` leads to.
    pub gateways: Vec<UpstreamUrl>,
    /// Names the program answers to, lower case and without port, besides IP literals and `localhost`.
    pub hosts: AllowedHosts,
    /// Peers that must tell by PROXY protocol v2 whom they connect.
    pub proxy_protocol: Networks,
    /// Peers whose `Forwarded` is believed, for the access log alone.
    pub trusted_forwarders: Networks,
    /// What rewritten links begin with, without a slash at the end; else the request's scheme and host.
    pub public_url: Option<String>,
    /// Connections to Citrix.
    pub upstream: Upstream,
    /// The token's life.
    pub token: Token,
    /// Where tokens survive a restart, if anywhere.
    pub token_cache: Option<TokenCache>,
    /// Bounds.
    pub limits: Limits,
    /// The gateway's own token endpoints.
    pub login: Login,
    /// Whether each exchange is logged.
    pub access_log: bool,
    /// How long requests are still accepted once the program is asked to stop and says that it is not ready.
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish once the program is asked to stop.
    pub drain_timeout: Duration,
}

/// The gateway's own token endpoints (design 4.5).
#[derive(Clone, Debug)]
pub struct Login {
    /// What gateway tokens are signed with: 32 bytes or more. `None`: with a key of this process alone.
    pub signing_key: Option<SecretString>,
    /// How long such a token is valid, in whole seconds.
    pub token_lifetime: Duration,
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
    /// Whose hosts are the customer's.
    pub cloud: Cloud,
    /// The API gateway that the customer's requests go to.
    pub api: Destination,
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

    /// Whether a token of `other` is one of this: the same client of the same customer, at the same endpoint. Its
    /// secret may be another.
    pub fn has_token_of(&self, other: &Self) -> bool {
        self.customer_id == other.customer_id
            && self.client_id == other.client_id
            && self.token_url == other.token_url
            && self.token_dialect == other.token_dialect
    }

    /// Whether what is known of the site of `other` is true of this one's.
    pub fn has_site_of(&self, other: &Self) -> bool {
        self.customer_id == other.customer_id && self.api == other.api
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

/// Requests below one path prefix are treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The prefix, from its slash on and without one at the end (`/` alone is the empty string).
    pub prefix: String,
    /// Whether ASCII letters of a path may differ from the prefix's in case: those of built-in routes, and of what
    /// replaces one.
    pub any_case: bool,
    /// Whether the prefix is taken off before the request leaves.
    pub strip_prefix: bool,
    /// Where requests go.
    pub target: Target,
    /// Whether the program brought it, and no `[[route]]` replaced it.
    pub built_in: bool,
    /// Headers of a fixed value, for requests that do not have them.
    pub adds: Vec<(HeaderName, HeaderValue)>,
    /// What Citrix allows each customer, which callers wait for.
    pub limit: Option<RouteLimit>,
    /// Whether links in JSON bodies are made to point at the proxy.
    pub rewrite_links: bool,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the API gateway of the request's customer: [`Credential::api`].
    CustomerApi,
    /// To the host that the cloud of the request's customer has for it, if it has one. The token is written as for
    /// that customer's API gateway.
    ByCloud(Vec<(Cloud, UpstreamUrl)>),
    /// To one upstream, whoever the customer is.
    Fixed(Destination),
}

/// An upstream, and how it is shown the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its base URL.
    pub url: UpstreamUrl,
    /// How the token is written.
    pub authorization: AuthorizationScheme,
}

/// What Citrix allows each customer. More requests wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLimit {
    /// Routes with the same name share the limit: a service behind several gateways counts a customer's requests
    /// together.
    pub shared_as: String,
    /// What is allowed.
    pub allows: Allows,
    /// How long a request may wait.
    pub queue_timeout: Duration,
}

/// The two kinds of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allows {
    /// So many at a time.
    AtOnce(NonZeroUsize),
    /// So many begun in a second.
    PerSecond(NonZeroU32),
}

impl Route {
    /// A route without anything special about it.
    pub(crate) fn plain(prefix: String, target: Target) -> Self {
        Self {
            strip_prefix: !prefix.is_empty(),
            prefix,
            any_case: false,
            target,
            built_in: false,
            adds: Vec::new(),
            limit: None,
            rewrite_links: false,
        }
    }

    /// The route's name in metrics and logs: its prefix, where the empty one is written `/`. The routes to the
    /// customers' own hosts have one name, as customers may be many.
    pub fn name(&self) -> &str {
        match self.prefix.as_str() {
            "" => "/",
            direct if self.built_in && direct.starts_with(services::DIRECT) => services::DIRECT,
            prefix => prefix,
        }
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

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.base_path)
    }
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
    /// Which way connections take; token requests too.
    pub egress: Egress,
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
    /// How long one request may wait in all because a 429 or 503 asked for it; zero: never.
    pub retry_budget: Duration,
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
    /// The least time between refreshes that a 401 or an operator asked for.
    pub min_forced_interval: Duration,
}

/// Where tokens survive a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Connections from one address; zero: no limit.
    pub max_connections_per_address: usize,
    /// Requests being answered, all workers together.
    pub max_in_flight: usize,
    /// Requests that wait in one queue: for one customer's token, for its turn at one service, for the end of what a
    /// 429 asked for.
    pub max_queued: usize,
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
    /// What is kept of a request body so that it can be sent again.
    pub replay_buffer_bytes: usize,
}
