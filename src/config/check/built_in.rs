//! The built-in routes (interface §4.3).

use std::num::{NonZeroU32, NonZeroUsize};

use http::{HeaderName, HeaderValue};

use super::{QUEUE_TIMEOUT, url};
use crate::config::{
    Credential, Quota, RouteLimit, RouteSettings, RouteTarget, UpstreamEndpoint, UpstreamUrl,
};
use citrix_wire::citrix::clouds::Cloud;
use citrix_wire::citrix::services::{self, Service, ServiceLimit, ServiceLocation};

/// The built-in routes, before `[[route]]` blocks replace some.
pub(super) struct BuiltInRoutes {
    /// Routes to API gateways: the customers' own and those of the regions.
    gateways: Vec<RouteSettings>,
    /// Routes to other hosts.
    others: Vec<RouteSettings>,
}

impl BuiltInRoutes {
    /// Returns the routes for the clouds of `customers`.
    pub(super) fn new(customers: &[Credential]) -> Self {
        let mut gateways = vec![built_in(String::new(), RouteTarget::CustomerApi)];
        let mut others = Vec::new();
        for (_, cloud) in Cloud::ALL {
            let mut of_cloud = customers
                .iter()
                .filter(|customer| customer.cloud == cloud)
                .peekable();
            if of_cloud.peek().is_none() {
                continue;
            }
            for (prefix, url) in services::region_prefixes(cloud) {
                add_target(&mut gateways, prefix, cloud, url);
            }
            for other in services::built_in_prefixes(cloud, of_cloud.map(Credential::customer)) {
                if let Some(route) = add_target(&mut others, other.prefix, cloud, &other.url) {
                    apply_service(route, other.service);
                }
            }
        }
        Self { gateways, others }
    }

    /// Returns `true` if `prefix` is built in or reserved for built-in routes.
    pub(super) fn has(&self, prefix: &str) -> bool {
        let is = |other: &str| other.eq_ignore_ascii_case(prefix);
        let is_service_of = |gateway: &RouteSettings| {
            services::with_own_route().any(|(path, _)| is(&format!("{}{path}", gateway.prefix)))
        };
        self.gateways
            .iter()
            .chain(&self.others)
            .any(|route| is(&route.prefix))
            || self.gateways.iter().any(is_service_of)
            || services::reserved_prefixes().any(is)
    }

    /// Adds the built-in routes that `routes` does not replace. The services of a replaced gateway
    /// follow it to its new target.
    pub(super) fn add_to(self, routes: &mut Vec<RouteSettings>) {
        let mut built_in = self.others;
        for gateway in self.gateways {
            let replaced = routes
                .iter()
                .find(|route| route.prefix.eq_ignore_ascii_case(&gateway.prefix));
            let gateway = replaced.cloned().unwrap_or(gateway);
            built_in.extend(
                services::with_own_route()
                    .map(|(path, service)| service_route(&gateway, path, service)),
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

fn built_in(prefix: String, target: RouteTarget) -> RouteSettings {
    RouteSettings {
        ignore_case: true,
        built_in: true,
        ..RouteSettings::plain(prefix, target)
    }
}

/// Adds `url` as the target of `prefix` for customers of `cloud`. Returns `None` if `url` is
/// invalid, which a test of the table rules out.
fn add_target<'r>(
    routes: &'r mut Vec<RouteSettings>,
    prefix: String,
    cloud: Cloud,
    url: &str,
) -> Option<&'r mut RouteSettings> {
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

fn with_path(url: &UpstreamUrl, path: &str) -> UpstreamUrl {
    url.with_path(format!("{}{path}", url.base_path))
}

/// Returns the route to a service of an API gateway.
fn service_route(gateway: &RouteSettings, path: &'static str, service: &Service) -> RouteSettings {
    let extended = |url| {
        if gateway.strip_prefix {
            with_path(url, path)
        } else {
            url.clone()
        }
    };
    let target = match &gateway.target {
        RouteTarget::CustomerApi => RouteTarget::CustomerApi,
        RouteTarget::ByCloud(urls) => RouteTarget::ByCloud(
            urls.iter()
                .map(|(cloud, url)| (*cloud, extended(url)))
                .collect(),
        ),
        RouteTarget::Fixed(endpoint) => RouteTarget::Fixed(UpstreamEndpoint {
            url: extended(&endpoint.url),
            ..endpoint.clone()
        }),
    };
    let prefix = format!("{}{path}", gateway.prefix);
    let mut route = RouteSettings {
        strip_prefix: gateway.strip_prefix,
        ..built_in(prefix, target)
    };
    apply_service(&mut route, service);
    route
}

/// Sets the limit, default header fields, link rewriting and collapsing of `service`.
fn apply_service(route: &mut RouteSettings, service: &Service) {
    let quota = match service.limit {
        ServiceLimit::Unknown => None,
        ServiceLimit::AtOnce(count) => NonZeroUsize::new(count).map(Quota::AtOnce),
        ServiceLimit::PerSecond(count) => NonZeroU32::new(count).map(Quota::PerSecond),
    };
    let shared_as = match service.at {
        ServiceLocation::Gateway(path) => path,
        _ => &route.prefix,
    };
    route.limit = quota.map(|quota| RouteLimit {
        shared_as: shared_as.to_owned(),
        quota,
        queue_timeout: QUEUE_TIMEOUT,
    });
    let headers = service.default_headers.iter().map(|&(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    route.default_headers = headers.collect();
    route.rewrite_links = service.rewrite_links;
    route.collapse = service.collapse;
}
