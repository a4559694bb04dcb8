//! Where requests go, and what Citrix allows there.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue};

use citrix_wire::citrix::clouds::Cloud;
use citrix_wire::citrix::{AuthorizationScheme, services};

/// Requests below one path prefix are treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The prefix, from its slash on and without one at the end (`/` alone is the empty string).
    pub prefix: String,
    /// Whether ASCII letters of a path may differ from the prefix's in case: those of built-in routes, and of what
    /// replaces one.
    pub ignore_case: bool,
    /// Whether the prefix is taken off before the request leaves.
    pub strip_prefix: bool,
    /// Where requests go.
    pub target: RouteTarget,
    /// Whether the program brought it, and no `[[route]]` replaced it.
    pub built_in: bool,
    /// Headers of a fixed value, for requests that do not have them.
    pub default_headers: Vec<(HeaderName, HeaderValue)>,
    /// What Citrix allows each customer, which callers wait for.
    pub limit: Option<RouteLimit>,
    /// Whether links in JSON bodies are made to point at the proxy.
    pub rewrite_links: bool,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// To the API gateway of the request's customer: [`Credential::api`].
    CustomerApi,
    /// To the host that the cloud of the request's customer has for it, if it has one. The token is written as for
    /// that customer's API gateway.
    ByCloud(Vec<(Cloud, UpstreamUrl)>),
    /// To one upstream, whoever the customer is.
    Fixed(UpstreamEndpoint),
}

/// An upstream, and how it is shown the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamEndpoint {
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
    pub quota: Quota,
    /// How long a request may wait.
    pub queue_timeout: Duration,
}

/// The two kinds of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// So many at a time.
    AtOnce(NonZeroUsize),
    /// So many begun in a second.
    PerSecond(NonZeroU32),
}

impl Route {
    /// A route without anything special about it.
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
        self.authority
            .port_u16()
            .unwrap_or(if self.scheme == Scheme::HTTPS {
                443
            } else {
                80
            })
    }
}
