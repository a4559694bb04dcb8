//! Step 5: waiting, where a request has to: for a token, for a turn where Citrix lets few in, and for a place among
//! the requests in flight.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::prepare::{UpstreamRequest, find_site, read_batch};
use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::state::Shared;
use crate::system::clock::Clock;

use crate::limit::permits::Permit;
use crate::limit::{Entry, QueueFull, WaitTimeout, Waiting};
use crate::state::snapshot::{Customer, HeldToken, Route};
use crate::token::slot::Unavailable;

/// How often other tasks get their turn until who was told to go is gone: his connection, then his streams.
const TURNS_TO_GO: usize = 8;
/// How soon a caller should come back when all places are taken.
pub(super) const COME_BACK: Duration = Duration::from_secs(1);

/// Tells a waiting caller to send its body, reads it where tokens stand in it, waits until there is a token, then for a turn, then takes a place. In
/// this order, so that a customer without a token holds no turn, and what waits takes up no place that another could
/// use.
///
/// # Errors
/// When a batch cannot be read; without a token; when the turn does not come in time or too many wait for theirs; when `limits.max_in_flight`
/// requests are being answered.
pub async fn queue(
    request: &mut UpstreamRequest<'_>,
    route: &Route,
    shared: &Shared,
    live: &Live,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    if request.is_batch {
        // Boxed: few requests are batches. Reading tells the caller to go on.
        Box::pin(read_batch(request, shared, exchange)).await?;
    } else if request.expects_continue {
        poll_fn(|cx| {
            request.body.read_ahead(cx);
            Poll::Ready(())
        })
        .await;
    }
    usable_token(request.customer, live, shared.clock, exchange).await?;
    find_site(request, live, exchange).await?;
    if let Some((limit, patience)) = route.limit(request.customer) {
        match limit.acquire(exchange.queue_key(), live.limits.max_queued) {
            Ok(Entry::Now(turn)) => exchange.turn = turn,
            Ok(Entry::Later(waiting)) => {
                Box::pin(wait_for_turn(waiting, patience, exchange)).await?
            }
            Err(QueueFull) => return Err(crowded(live.limits.max_queued)),
        }
    }
    take_place(shared, live, exchange).await
}

/// Takes a place among the requests in flight. When all are taken, somebody who keeps his own waiting makes room.
///
/// # Errors
/// When all are taken.
pub(super) async fn take_place(
    shared: &Shared,
    live: &Live,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    let limit = live.limits.max_in_flight;
    exchange.place = match shared.in_flight.acquire(limit) {
        Some(place) => Some(place),
        // Boxed: most requests find one.
        None => Box::pin(permit_after_eviction(shared, limit, exchange)).await,
    };
    if exchange.place.is_some() {
        return Ok(());
    }
    let detail = format!("{limit} requests are being answered already (limits.max_in_flight)");
    Err(Failure::new(Reason::Overloaded, detail).retry_after(COME_BACK))
}

/// The place of somebody who has to go.
async fn permit_after_eviction(
    shared: &Shared,
    limit: usize,
    exchange: &Exchange,
) -> Option<Permit> {
    if !exchange.evict_stalled() {
        return None;
    }
    for _ in 0..TURNS_TO_GO {
        // His tasks have to run to let go of it.
        tokio::task::yield_now().await;
        if let Some(place) = shared.in_flight.acquire(limit) {
            return Some(place);
        }
    }
    None
}

async fn wait_for_turn(
    waiting: Waiting<'_>,
    patience: Duration,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    let wait = exchange.begin_wait();
    let turn = waiting.turn(Instant::now() + patience).await;
    drop(wait);
    exchange.turn = turn.map_err(|WaitTimeout| {
        let limit = humantime::format_duration(patience);
        let detail = format!(
            "Citrix lets few requests of a customer in here, and no turn came within {limit} (queue_timeout)"
        );
        Failure::new(Reason::QueueTimeout, detail).retry_after(COME_BACK)
    })?;
    Ok(())
}

fn crowded(limit: usize) -> Failure {
    let detail = format!(
        "{limit} requests of this customer wait for their turn here already (limits.max_queued)"
    );
    Failure::new(Reason::Overloaded, detail).retry_after(COME_BACK)
}

/// The token at hand, or the first one as soon as it is there.
///
/// # Errors
/// When there is none within `token.startup_wait`, at once where that is foreseeable; when `limits.max_queued`
/// requests of this customer wait for it already.
pub(super) async fn usable_token(
    customer: &Customer,
    live: &Live,
    clock: Clock,
    exchange: &mut Exchange,
) -> Result<Rc<HeldToken>, Failure> {
    loop {
        if let Some(token) = customer.usable_token(clock.now()) {
            return Ok(token);
        }
        // Boxed: most requests never come here.
        Box::pin(wait_for_token(customer, live, clock, exchange)).await?;
    }
}

async fn wait_for_token(
    customer: &Customer,
    live: &Live,
    clock: Clock,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    let (slot, patience) = (&customer.slot, live.token.startup_wait);
    let status = slot.status();
    let unavailable = slot.unavailable();
    if status.consecutive_failures > 0 && !status.in_progress && unavailable.retry_after > patience
    {
        // Waiting cannot help, and would take a place from somebody it can.
        return Err(no_token(unavailable));
    }
    let limit = live.limits.max_queued;
    let Some(_place) = slot.waiting().acquire(limit) else {
        let reason = format!(
            "{} {limit} requests wait for it already (limits.max_queued).",
            unavailable.reason
        );
        return Err(no_token(Unavailable {
            reason,
            ..unavailable
        }));
    };
    let began = Instant::now();
    let waited = slot.wait_usable(clock, patience).await;
    exchange.waited += began.elapsed();
    waited.map(drop).map_err(no_token)
}

fn no_token(unavailable: Unavailable) -> Failure {
    Failure::new(Reason::TokenUnavailable, unavailable.reason)
        .retry_after(unavailable.retry_after)
        .login_transaction_id(unavailable.transaction_id)
}
