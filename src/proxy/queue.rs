//! Step 5: waits for everything a request needs before it is sent.
//!
//! In this order: the body of a batch or of a request to a limited service, the audit log, a token,
//! the customer's site, a permit of the route's queue or the response of an identical request
//! (`collapse`), a permit of `limits.max_in_flight`. A customer without a token therefore holds no
//! queue permit, and a request that waits holds no in-flight permit.

mod batch;
mod collapse;
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
use crate::limit::collapse::{Followers, Following, Membership};
use crate::limit::owner::Exceeded;
use crate::limit::{Admission, Admitted, Asker, Limit, QueuedRequest, WaitTimeout};
use crate::proxy::pick_route::Picked;
use crate::state::{Shared, Snapshot};
use crate::system::moment::Moment;
use crate::upstream::share::SharedResponse;

/// Waits until `request` may be sent. A caller that waits for `100 Continue` is sent it first.
///
/// # Errors
/// A batch that cannot be read or is rejected; `token_unavailable`; `bad_request` if the customer
/// has several sites; `overloaded` or `queue_timeout` at a limit.
pub async fn queue(
    request: &mut UpstreamRequest<'_>,
    picked: &Picked<'_>,
    shared: &Shared,
    snapshot: &Snapshot,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    let live = &*snapshot.live;
    let limit = request.customer.limit(picked.route);
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
    let now = Moment {
        wall: shared.clock.now(),
        // Saves a look at the clock: `send` compares both once more.
        instant: exchange.began(),
    };
    if request.customer.usable_token(now).is_none() {
        exchange
            .usable_token(request.customer, live, shared.clock)
            .await?;
    }
    if request.needs_site {
        // Boxed: it happens to the first requests only.
        Box::pin(site::find_site(request, live, exchange)).await?;
    }
    if let Some((limit, timeout)) = limit {
        let context = QueueContext {
            limit,
            timeout,
            picked,
            shared,
            snapshot,
        };
        match context.acquire(exchange)? {
            Admission::Immediate(admitted) => {
                set_permit(request, (admitted, timeout), live, exchange);
            }
            Admission::Queued(queued) => {
                Box::pin(context.wait(queued, request, exchange)).await?;
            }
        }
    }
    exchange
        .acquire_in_flight_permit(&shared.in_flight, live.limits.max_in_flight)
        .await
}

/// The inputs of a wait in the queue of a limit.
struct QueueContext<'a> {
    limit: &'a Limit,
    /// The maximum wait for a permit.
    timeout: Duration,
    picked: &'a Picked<'a>,
    shared: &'a Shared,
    snapshot: &'a Snapshot,
}

/// The end of a wait in the queue.
enum Turn {
    Permit(Admitted, Option<Followers<SharedResponse>>),
    /// An identical request got a permit first.
    Follow(Following<SharedResponse>),
}

impl<'a> QueueContext<'a> {
    fn acquire(&self, exchange: &Exchange) -> Result<Admission<'a>, Failure> {
        let live = &self.snapshot.live;
        let (asker, max_queued) = (asker(self.shared, exchange), live.limits.max_queued);
        let acquired = self.limit.acquire(asker, max_queued, live.replicas());
        acquired.map_err(|exceeded| queue_full(exceeded, max_queued))
    }

    /// Waits for a permit, or for the response of an identical request.
    async fn wait(
        &self,
        queued: QueuedRequest<'_>,
        request: &mut UpstreamRequest<'_>,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        let live = &self.snapshot.live;
        let member = collapse::join(request, self.picked, self.shared, self.snapshot);
        let (turn, left) = self
            .wait_for_turn(queued, member, self.timeout, exchange)
            .await?;
        let following = match turn {
            Turn::Permit(admitted, followers) => {
                request.followers = followers;
                set_permit(request, (admitted, left), live, exchange);
                return Ok(());
            }
            Turn::Follow(following) => following,
        };
        let followed =
            collapse::follow(following, self.limit, request, self.snapshot, exchange).await?;
        if let Some(shared) = followed {
            request.shared = Some(Box::new(shared));
            return Ok(());
        }
        // No failure is shared: from here on the request waits alone.
        let admitted = match self.acquire(exchange)? {
            Admission::Immediate(admitted) => (admitted, left),
            Admission::Queued(queued) => {
                match self.wait_for_turn(queued, None, left, exchange).await? {
                    (Turn::Permit(admitted, _), left) => (admitted, left),
                    // Only a member of a group follows.
                    (Turn::Follow(_), _) => return Err(queue_timeout(self.timeout)),
                }
            }
        };
        set_permit(request, admitted, live, exchange);
        Ok(())
    }

    /// Waits for a permit, or until an identical request has one. Returns what is left of `timeout`.
    async fn wait_for_turn(
        &self,
        queued: QueuedRequest<'_>,
        member: Option<Membership<SharedResponse>>,
        timeout: Duration,
        exchange: &mut Exchange,
    ) -> Result<(Turn, Duration), Failure> {
        let _wait = exchange.begin_queue_wait();
        let deadline = Instant::now() + timeout;
        let admitted = queued.wait(deadline);
        let turn = match member {
            None => admitted.await.map(|admitted| Turn::Permit(admitted, None)),
            Some(mut member) => tokio::select! {
                biased;
                following = member.led() => Ok(Turn::Follow(following)),
                admitted = admitted => admitted.map(|admitted| match member.lead() {
                    Ok(followers) => Turn::Permit(admitted, Some(followers)),
                    // The permit passes on unused.
                    Err(following) => Turn::Follow(following),
                }),
            },
        };
        let turn = turn.map_err(|WaitTimeout| queue_timeout(self.timeout))?;
        Ok((turn, deadline.saturating_duration_since(Instant::now())))
    }
}

/// Keeps the permit of a request, with what is left of its `queue_timeout`.
fn set_permit(
    request: &mut UpstreamRequest<'_>,
    (admitted, left): (Admitted, Duration),
    live: &Live,
    exchange: &mut Exchange,
) {
    request.queue_left = Some(left);
    if live.fleet.is_some() {
        exchange.count_fleet_permit(admitted.by);
    }
    exchange.set_queue_permit(admitted.permit);
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
