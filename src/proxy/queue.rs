//! Step 5: a place among the requests in flight.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::prepare::UpstreamRequest;
use crate::config::Limits;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;

/// How soon a caller should come back when all places are taken.
const COME_BACK: Duration = Duration::from_secs(1);

/// How many requests are being answered, all workers together.
#[derive(Debug, Default)]
pub struct InFlight(AtomicUsize);

impl InFlight {
    /// How many there are now.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A place, unless `limit` are taken.
    fn enter(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let place = Place(Arc::clone(self));
        // Counted first and looked at then: dropping the place takes it back.
        (self.0.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }
}

/// One request's place; given up when dropped.
#[derive(Debug)]
pub struct Place(Arc<InFlight>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a waiting caller to send its body, then takes a place.
///
/// # Errors
/// When `limits.max_in_flight` requests are being answered.
pub async fn queue(
    request: &mut UpstreamRequest<'_>,
    in_flight: &Arc<InFlight>,
    limits: &Limits,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    if request.expects_continue {
        poll_fn(|cx| {
            request.body.read_ahead(cx);
            Poll::Ready(())
        })
        .await;
    }
    let limit = limits.max_in_flight;
    let Some(place) = in_flight.enter(limit) else {
        let detail = format!("{limit} requests are being answered already (limits.max_in_flight)");
        return Err(Failure::new(Reason::Overloaded, detail).retry_after(COME_BACK));
    };
    exchange.place = Some(place);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let in_flight = Arc::new(InFlight::default());
        let first = in_flight.enter(2).unwrap();
        let second = in_flight.enter(2).unwrap();
        assert!(in_flight.enter(2).is_none());
        assert_eq!(in_flight.count(), 2);
        drop(first);
        assert!(in_flight.enter(2).is_some());
        drop(second);
        assert_eq!(in_flight.count(), 0);
    }
}
