//! Waits for the id of a customer's site, which is looked up at Citrix with the customer's token.

use std::time::Duration;

use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::proxy::prepare::UpstreamRequest;
use crate::site::slot::Site;
use crate::state::Customer;
use citrix_wire::citrix::headers::CITRIX_INSTANCE_ID;

/// Maximum wait of a request for the lookup. It is then sent without an id: Citrix's response
/// states the problem.
const SITE_WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Sites named in an error detail.
const MAX_NAMED_SITES: usize = 10;

/// Waits for the customer's site and adds `Citrix-InstanceId`.
///
/// # Errors
/// `bad_request` if the customer has several sites, `overloaded` if `limits.max_queued` requests
/// wait already.
pub(super) async fn find_site(
    request: &mut UpstreamRequest<'_>,
    live: &Live,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    let customer = request.customer;
    let limit = live.limits.max_queued;
    let slot = customer.site.waiting().acquire(exchange.owner(), limit);
    let _slot = slot.map_err(|exceeded| {
        let in_use = "requests wait for the lookup of the customer's site";
        let detail = exceeded.detail(limit, in_use, "limits.max_queued");
        Failure::overloaded(format!(
            "{detail}; name it in Citrix-InstanceId or instance_id"
        ))
    })?;
    match exchange
        .count_wait(customer.site.find(SITE_WAIT_TIMEOUT))
        .await
    {
        Site::Known(id) => request.head.fields.set(CITRIX_INSTANCE_ID, id),
        Site::Unknown => {}
        Site::Several(ids) => {
            return Err(Failure::new(
                Reason::BadRequest,
                several_sites(customer, &ids),
            ));
        }
    }
    Ok(())
}

fn several_sites(customer: &Customer, ids: &[String]) -> String {
    let more = match ids.len().saturating_sub(MAX_NAMED_SITES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "customer {} has several sites: {}{more}; send one in Citrix-InstanceId, or set instance_id",
        customer.name(),
        ids.iter()
            .take(MAX_NAMED_SITES)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "),
    )
}
