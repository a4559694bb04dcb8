//! Step 3: which upstream does this path lead to?

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};

use super::admit::Admitted;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::state::snapshot::{Destination, Route, Snapshot};
use citrix_wire::citrix::headers::{CITRIX_CUSTOMER_ID, CITRIX_INSTANCE_ID};
use citrix_wire::citrix::legacy;

/// A path that leads somewhere, told before anything else is made of it: what the caller may, and whose request it
/// is, is judged by today's address.
pub struct Addressed {
    /// Today's target.
    pub target: PathAndQuery,
    route: usize,
    retired: Option<&'static str>,
}

impl Addressed {
    /// Whether the caller used an address that Citrix retired.
    pub fn is_retired(&self) -> bool {
        self.retired.is_some()
    }
}

/// Finds the route with the longest prefix of the target's path. A retired address is translated first, unless
/// a `[[route]]` is meant for it; the ids in it become headers.
///
/// # Errors
/// When no prefix covers the path, or a retired address contradicts a header.
pub fn address(
    snapshot: &Snapshot,
    target: PathAndQuery,
    headers: &mut HeaderMap,
) -> Result<Addressed, Failure> {
    let find = |path: &str| {
        let detail = "no route of this gateway covers the path";
        snapshot
            .route_of(path)
            .ok_or_else(|| Failure::new(Reason::NoRoute, detail))
    };
    let route = find(target.path())?;
    if !snapshot.routes[route].config.prefix.is_empty() {
        return Ok(Addressed {
            target,
            route,
            retired: None,
        });
    }
    let Some(today) = legacy::translate(&target) else {
        return Ok(Addressed {
            target,
            route,
            retired: None,
        });
    };
    if let Some(customer) = today.customer.and_then(|id| HeaderValue::from_str(id).ok()) {
        // Beside what the caller wrote there, with which it is compared.
        headers.append(CITRIX_CUSTOMER_ID, customer);
    }
    if let Some(site) = today.site {
        name_site(headers, site)?;
    }
    let route = find(today.target.path())?;
    let retired = Some(today.family);
    Ok(Addressed {
        target: today.target,
        route,
        retired,
    })
}

fn name_site(headers: &mut HeaderMap, site: &str) -> Result<(), Failure> {
    let same = |value: &HeaderValue| {
        value.is_empty() || value.as_bytes().eq_ignore_ascii_case(site.as_bytes())
    };
    if !headers.get_all(CITRIX_INSTANCE_ID).iter().all(same) {
        return Err(Failure::new(
            Reason::CustomerForbidden,
            "the request names two sites",
        ));
    }
    if let Ok(site) = HeaderValue::from_str(site) {
        headers.insert(CITRIX_INSTANCE_ID, site);
    }
    Ok(())
}

/// Where a request goes, and by which route.
#[derive(Clone, Copy)]
pub struct Picked<'s> {
    /// What is done to the request on the way.
    pub route: &'s Route,
    /// The upstream.
    pub destination: &'s Destination,
}

/// The route that the request's address was found to have, and where it leads the request's customer.
///
/// # Errors
/// When the customer's cloud has no host for it.
pub fn pick_route<'s>(
    snapshot: &'s Snapshot,
    admitted: &Admitted<'s>,
    exchange: &mut Exchange,
) -> Result<Picked<'s>, Failure> {
    let Addressed { route, retired, .. } = admitted.address;
    exchange.route = Some(route);
    if let Some(family) = retired {
        exchange.retired = Some(family);
        snapshot.metrics.retired_address(family);
    }
    let route = &snapshot.routes[route];
    let destination = route.destination(admitted.customer).ok_or_else(|| {
        let detail =
            "the customer's cloud is not known to have this service; a [[route]] can lead to it";
        Failure::new(Reason::NoRoute, detail)
    })?;
    Ok(Picked { route, destination })
}
