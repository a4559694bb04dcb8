//! The permits an exchange holds until its response ends.

use std::rc::Rc;
use std::sync::Arc;

use super::Exchange;
use crate::error::Failure;
use crate::inbound::connection::caller_time::{CallerTime, HeldPermit, Side, TimedWait};
use crate::limit::QueuePermit;
use crate::limit::permits::{Permit, PermitCounter};

/// Scheduler turns that an evicted connection's tasks get to release their permits.
const EVICTION_YIELDS: usize = 8;

/// The permits of one exchange, released together.
#[derive(Default)]
pub(super) struct Permits {
    /// Of `limits.max_in_flight`.
    pub(super) in_flight: Option<Permit>,
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

    /// Acquires a permit of `limits.max_in_flight`. At the limit, the exchange of a stalled caller
    /// is evicted.
    ///
    /// # Errors
    /// `overloaded` if all permits are in use and no caller is stalled.
    pub async fn acquire_in_flight_permit(
        &mut self,
        in_flight: &Arc<PermitCounter>,
        limit: usize,
    ) -> Result<(), Failure> {
        self.permits.in_flight = match in_flight.acquire(limit) {
            Some(permit) => Some(permit),
            // Boxed: rare.
            None => Box::pin(self.permit_after_eviction(in_flight, limit)).await,
        };
        if self.permits.in_flight.is_some() {
            return Ok(());
        }
        let detail = format!("{limit} requests are in flight (limits.max_in_flight)");
        Err(Failure::overloaded(detail))
    }

    async fn permit_after_eviction(
        &self,
        in_flight: &Arc<PermitCounter>,
        limit: usize,
    ) -> Option<Permit> {
        if !self.connection.evict_stalled() {
            return None;
        }
        for _ in 0..EVICTION_YIELDS {
            // The evicted tasks must run to release their permits.
            tokio::task::yield_now().await;
            if let Some(permit) = in_flight.acquire(limit) {
                return Some(permit);
            }
        }
        None
    }
}
