//! The routes that are there without a word in the configuration (design 4.3).

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::url;
use crate::citrix::clouds::Cloud;
use crate::citrix::services::{self, At, Limit, Service};
use crate::config::{Allows, Route, RouteLimit, UpstreamUrl};

/// How long a request waits for its turn where Citrix lets few in.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);

/// The built-in table, before what the configuration replaces of it.
pub(super) struct BuiltIn {
    /// The API gateway in use and those of the regions.
    gateways: Vec<Route>,
    /// Routes to other hosts.
    others: Vec<Route>,
}

impl BuiltIn {
    /// The table for a cloud. `api` is the route `/`; its way to write the token is that of all.
    pub(super) fn new<'c>(cloud: Cloud, api: Route, customers: impl IntoIterator<Item = &'c str>) -> Self {
        let authorization = api.authorization;
        // A table of ours with something else than URLs would be a bug, which a test looks for.
        let lead = |prefix: String, url: &str| {
            let upstream = url::upstream(url).ok()?;
            Some(Route { any_case: true, built_in: true, ..Route::plain(prefix, upstream, authorization) })
        };
        let regions = services::regions(cloud).filter_map(|(prefix, url)| lead(prefix, url));
        let others = services::on_other_hosts(cloud, customers).into_iter().filter_map(|each| {
            let route = lead(each.prefix, &each.url)?;
            Some(treated(route, each.service))
        });
        let others = others.collect();
        let gateways =
            std::iter::once(Route { any_case: true, built_in: true, ..api }).chain(regions).collect();
        Self { gateways, others }
    }

    /// Whether a prefix is one of the table's, or one below which only the table's names lead anywhere.
    pub(super) fn has(&self, prefix: &str) -> bool {
        let is = |other: &str| other.eq_ignore_ascii_case(prefix);
        let below = |gateway: &Route| {
            services::with_own_route().any(|(path, _)| is(&format!("{}{path}", gateway.prefix)))
        };
        self.gateways.iter().chain(&self.others).any(|route| is(&route.prefix))
            || self.gateways.iter().any(below)
            || services::reserved().any(is)
    }

    /// Adds what `routes` does not replace. A gateway that it replaces takes the services on it along.
    pub(super) fn add_to(self, routes: &mut Vec<Route>) {
        let mut built_in = self.others;
        for gateway in self.gateways {
            let replaced = routes.iter().find(|route| route.prefix.eq_ignore_ascii_case(&gateway.prefix));
            let gateway = replaced.cloned().unwrap_or(gateway);
            built_in.extend(services::with_own_route().map(|(path, service)| on(&gateway, path, service)));
            built_in.push(gateway);
        }
        built_in.retain(|new| routes.iter().all(|old| !old.prefix.eq_ignore_ascii_case(&new.prefix)));
        routes.append(&mut built_in);
    }
}

/// The route to a service of an API gateway: the gateway's, longer.
fn on(gateway: &Route, path: &'static str, service: &Service) -> Route {
    let base_path = &gateway.upstream.base_path;
    let base_path = if gateway.strip_prefix { format!("{base_path}{path}") } else { base_path.clone() };
    let route = Route {
        prefix: format!("{}{path}", gateway.prefix),
        any_case: true,
        built_in: true,
        upstream: UpstreamUrl { base_path, ..gateway.upstream.clone() },
        ..gateway.clone()
    };
    treated(route, service)
}

/// With what the service wants and allows.
fn treated(route: Route, service: &Service) -> Route {
    let adds = service.adds.iter();
    let adds = adds.map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let allows = match service.limit {
        Limit::Unknown => None,
        Limit::AtOnce(count) => NonZeroUsize::new(count).map(Allows::AtOnce),
        Limit::PerSecond(count) => NonZeroU32::new(count).map(Allows::PerSecond),
    };
    let shared_as = match service.at {
        At::Gateway(path) => path,
        _ => &route.prefix,
    };
    let limit = allows.map(|allows| RouteLimit {
        shared_as: shared_as.to_owned(),
        allows,
        queue_timeout: QUEUE_TIMEOUT,
    });
    Route { adds: adds.collect(), limit, rewrite_links: service.rewrite_links, ..route }
}
