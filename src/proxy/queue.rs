//! Step 5: waits for everything a request needs before it is sent.
//!
//! In this order: the body of a batch or of a request to a limited service, the audit log, a token,
//! the customer's site, a permit of the route's queue, a permit of `limits.max_in_flight`. A
//! customer without a token therefore holds no queue permit, and a request that waits holds no
//! in-flight permit.

mod batch;
mod site;

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http_body::Body as _;
use tokio::time::Instant;

use super::prepare::UpstreamRequest;
use crate::config::Live;
use crate::error::{Failure, LIMIT_RETRY_AFTER, Reason};
use crate::exchange::Exchange;
use crate::limit::owner::Exceeded;
use crate::limit::{Admission, Admitted, Asker, QueuedRequest, WaitTimeout};
use crate::state::Route;
use crate::state::Shared;

/// Waits until `request` may be sent. A caller that waits for `100 Continue` is sent it first.
///
/// # Errors
/// A batch that cannot be read or is rejected; `token_unavailable`; `bad_request` if the customer
/// has several sites; `overloaded` or `queue_timeout` at a limit.
pub async fn queue(
    request: &mut UpstreamRequest<'_>,
    route: &Route,
    shared: &Shared,
    live: &Live,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    let limit = request.customer.limit(route);
    if request.is_batch {
        // Boxed: few requests are batches. Reading the body sends `100 Continue`.
        Box::pin(batch::read_batch(request, exchange)).await?;
    } else if limit.is_some() && !request.body.is_end_stream() {
        // Boxed: most requests to limited services have no body.
        Box::pin(exchange.count_wait(request.body.read_ahead())).await?;
    } else if request.expects_continue {
        poll_fn(|cx| {
            request.body.poll_first(cx);
            Poll::Ready(())
        })
        .await;
    }
    // Nothing is sent without its audit line.
    exchange.audited().await?;
    exchange
        .usable_token(request.customer, live, shared.clock)
        .await?;
    if request.needs_site {
        // Boxed: it happens to the first requests only.
        Box::pin(site::find_site(request, live, exchange)).await?;
    }
    if let Some((limit, timeout)) = limit {
        let asker = asker(shared, exchange);
        let (admitted, left) = match limit.acquire(asker, live.limits.max_queued, live.replicas()) {
            Ok(Admission::Immediate(admitted)) => (admitted, timeout),
            Ok(Admission::Queued(request)) => {
                Box::pin(wait_for_permit(request, timeout, exchange)).await?
            }
            Err(exceeded) => return Err(queue_full(exceeded, live.limits.max_queued)),
        };
        request.queue_left = Some(left);
        if live.fleet.is_some() {
            exchange.count_fleet_permit(admitted.by);
        }
        exchange.set_queue_permit(admitted.permit);
    }
    exchange
        .acquire_in_flight_permit(&shared.in_flight, live.limits.max_in_flight)
        .await
}

/// Returns the caller as limits see it.
fn asker(shared: &Shared, exchange: &Exchange) -> Asker {
    let key = exchange.owner().key();
    let fleet = shared.fleet.as_ref();
    let fleet = fleet.filter(|fleet| fleet.limits().is_some());
    Asker {
        key,
        name: fleet.map(|fleet| fleet.caller(key, exchange.caller_name())),
    }
}

/// Waits for admission. Returns what is left of `timeout`.
async fn wait_for_permit(
    request: QueuedRequest<'_>,
    timeout: Duration,
    exchange: &mut Exchange,
) -> Result<(Admitted, Duration), Failure> {
    let wait = exchange.begin_queue_wait();
    let deadline = Instant::now() + timeout;
    let admitted = request.wait(deadline).await;
    drop(wait);
    let admitted = admitted.map_err(|WaitTimeout| queue_timeout(timeout))?;
    let left = deadline.saturating_duration_since(Instant::now());
    Ok((admitted, left))
}

fn queue_timeout(timeout: Duration) -> Failure {
    let limit = humantime::format_duration(timeout);
    let detail = format!(
        "no permit for the customer's next request to this service within {limit} (queue_timeout)"
    );
    Failure::new(Reason::QueueTimeout, detail).retry_after(LIMIT_RETRY_AFTER)
}

fn queue_full(exceeded: Exceeded, limit: usize) -> Failure {
    let in_use = "requests of the customer wait for this service";
    Failure::overloaded(exceeded.detail(limit, in_use, "limits.max_queued"))
}
