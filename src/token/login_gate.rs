//! Bounds on the logins at one token endpoint.
//!
//! Citrix limits token requests and publishes no number (contract §1.1). A gateway with many
//! customers must not send a login for each of them at the moment it starts.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::Uri;
use http::uri::Authority;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::limit::rate::RateLimiter;

/// Concurrent logins at one endpoint, each with a connection of its own.
const MAX_CONCURRENT: usize = 32;
/// Logins per second at one endpoint, in bursts of as many.
const PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(49);

/// The bound on logins at one endpoint.
#[derive(Debug)]
pub struct LoginGate {
    permits: Arc<Semaphore>,
    rate: RateLimiter,
}

impl Default for LoginGate {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            rate: RateLimiter::new(PER_SECOND),
        }
    }
}

impl LoginGate {
    /// Waits until a login may start, in the order of the calls. The login ends with the permit.
    /// The wait is bounded: each login ends by `token.request_timeout`.
    pub(super) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        // Fails only if the semaphore is closed, which it never is.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        while let Err(wait) = self.rate.acquire(Instant::now()) {
            sleep(wait).await;
        }
        permit
    }
}

/// The gates of all endpoints in use.
#[derive(Debug, Default)]
pub struct LoginGates(BTreeMap<String, Arc<LoginGate>>);

impl LoginGates {
    /// Returns the gate of the endpoint at `url`.
    pub fn of(&mut self, url: &Uri) -> Arc<LoginGate> {
        let endpoint = url.authority().map_or("", Authority::as_str);
        if let Some(gate) = self.0.get(endpoint) {
            return Arc::clone(gate);
        }
        self.0.retain(|_, gate| Arc::strong_count(gate) > 1);
        let gate = Arc::default();
        self.0.insert(endpoint.to_owned(), Arc::clone(&gate));
        gate
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn thousand_logins_are_spread_over_time() {
        let gate = Arc::new(LoginGate::default());
        let began = Instant::now();
        let mut logins = JoinSet::new();
        for _ in 0..1000 {
            let gate = Arc::clone(&gate);
            logins.spawn(async move {
                let permit = gate.acquire().await;
                let started = began.elapsed();
                sleep(Duration::from_millis(300)).await;
                drop(permit);
                started
            });
        }
        let mut started = logins.join_all().await;
        started.sort_unstable();
        for pair in started.windows(PER_SECOND.get() as usize * 2) {
            assert!(pair[pair.len() - 1] - pair[0] >= Duration::from_millis(900));
        }
        let last = *started.last().unwrap();
        assert!((18..=21).contains(&last.as_secs()), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn endpoint_that_hangs_delays_only_its_own_logins() {
        let mut gates = LoginGates::default();
        let url = |host: &str| format!("https://{host}/tokens").parse().unwrap();
        let hanging = gates.of(&url("a.example"));
        let mut permits = Vec::new();
        for _ in 0..MAX_CONCURRENT {
            permits.push(hanging.acquire().await);
        }
        let same = gates.of(&url("a.example"));
        let wait = tokio::time::timeout(Duration::from_secs(60), same.acquire());
        assert!(wait.await.is_err());
        assert!(gates.of(&url("b.example")).acquire().await.is_some());
    }
}
