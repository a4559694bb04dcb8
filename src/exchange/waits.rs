//! Time accounting of an exchange: Citrix's time and waits, which are not the gateway's own time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Exchange;
use crate::config::Live;
use crate::error::Failure;
use crate::observe::metrics::QueueMetrics;
use crate::state::{Customer, HeldToken};
use crate::system::clock::Clock;
use crate::system::moment::Moment;

/// A wait in the queue of a route; counted when dropped, however it ends.
pub struct QueueWait<'e> {
    exchange: &'e mut Exchange,
    began: Instant,
    metrics: QueueMetrics,
}

impl Exchange {
    /// Awaits `future` and counts its time as a wait.
    pub async fn count_wait<T>(&mut self, future: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let output = future.await;
        self.timings.waited += began.elapsed();
        output
    }

    /// Returns the time of all waits.
    pub fn waited(&self) -> Duration {
        self.timings.waited
    }

    /// Begins a wait for a permit of the route, or for the end of a `Retry-After`.
    pub fn begin_queue_wait(&mut self) -> QueueWait<'_> {
        let metrics = self.route_metrics().queue().clone();
        metrics.depth.inc();
        QueueWait {
            exchange: self,
            began: Instant::now(),
            metrics,
        }
    }

    /// Returns the customer's token, after a wait for the first one if there is none yet.
    ///
    /// # Errors
    /// `token_unavailable`; see [`Customer::wait_for_token`].
    pub async fn usable_token(
        &mut self,
        customer: &Customer,
        live: &Live,
        clock: Clock,
    ) -> Result<Rc<HeldToken>, Failure> {
        loop {
            if let Some(token) = customer.usable_token(Moment::now(clock)) {
                return Ok(token);
            }
            // Boxed: rare.
            let owner = Arc::clone(self.owner());
            let wait = customer.wait_for_token(live, clock, &owner);
            Box::pin(self.count_wait(wait)).await?;
        }
    }

    /// Begins Citrix's time, and returns the time. It ends with [`Exchange::end_upstream_time`], or
    /// with the exchange.
    pub fn begin_upstream_time(&mut self) -> Instant {
        *self.timings.upstream_since.insert(Instant::now())
    }

    /// Ends Citrix's time.
    pub fn end_upstream_time(&mut self) {
        if let Some(since) = self.timings.upstream_since.take() {
            self.timings.upstream += since.elapsed();
        }
    }
}

impl Drop for QueueWait<'_> {
    fn drop(&mut self) {
        let waited = self.began.elapsed();
        self.exchange.timings.waited += waited;
        self.metrics.wait.observe(waited.as_secs_f64());
        self.metrics.depth.dec();
    }
}
