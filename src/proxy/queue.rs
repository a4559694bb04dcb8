//! Step 5: waiting, where a request has to: for a token, and for a place among the requests in flight.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::prepare::{UpstreamRequest, find_site};
use crate::clock::Clock;
use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::snapshot::{Customer, HeldToken};
use crate::token::slot::Unavailable;

/// How soon a caller should come back when all places are taken.
const COME_BACK: Duration = Duration::from_secs(1);

/// Tells a waiting caller to send its body, waits until there is a token, then takes a place. In this order, so
/// that a customer without a token takes up no place that another could use.
///
/// # Errors
/// Without a token; when `limits.max_in_flight` requests are being answered.
pub async fn queue(
    request: &mut UpstreamRequest<'_>,
    shared: &Shared,
    live: &Live,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    if request.expects_continue {
        poll_fn(|cx| {
            request.body.read_ahead(cx);
            Poll::Ready(())
        })
        .await;
    }
    usable_token(request.customer, live, shared.clock, exchange).await?;
    find_site(request, live, exchange).await?;
    let limit = live.limits.max_in_flight;
    let Some(place) = shared.in_flight.enter(limit) else {
        let detail = format!("{limit} requests are being answered already (limits.max_in_flight)");
        return Err(Failure::new(Reason::Overloaded, detail).retry_after(COME_BACK));
    };
    exchange.place = Some(place);
    Ok(())
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
    if status.consecutive_failures > 0 && !status.in_progress && unavailable.retry_after > patience {
        // Waiting cannot help, and would take a place from somebody it can.
        return Err(no_token(unavailable));
    }
    let limit = live.limits.max_queued;
    let Some(_place) = slot.waiting().enter(limit) else {
        let reason =
            format!("{} {limit} requests wait for it already (limits.max_queued).", unavailable.reason);
        return Err(no_token(Unavailable { reason, ..unavailable }));
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
