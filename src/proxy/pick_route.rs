//! Step 3: picks the upstream of the matched route for the request's customer.

use super::admit::Admitted;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::state::{Destination, Route, Snapshot};

/// The route of a request, and the upstream it leads to.
#[derive(Clone, Copy)]
pub struct Picked<'s> {
    pub route: &'s Route,
    /// The upstream; it may depend on the customer.
    pub destination: &'s Destination,
}

/// Records the route of an admitted request and returns its upstream.
///
/// # Errors
/// `no_route` if the customer's cloud has no host for the service.
pub fn pick_route<'s>(
    snapshot: &'s Snapshot,
    admitted: &Admitted<'s>,
    exchange: &mut Exchange,
) -> Result<Picked<'s>, Failure> {
    let (index, retired) = (admitted.route_match.route, admitted.route_match.retired);
    exchange.set_route(index, retired);
    if let Some(family) = retired {
        snapshot.metrics.count_retired_address(family);
    }
    let route = &snapshot.routes[index];
    let destination = admitted.customer.destination(route).ok_or_else(|| {
        let detail =
            "the customer's cloud has no known host for this service; add a [[route]] for it";
        Failure::new(Reason::NoRoute, detail)
    })?;
    Ok(Picked { route, destination })
}
