//! The routes that are there without a word in the configuration (interface §4.3).

use std::num::{NonZeroU32, NonZeroUsize};

use http::{HeaderName, HeaderValue};

use super::{QUEUE_TIMEOUT, url};
use crate::config::{
    Credential, Quota, Route, RouteLimit, RouteTarget, UpstreamEndpoint, UpstreamUrl,
};
use citrix_wire::citrix::clouds::Cloud;
use citrix_wire::citrix::services::{self, Service, ServiceLimit, ServiceLocation};

/// The built-in table, before what the configuration replaces of it.
pub(super) struct BuiltIn {
    /// The customers' API gateway and those of the regions.
    gateways: Vec<Route>,
    /// Routes to other hosts.
    others: Vec<Route>,
}

impl BuiltIn {
    /// The table for the clouds that these customers are in.
    pub(super) fn new(customers: &[Credential]) -> Self {
        let mut gateways = vec![built_in(String::new(), RouteTarget::CustomerApi)];
        let mut others = Vec::new();
        for (_, cloud) in Cloud::ALL {
            let mut here = customers
                .iter()
                .filter(|customer| customer.cloud == cloud)
                .peekable();
            if here.peek().is_none() {
                continue;
            }
            for (prefix, url) in services::region_prefixes(cloud) {
                lead(&mut gateways, prefix, cloud, url);
            }
            for each in services::built_in_prefixes(cloud, here.map(Credential::customer)) {
                if let Some(route) = lead(&mut others, each.prefix, cloud, &each.url) {
                    treat(route, each.service);
                }
            }
        }
        Self { gateways, others }
    }

    /// Whether a prefix is one of the table's, or one below which only the table's names lead anywhere.
    pub(super) fn has(&self, prefix: &str) -> bool {
        let is = |other: &str| other.eq_ignore_ascii_case(prefix);
        let below = |gateway: &Route| {
            services::with_own_route().any(|(path, _)| is(&format!("{}{path}", gateway.prefix)))
        };
        self.gateways
            .iter()
            .chain(&self.others)
            .any(|route| is(&route.prefix))
            || self.gateways.iter().any(below)
            || services::reserved_prefixes().any(is)
    }

    /// Adds what `routes` does not replace. A gateway that it replaces takes the services on it along.
    pub(super) fn add_to(self, routes: &mut Vec<Route>) {
        let mut built_in = self.others;
        for gateway in self.gateways {
            let replaced = routes
                .iter()
                .find(|route| route.prefix.eq_ignore_ascii_case(&gateway.prefix));
            let gateway = replaced.cloned().unwrap_or(gateway);
            built_in.extend(
                services::with_own_route().map(|(path, service)| on(&gateway, path, service)),
            );
            built_in.push(gateway);
        }
        built_in.retain(|new| {
            routes
                .iter()
                .all(|old| !old.prefix.eq_ignore_ascii_case(&new.prefix))
        });
        routes.append(&mut built_in);
    }
}

fn built_in(prefix: String, target: RouteTarget) -> Route {
    Route {
        ignore_case: true,
        built_in: true,
        ..Route::plain(prefix, target)
    }
}

/// Leads customers of `cloud` from `prefix` to `url`. `None` when that is no URL, which would be a bug in a table
/// of ours that a test looks for.
fn lead<'r>(
    routes: &'r mut Vec<Route>,
    prefix: String,
    cloud: Cloud,
    url: &str,
) -> Option<&'r mut Route> {
    let url = url::upstream(url).ok()?;
    let known = routes
        .iter()
        .position(|route| route.prefix.eq_ignore_ascii_case(&prefix));
    let index = known.unwrap_or_else(|| {
        routes.push(built_in(prefix, RouteTarget::ByCloud(Vec::new())));
        routes.len() - 1
    });
    let route = routes.get_mut(index)?;
    if let RouteTarget::ByCloud(urls) = &mut route.target {
        urls.push((cloud, url));
    }
    Some(route)
}

/// The route to a service of an API gateway: the gateway's, longer.
fn on(gateway: &Route, path: &'static str, service: &Service) -> Route {
    let below = |url: &UpstreamUrl| {
        let base_path = if gateway.strip_prefix {
            format!("{}{path}", url.base_path)
        } else {
            url.base_path.clone()
        };
        UpstreamUrl {
            base_path,
            ..url.clone()
        }
    };
    let target = match &gateway.target {
        RouteTarget::CustomerApi => RouteTarget::CustomerApi,
        RouteTarget::ByCloud(urls) => RouteTarget::ByCloud(
            urls.iter()
                .map(|(cloud, url)| (*cloud, below(url)))
                .collect(),
        ),
        RouteTarget::Fixed(fixed) => RouteTarget::Fixed(UpstreamEndpoint {
            url: below(&fixed.url),
            ..fixed.clone()
        }),
    };
    let prefix = format!("{}{path}", gateway.prefix);
    let mut route = Route {
        strip_prefix: gateway.strip_prefix,
        ..built_in(prefix, target)
    };
    treat(&mut route, service);
    route
}

/// Notes what the service wants and allows.
fn treat(route: &mut Route, service: &Service) {
    let adds = service.adds.iter();
    let default_headers = adds.map(|&(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    let allows = match service.limit {
        ServiceLimit::Unknown => None,
        ServiceLimit::AtOnce(count) => NonZeroUsize::new(count).map(Quota::AtOnce),
        ServiceLimit::PerSecond(count) => NonZeroU32::new(count).map(Quota::PerSecond),
    };
    let shared_as = match service.at {
        ServiceLocation::Gateway(path) => path,
        _ => &route.prefix,
    };
    route.limit = allows.map(|allows| RouteLimit {
        shared_as: shared_as.to_owned(),
        quota: allows,
        queue_timeout: QUEUE_TIMEOUT,
    });
    route.default_headers = default_headers.collect();
    route.rewrite_links = service.rewrite_links;
}
