//! Step 3: which upstream does this path lead to?

use super::admit::Admitted;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::snapshot::{Route, Snapshot};
use crate::wire::path;

/// The route with the longest prefix of the request's path.
///
/// # Errors
/// When no prefix covers it.
pub fn pick_route<'s>(
    snapshot: &'s Snapshot,
    admitted: &Admitted<'_>,
    exchange: &mut Exchange,
) -> Result<&'s Route, Failure> {
    let wanted = admitted.target.path();
    let found =
        snapshot.routes.iter().enumerate().find(|(_, route)| path::covers(&route.config.prefix, wanted));
    let (index, route) =
        found.ok_or_else(|| Failure::new(Reason::NoRoute, "no route of this gateway covers the path"))?;
    exchange.route = Some(index);
    Ok(route)
}
