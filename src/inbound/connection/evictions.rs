//! Counts what was ended for the benefit of others.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// A limit at which something is ended for others.
#[derive(Clone, Copy, Debug)]
pub(super) enum EvictionLimit {
    /// `limits.max_connections`, or the file descriptors: a connection that waits for its client.
    Connections,
    /// `limits.max_in_flight`: a connection that waits for its caller.
    InFlight,
    /// `max_concurrent` of a route: an exchange that waits for its caller.
    Concurrent,
}

/// Counters of evictions by limit.
#[derive(Clone)]
pub struct Evictions([IntCounter; 3]);

impl Evictions {
    /// Registers the counters.
    ///
    /// # Errors
    /// If they are already registered.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "citrix_auth_proxy_evictions_total",
            "Connections and requests that were ended at a limit for the benefit of others.",
        );
        let counters = IntCounterVec::new(opts, &["limit"])?;
        registry.register(Box::new(counters.clone()))?;
        let labels = ["max_connections", "max_in_flight", "max_concurrent"];
        Ok(Self(
            labels.map(|limit| counters.with_label_values(&[limit])),
        ))
    }

    pub(super) fn count(&self, limit: EvictionLimit) {
        self.0[limit as usize].inc();
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> [u64; 3] {
        self.0.each_ref().map(IntCounter::get)
    }
}
