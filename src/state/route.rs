//! A worker's routes and the upstreams they lead to.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::limits::LimitRef;
use super::origins::ResolvedUrl;
use super::published::{PublishedRoute, PublishedTarget};
use crate::config;
use crate::observe::metrics::RouteMetrics;
use crate::upstream::origin::Origin;
use citrix_wire::citrix::AuthorizationScheme;
use citrix_wire::citrix::clouds::Cloud;

/// A worker's view of a route.
pub struct Route {
    pub config: config::RouteSettings,
    /// Headers for requests that do not have them.
    pub default_headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) destinations: Destinations,
    pub(super) limit: Option<LimitRef>,
    pub metrics: RouteMetrics,
}

/// The destinations of a route.
pub(super) enum Destinations {
    CustomerApi,
    /// For each cloud, one destination per scheme that a customer of the cloud uses.
    ByCloud(Vec<(Cloud, Destination)>),
    Fixed(Destination),
}

/// An upstream as requests address it.
pub struct Destination {
    pub origin: Arc<Origin>,
    /// The value of `Host`.
    pub host: HeaderValue,
    /// The path that is prepended to a request's, without a final slash; often empty.
    pub base_path: String,
    /// The scheme of `Authorization`.
    pub authorization: AuthorizationScheme,
}

impl Route {
    /// Returns a worker's view of a route. `is_used` is `true` for a cloud and scheme that a
    /// customer has.
    pub(super) fn new(
        route: &PublishedRoute,
        is_used: impl Fn(Cloud, AuthorizationScheme) -> bool,
        metrics: RouteMetrics,
    ) -> Self {
        if route.config.collapse {
            // Creates the series, so that it is exported as 0 before the first such request.
            metrics.collapsed();
        }
        let headers = route.config.default_headers.iter();
        Self {
            config: config::RouteSettings::clone(&route.config),
            default_headers: headers
                .map(|(name, value)| (name.clone(), own_copy(value)))
                .collect(),
            destinations: Destinations::new(&route.target, is_used),
            limit: route.limit,
            metrics,
        }
    }
}

impl Destinations {
    fn new(target: &PublishedTarget, is_used: impl Fn(Cloud, AuthorizationScheme) -> bool) -> Self {
        let schemes = [AuthorizationScheme::Cws, AuthorizationScheme::Bearer];
        match target {
            PublishedTarget::CustomerApi => Self::CustomerApi,
            PublishedTarget::ByCloud(urls) => {
                let mut destinations = Vec::new();
                for (cloud, url) in urls {
                    let used = schemes.iter().filter(|&&scheme| is_used(*cloud, scheme));
                    destinations
                        .extend(used.map(|&scheme| (*cloud, Destination::new(url, scheme))));
                }
                Self::ByCloud(destinations)
            }
            PublishedTarget::Fixed(url, scheme) => Self::Fixed(Destination::new(url, *scheme)),
        }
    }
}

impl Destination {
    pub(super) fn new(url: &ResolvedUrl, authorization: AuthorizationScheme) -> Self {
        Self {
            origin: Arc::clone(&url.origin),
            host: own_copy(url.origin.url.host()),
            base_path: url.base_path.clone(),
            authorization,
        }
    }

    /// Returns the gateway at `origin`, with the scheme of this destination.
    pub fn moved_to(&self, origin: &Arc<Origin>) -> Self {
        Self {
            origin: Arc::clone(origin),
            host: origin.url.host().clone(),
            base_path: String::new(),
            authorization: self.authorization,
        }
    }
}

/// Returns a copy with a reference count of its own: clones of a shared value pass its count from
/// core to core.
pub(super) fn own_copy(value: &HeaderValue) -> HeaderValue {
    // The bytes of a header value are always valid; the fallback is never reached.
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    copy.set_sensitive(value.is_sensitive());
    copy
}
