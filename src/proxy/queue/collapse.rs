//! Identical requests that wait for a permit at the same time share the response of the first that
//! gets one (interface §4.7).

use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderName, Method};
use http_body::Body as _;
use tokio::time::timeout;

use crate::error::Failure;
use crate::exchange::Exchange;
use crate::limit::Limit;
use crate::limit::collapse::{Following, Membership};
use crate::proxy::pick_route::Picked;
use crate::proxy::prepare::UpstreamRequest;
use crate::state::{Shared, Snapshot};
use crate::system::digest::{Sha256, Sha256Builder};
use crate::upstream::share::SharedResponse;
use citrix_wire::citrix::headers::CITRIX_TRANSACTION_ID;

/// Fields in which identical requests may differ.
const VARYING: [HeaderName; 5] = [
    AUTHORIZATION,
    CITRIX_TRANSACTION_ID,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    USER_AGENT,
];

/// Joins the group of identical requests. `None` if the response cannot be shared.
pub(super) fn join(
    request: &UpstreamRequest<'_>,
    picked: &Picked<'_>,
    shared: &Shared,
    snapshot: &Snapshot,
) -> Option<Membership<SharedResponse>> {
    let may_share = picked.route.config.collapse
        && request.head.method == Method::GET
        && request.body.is_end_stream();
    may_share.then(|| shared.groups.join(&key(request, picked, snapshot)))
}

/// Returns the digest of all that the response depends on, and of the configuration: after a reload
/// the customer may have another client.
fn key(request: &UpstreamRequest<'_>, picked: &Picked<'_>, snapshot: &Snapshot) -> Sha256 {
    let mut digest = Sha256Builder::default();
    digest.bytes(&snapshot.published_id().to_be_bytes());
    digest.bytes(&picked.destination.origin.id.to_be_bytes());
    digest.part(picked.route.config.prefix.as_bytes());
    digest.part(request.customer.id.as_bytes());
    digest.part(request.head.target.as_str().as_bytes());
    let fields = request.head.fields.iter();
    let mut fields: Vec<_> = fields.filter(|(name, _)| !VARYING.contains(name)).collect();
    // Stable: fields of one name keep their order, which matters.
    fields.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in fields {
        digest.part(name.as_str().as_bytes());
        digest.part(value.as_bytes());
    }
    digest.finish()
}

/// Waits for the response of the leader. `None` if the request must be sent itself: there is no
/// response to share in the time that an upstream has for one, or the caller's rules do not permit
/// the gateway that responded.
///
/// # Errors
/// `overloaded` if `limits.max_queued` requests, or too many of the caller, follow others.
pub(super) async fn follow(
    following: Following<SharedResponse>,
    limit: &Limit,
    request: &UpstreamRequest<'_>,
    snapshot: &Snapshot,
    exchange: &mut Exchange,
) -> Result<Option<SharedResponse>, Failure> {
    let (max_queued, upstream) = (snapshot.live.limits.max_queued, &snapshot.live.upstream);
    let slot = limit.following().acquire(exchange.owner(), max_queued);
    let _slot = slot.map_err(|exceeded| super::queue_full(exceeded, max_queued))?;
    let deadline = upstream.response_timeout + upstream.retry_budget;
    let response = exchange
        .count_wait(timeout(deadline, following.response()))
        .await;
    let is_permitted = |response: &SharedResponse| {
        let (Some((gateway, path)), Some(policy)) = (&response.sent.redirected_to, &request.policy)
        else {
            return true;
        };
        policy.permits(
            snapshot,
            &request.head.method,
            (gateway, path),
            request.customer,
        )
    };
    Ok(response.ok().flatten().filter(is_permitted))
}
