//! What a reload may replace.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use super::{Caller, Credential, Egress, Route, SecretSource, UpstreamUrl};

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

/// Settings that each request takes from one snapshot.
#[derive(Clone, Debug)]
pub struct Live {
    /// One per customer, in the order of the file; never none, and no two for ids that differ in case alone.
    pub credentials: Vec<Arc<Credential>>,
    /// Which of them is meant when a request names none.
    pub default_customer: Option<usize>,
    /// Those of the configuration and `/`, longest prefix first; then the other built-in ones.
    pub routes: Vec<Arc<Route>>,
    /// Who may use the gateway; none: whoever reaches it.
    pub callers: Vec<Arc<Caller>>,
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
    pub upstream: UpstreamSettings,
    /// The token's life.
    pub token: TokenSettings,
    /// Where tokens survive a restart, if anywhere.
    pub token_cache: Option<TokenCache>,
    /// Bounds.
    pub limits: Limits,
    /// The gateway's own token endpoints.
    pub login: LoginSettings,
    /// Whether each exchange is logged.
    pub access_log: bool,
    /// How long requests are still accepted once the program is asked to stop and says that it is not ready.
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish once the program is asked to stop.
    pub drain_timeout: Duration,
}

/// The gateway's own token endpoints (interface §4.5).
#[derive(Clone, Debug)]
pub struct LoginSettings {
    /// What gateway tokens are signed with: 32 bytes or more. `None`: with a key of this process alone.
    pub signing_key: Option<SecretString>,
    /// How long such a token is valid, in whole seconds.
    pub token_lifetime: Duration,
}

/// Which `Host` values are answered (the browser guard of interface §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHosts {
    /// `hosts = ["*"]`.
    Any,
    /// These, lower case, besides IP literals and `localhost`.
    Only(Vec<String>),
}

/// Connections to Citrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Roots trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Which way connections take; token requests too.
    pub egress: Egress,
    /// Whether HTTP/2 is offered.
    pub http2: Http2Mode,
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
pub enum Http2Mode {
    /// ALPN decides.
    Auto,
    /// HTTP/1.1 only.
    Never,
}

/// The token's life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenSettings {
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
