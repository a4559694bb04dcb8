//! Routes: path prefixes, upstreams and Citrix's limits.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue};
use rustls::pki_types::ServerName;

use citrix_wire::citrix::clouds::Cloud;
use citrix_wire::citrix::{AuthorizationScheme, services};
use citrix_wire::host;

/// The treatment of requests below one path prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// The prefix with a leading and without a trailing slash; empty for `/`.
    pub prefix: String,
    /// Whether the prefix is compared case-insensitively: for built-in routes and their
    /// replacements.
    pub ignore_case: bool,
    /// Whether the prefix is stripped before forwarding.
    pub strip_prefix: bool,
    pub target: RouteTarget,
    /// Whether the route is built in and not replaced by a `[[route]]`.
    pub built_in: bool,
    /// Header fields added to requests that lack them.
    pub default_headers: Vec<(HeaderName, HeaderValue)>,
    /// Citrix's limit per customer; excess requests queue.
    pub limit: Option<RouteLimit>,
    /// Whether links in JSON bodies are rewritten.
    pub rewrite_links: bool,
    /// Identical GET requests that wait for a permit share one response.
    pub collapse: bool,
}

/// The upstream of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// The API gateway of the request's customer: [`Credential::api`](super::Credential::api).
    CustomerApi,
    /// The host that the cloud of the request's customer has for the service, if any. The
    /// authorization scheme is that of the customer's API gateway.
    ByCloud(Vec<(Cloud, UpstreamUrl)>),
    /// One upstream for all customers.
    Fixed(UpstreamEndpoint),
}

/// An upstream with its authorization scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamEndpoint {
    pub url: UpstreamUrl,
    /// The scheme of the `Authorization` field.
    pub authorization: AuthorizationScheme,
}

/// Citrix's limit per customer. Excess requests queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLimit {
    /// Routes with the same name share the limit, such as one service behind several regional
    /// gateways.
    pub shared_as: String,
    /// The permitted rate or concurrency.
    pub quota: Quota,
    /// The maximum wait of a request.
    pub queue_timeout: Duration,
}

/// A rate or concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Requests in flight.
    AtOnce(NonZeroUsize),
    /// Requests started per second.
    PerSecond(NonZeroU32),
}

impl RouteSettings {
    /// Returns `true` if both routes lead to the same upstream and forward the path unchanged.
    pub fn forwards_like(&self, other: &Self) -> bool {
        let is_unchanged = |route: &Self| !route.strip_prefix || route.prefix.is_empty();
        is_unchanged(self) && is_unchanged(other) && self.target == other.target
    }

    /// Returns a route with defaults for everything else.
    pub(crate) fn plain(prefix: String, target: RouteTarget) -> Self {
        Self {
            strip_prefix: !prefix.is_empty(),
            prefix,
            ignore_case: false,
            target,
            built_in: false,
            default_headers: Vec::new(),
            limit: None,
            rewrite_links: false,
            collapse: false,
        }
    }

    /// Returns the name in metrics and logs: the prefix, or `/` if it is empty. All built-in routes
    /// to customers' own hosts share one name, which bounds the number of series.
    pub fn name(&self) -> &str {
        match self.prefix.as_str() {
            "" => "/",
            direct if self.built_in && direct.starts_with(services::DIRECT) => services::DIRECT,
            prefix => prefix,
        }
    }
}

/// The base URL of an upstream, whose host a certificate can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// `https`, or `http` for a loopback host.
    pub scheme: Scheme,
    /// The host in lower case, and the port unless it is the scheme's default.
    pub authority: Authority,
    /// The path to prepend, without a trailing slash; often empty.
    pub base_path: String,
    /// The value of `Host`.
    host: HeaderValue,
    /// The name in the certificate; `None` without TLS.
    server_name: Option<ServerName<'static>>,
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.base_path)
    }
}

impl UpstreamUrl {
    /// Returns a URL; `None` if no certificate can name its host.
    pub fn new(scheme: Scheme, authority: Authority, base_path: String) -> Option<Self> {
        let server_name = match host::strip_brackets(authority.host()).to_owned() {
            host if scheme == Scheme::HTTPS => Some(ServerName::try_from(host).ok()?),
            _ => None,
        };
        Some(Self {
            host: HeaderValue::from_str(authority.as_str()).ok()?,
            scheme,
            authority,
            base_path,
            server_name,
        })
    }

    /// Returns another path at the same origin.
    #[must_use]
    pub fn with_path(&self, base_path: String) -> Self {
        Self {
            base_path,
            ..self.clone()
        }
    }

    /// Returns the value of `Host`.
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Returns the name in the certificate; `None` without TLS.
    pub fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }

    /// Returns the port to connect to.
    pub fn port(&self) -> u16 {
        self.authority
            .port_u16()
            .unwrap_or(if self.scheme == Scheme::HTTPS {
                443
            } else {
                80
            })
    }
}
