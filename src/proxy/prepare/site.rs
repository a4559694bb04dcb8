//! `Citrix-InstanceId`: the caller's, else the configured one, else what Citrix says the customer's site is.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::UpstreamRequest;
use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::site::slot::Site;
use crate::state::snapshot::Customer;
use citrix_wire::citrix::headers::{CITRIX_INSTANCE_ID, needs_instance_id};

/// How long a request waits until the customer's site is found. It then goes without, for what Citrix says to that
/// tells more than we could.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon a caller should come back when too many wait already.
const COME_BACK: Duration = Duration::from_secs(1);
/// Sites that a caller is told of.
const TOLD: usize = 10;

/// Names the site where the service behind one of `paths` (they differ in the upstream's own base path) wants that
/// and the caller did not. Whether it still has to be found.
pub(super) fn name(customer: &Customer, paths: [&str; 2], headers: &mut HeaderMap) -> bool {
    // An empty one is a setting that somebody left empty.
    let named = headers
        .get(CITRIX_INSTANCE_ID)
        .is_some_and(|site| !site.is_empty());
    if named || !paths.into_iter().any(needs_instance_id) {
        return false;
    }
    if let Some(site) = customer.instance_id() {
        headers.insert(CITRIX_INSTANCE_ID, site.clone());
        return false;
    }
    customer.must_find_site()
}

/// Waits for the customer's site, if the request needs it. To be called when there is a token: the site is asked for
/// with it.
///
/// # Errors
/// When the customer has several sites; when `limits.max_queued` requests of it wait already.
pub(in crate::proxy) async fn find_site(
    request: &mut UpstreamRequest<'_>,
    live: &Live,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    if !request.wants_site {
        return Ok(());
    }
    // Boxed: it happens to the first requests only.
    if let Some(site) = Box::pin(find(request.customer, live, exchange)).await? {
        request.headers.insert(CITRIX_INSTANCE_ID, site);
    }
    Ok(())
}

async fn find(
    customer: &Customer,
    live: &Live,
    exchange: &mut Exchange,
) -> Result<Option<HeaderValue>, Failure> {
    let limit = live.limits.max_queued;
    let Some(_place) = customer.site.waiting().acquire(limit) else {
        let detail = format!(
            "{limit} requests wait already until the customer's site is found (limits.max_queued); name it in \
             Citrix-InstanceId or instance_id"
        );
        return Err(Failure::new(Reason::Overloaded, detail).retry_after(COME_BACK));
    };
    let began = Instant::now();
    let site = customer.site.find(PATIENCE).await;
    exchange.waited += began.elapsed();
    match site {
        Site::Known(id) => Ok(Some(id)),
        Site::Unknown => Ok(None),
        Site::Several(ids) => Err(Failure::new(Reason::BadRequest, several(customer, &ids))),
    }
}

fn several(customer: &Customer, ids: &[String]) -> String {
    let more = match ids.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "customer {} has several sites: {}{more}; send the one that is meant in Citrix-InstanceId, or set \
         instance_id in the configuration",
        customer.id.to_str().unwrap_or_default(),
        ids.iter()
            .take(TOLD)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "),
    )
}
