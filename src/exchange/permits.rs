//! The permits an exchange holds until its response ends.

use std::rc::Rc;
use std::sync::Arc;

use super::Exchange;
use crate::error::Failure;
use crate::inbound::connection::caller_time::{CallerTime, HeldPermit, Side, TimedWait};
use crate::limit::QueuePermit;
use crate::limit::owner::{Exceeded, OwnedPermit, Resource};
use crate::limit::permits::Permit;
use fleet_protocol::State;
use fleet_protocol::spacing::Spacing;

/// Scheduler turns that an evicted connection's tasks get to release their permits.
const EVICTION_YIELDS: usize = 8;

/// The permits of one exchange, released together.
#[derive(Default)]
pub(super) struct Permits {
    /// Of `limits.max_in_flight`.
    pub(super) in_flight: Option<OwnedPermit>,
    /// Of the caller's `max_concurrent`.
    pub(super) caller: Option<Permit>,
    /// Of the route's `max_concurrent` per customer.
    pub(super) queue: Option<HeldPermit>,
}

impl Exchange {
    /// Keeps a permit of the caller's `max_concurrent`.
    pub fn set_caller_permit(&mut self, permit: Option<Permit>) {
        self.permits.caller = permit;
    }

    /// Keeps a permit of the route's queue. From here on, waits for the caller are counted.
    pub fn set_queue_permit(&mut self, permit: Option<QueuePermit>) {
        let Some(permit) = permit else { return };
        let held = HeldPermit::new(permit, &self.connection);
        if let Some(upload) = &self.upload {
            upload.hold_permit(held.time());
        }
        self.permits.queue = Some(held);
    }

    /// Records that a use of the queue permit begins. With a `spacing` it rests after it.
    pub fn begin_permit_use(&mut self, spacing: Option<Spacing>) {
        if let Some(held) = &mut self.permits.queue {
            held.begin_use(spacing);
        }
    }

    /// Returns the queue permit, for a response that other exchanges read as well.
    pub fn take_queue_permit(&mut self) -> Option<QueuePermit> {
        self.permits.queue.take()?.into_permit()
    }

    /// Counts an admission of one of several replicas: by their store, or by this one alone.
    pub fn count_fleet_permit(&self, by: State) {
        let metrics = self.route_metrics();
        match by {
            State::Joined => metrics.fleet_permits_of_store(),
            State::Away | State::Alone => metrics.fleet_permits_alone(),
        }
        .inc();
    }

    /// Returns the waits for the caller while the exchange holds a queue permit.
    pub(super) fn caller_time(&self) -> Option<&Rc<CallerTime>> {
        self.permits.queue.as_ref().map(HeldPermit::time)
    }

    /// Begins a wait for the caller to read, if the exchange holds a queue permit.
    pub(super) fn wait_for_reader(&self) -> Option<TimedWait> {
        self.caller_time().map(|time| time.wait(Side::Response))
    }

    /// Returns `true` if the exchange holds a permit of `limits.max_in_flight`.
    pub fn holds_in_flight_permit(&self) -> bool {
        self.permits.in_flight.is_some()
    }

    /// Releases the permit of `limits.max_in_flight`, for the time of a wait.
    pub fn release_in_flight_permit(&mut self) {
        self.permits.in_flight = None;
    }

    /// Acquires a permit of `limits.max_in_flight` within the caller's share. Without one, an
    /// exchange that waits for its caller is evicted.
    ///
    /// # Errors
    /// `overloaded` if all permits or the caller's share of them are in use.
    pub async fn acquire_in_flight_permit(
        &mut self,
        in_flight: &Arc<Resource>,
        limit: usize,
    ) -> Result<(), Failure> {
        let mut acquired = in_flight.acquire(self.owner(), 1, limit);
        if let Err(exceeded) = acquired {
            // Boxed: rare.
            acquired = Box::pin(self.permit_after_eviction(exceeded, in_flight, limit)).await;
        }
        self.connection.set_holder(self.owner());
        self.permits.in_flight = Some(acquired.map_err(|exceeded| {
            let in_use = "requests are in flight";
            Failure::overloaded(exceeded.detail(limit, in_use, "limits.max_in_flight"))
        })?);
        Ok(())
    }

    async fn permit_after_eviction(
        &self,
        exceeded: Exceeded,
        in_flight: &Arc<Resource>,
        limit: usize,
    ) -> Result<OwnedPermit, Exceeded> {
        if !self.connection.evict_stalled(self.owner(), exceeded) {
            return Err(exceeded);
        }
        for _ in 0..EVICTION_YIELDS {
            // The evicted tasks must run to release their permits.
            tokio::task::yield_now().await;
            if let Ok(permit) = in_flight.acquire(self.owner(), 1, limit) {
                return Ok(permit);
            }
        }
        Err(exceeded)
    }
}
