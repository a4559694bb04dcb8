//! Matches a request target to a route, after translating addresses that Citrix retired.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};

use super::snapshot::Snapshot;
use crate::config::RouteTarget;
use crate::error::{Failure, Reason};
use citrix_wire::citrix::headers::{CITRIX_CUSTOMER_ID, CITRIX_INSTANCE_ID, is_empty};
use citrix_wire::citrix::{legacy, services};
use citrix_wire::path_readings::{PathReadings, TooManyReadings};

/// A target and the route that it matches.
pub struct RouteMatch {
    /// The caller's target, or the current form of a retired one. Rules are evaluated on it.
    pub target: PathAndQuery,
    /// Readings of its path. The prefix of the route is read by the gateway alone.
    pub readings: PathReadings,
    /// `true` if another reading of the path is a retired address, or has the limit of a route to
    /// which the path as written does not lead.
    pub is_ambiguous: bool,
    /// Index in [`Snapshot::routes`].
    pub route: usize,
    /// Family of retired addresses that the caller used.
    pub retired: Option<&'static str>,
}

impl Snapshot {
    /// Returns the route with the longest prefix of the target's path.
    ///
    /// A retired address is translated first, unless a `[[route]]` matches it; the ids in it become
    /// header fields. The path as written selects the upstream; every reading of it, the limit.
    ///
    /// # Errors
    /// `no_route` if no prefix matches, `customer_forbidden` if a retired address and a header name
    /// two sites, `bad_request` if the path has too many readings.
    pub fn match_route(
        &self,
        target: PathAndQuery,
        readings: &PathReadings,
        headers: &mut HeaderMap,
    ) -> Result<RouteMatch, Failure> {
        let route = self.require_route(target.path())?;
        let translated = if self.routes[route].config.prefix.is_empty() {
            legacy::translate(&target)
        } else {
            None
        };
        let Some(current) = translated else {
            let found = RouteMatch {
                target,
                readings: PathReadings::default(),
                is_ambiguous: false,
                route,
                retired: None,
            };
            return self.match_readings(found, readings);
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
        let found = RouteMatch {
            route: self.require_route(current.target.path())?,
            readings: PathReadings::default(),
            is_ambiguous: false,
            retired: Some(current.family),
            target: current.target,
        };
        self.match_readings(found, readings)
    }

    /// Adds the readings of the path; `readings` are those of the caller's. A limit that one of them
    /// has applies.
    fn match_readings(
        &self,
        mut found: RouteMatch,
        readings: &PathReadings,
    ) -> Result<RouteMatch, Failure> {
        if readings.is_empty() {
            return Ok(found);
        }
        let written = &self.routes[found.route].config;
        let path = found.target.path();
        let stripped = if written.strip_prefix {
            written.prefix.len()
        } else {
            0
        };
        let (prefix, rest) = path.split_at_checked(stripped).unwrap_or(("", path));
        found.readings = PathReadings::below(prefix, rest).map_err(too_many_readings)?;
        let mut chosen = written;
        for reading in found.readings.normalized() {
            let Some(route) = self.route_of(reading).filter(|route| *route != found.route) else {
                continue;
            };
            let other = &self.routes[route].config;
            let is_longer = other.prefix.len() > chosen.prefix.len();
            if is_longer && chosen.limit.is_none() && other.forwards_like(chosen) {
                found.route = route;
                chosen = other;
            } else if other.limit.is_some() && other.limit != chosen.limit {
                found.is_ambiguous = true;
            }
        }
        let is_retired = |reading: &str| {
            let reading = PathAndQuery::try_from(reading);
            reading.is_ok_and(|reading| legacy::translate(&reading).is_some())
        };
        found.is_ambiguous |= written.prefix.is_empty()
            && found.retired.is_none()
            && found.readings.normalized().any(is_retired);
        Ok(found)
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

/// Returns the failure of a request whose path has too many readings.
pub fn too_many_readings(error: TooManyReadings) -> Failure {
    Failure::new(Reason::BadRequest, error.to_string())
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
