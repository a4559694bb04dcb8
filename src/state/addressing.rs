//! Matches a request target to a route, after translating addresses that Citrix retired.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};

use super::snapshot::Snapshot;
use crate::config::RouteTarget;
use crate::error::{Failure, Reason};
use citrix_wire::citrix::headers::{CITRIX_CUSTOMER_ID, CITRIX_INSTANCE_ID, is_empty};
use citrix_wire::citrix::{legacy, services};

/// A target and the route that it matches.
pub struct RouteMatch {
    /// The caller's target, or the current form of a retired one. Rules are evaluated on it.
    pub target: PathAndQuery,
    /// Index in [`Snapshot::routes`].
    pub route: usize,
    /// Family of retired addresses that the caller used.
    pub retired: Option<&'static str>,
}

impl Snapshot {
    /// Returns the route with the longest prefix of the target's path.
    ///
    /// A retired address is translated first, unless a `[[route]]` matches it; the ids in it become
    /// header fields.
    ///
    /// # Errors
    /// `no_route` if no prefix matches, `customer_forbidden` if a retired address and a header name
    /// two sites.
    pub fn match_route(
        &self,
        target: PathAndQuery,
        headers: &mut HeaderMap,
    ) -> Result<RouteMatch, Failure> {
        let route = self.require_route(target.path())?;
        let translated = if self.routes[route].config.prefix.is_empty() {
            legacy::translate(&target)
        } else {
            None
        };
        let Some(current) = translated else {
            return Ok(RouteMatch {
                target,
                route,
                retired: None,
            });
        };
        if let Some(customer) = current
            .customer
            .and_then(|id| HeaderValue::from_str(id).ok())
        {
            // Appended: it is compared with the caller's own value.
            headers.append(CITRIX_CUSTOMER_ID, customer);
        }
        if let Some(site) = current.site {
            set_site(headers, site)?;
        }
        Ok(RouteMatch {
            route: self.require_route(current.target.path())?,
            retired: Some(current.family),
            target: current.target,
        })
    }

    /// Splits the region off the path of a regional gateway or host, if the rest is a path of the
    /// same service (interface §4.3): rules for one apply to the other. A `[[route]]` may lead the
    /// rest to another upstream; then they do not.
    pub fn split_region<'p>(&self, path: &'p str) -> Option<(&'p str, &'p str)> {
        let (region, rest) = services::split_region(path)?;
        let [here, there] =
            [path, rest].map(|path| Some(&self.routes[self.route_of(path)?].config));
        let (here, there) = (here?, there?);
        let service = here.prefix.get(region.len()..)?;
        let is_same = service.eq_ignore_ascii_case(&there.prefix)
            || service.is_empty() && there.target == RouteTarget::CustomerApi;
        is_same.then_some((region, rest))
    }

    fn require_route(&self, path: &str) -> Result<usize, Failure> {
        self.route_of(path)
            .ok_or_else(|| Failure::new(Reason::NoRoute, "no route matches the path"))
    }
}

fn set_site(headers: &mut HeaderMap, site: &str) -> Result<(), Failure> {
    let agrees = |value: &HeaderValue| {
        is_empty(value) || value.as_bytes().eq_ignore_ascii_case(site.as_bytes())
    };
    if !headers.get_all(CITRIX_INSTANCE_ID).iter().all(agrees) {
        return Err(Failure::new(
            Reason::CustomerForbidden,
            "the path and Citrix-InstanceId name different sites",
        ));
    }
    if let Ok(site) = HeaderValue::from_str(site) {
        headers.insert(CITRIX_INSTANCE_ID, site);
    }
    Ok(())
}
