//! Delays responses to bad secrets, by address. A request with a valid secret is never delayed,
//! whatever else arrives from its address: the throttle applies only once a secret is known to be
//! bad.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::time::{Instant, sleep};

use crate::limit::owner::client_host;
use crate::limit::permits::PermitCounter;

/// Number of counters. Addresses that share one delay each other's bad secrets, which is harmless:
/// memory is constant and nothing has to be evicted.
const COUNTERS: u64 = 8192;
/// Maximum number of delayed responses. One more is sent at once: to hold it would cost more than
/// it deters.
const MAX_DELAYED: usize = 1024;
/// Delay after the first bad secret; the n-th is delayed n² times as long, the tenth by a second.
const STEP: Duration = Duration::from_millis(10);
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Seconds without a bad secret after which a counter drops by one.
const DECAY_INTERVAL: u64 = 30;
/// Maximum of a counter, beyond which the delay is [`MAX_DELAY`] anyway.
const MAX_COUNT: u64 = 64;

/// The throttle for bad secrets, for all workers.
pub struct AuthThrottle {
    hasher: RandomState,
    /// The second of the last bad secret in the upper half, the count in the lower.
    counters: Box<[AtomicU64]>,
    began: Instant,
    delayed: Arc<PermitCounter>,
    late: IntCounter,
    at_once: IntCounter,
}

impl AuthThrottle {
    /// Registers the metric.
    ///
    /// # Errors
    /// If the metric is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Requests with a bad secret, by whether the response was delayed.";
        let options = Opts::new("citrix_auth_proxy_wrong_secrets_total", help);
        let counters = IntCounterVec::new(options, &["answered"])?;
        registry.register(Box::new(counters.clone()))?;
        Ok(Self {
            hasher: RandomState::new(),
            counters: (0..COUNTERS).map(|_| AtomicU64::default()).collect(),
            began: Instant::now(),
            delayed: Arc::default(),
            late: counters.with_label_values(&["late"]),
            at_once: counters.with_label_values(&["at_once"]),
        })
    }

    /// Counts a bad secret from `address` (`None` on a Unix socket) and returns when the response
    /// may be sent.
    pub async fn delay(&self, address: Option<IpAddr>) {
        let delay = self.count(address);
        let Some(_permit) = self.delayed.acquire(MAX_DELAYED) else {
            self.at_once.inc();
            return;
        };
        self.late.inc();
        sleep(delay).await;
    }

    /// Counts a bad secret and returns its delay.
    fn count(&self, address: Option<IpAddr>) -> Duration {
        let now = self.began.elapsed().as_secs();
        let counted = |before: u64| {
            let (last, count) = (before >> 32, before & u64::from(u32::MAX));
            let count = count.saturating_sub(now.saturating_sub(last) / DECAY_INTERVAL) + 1;
            now << 32 | count.min(MAX_COUNT)
        };
        let index = self.hasher.hash_one(address.map(client_host)) % COUNTERS;
        let counter = usize::try_from(index)
            .ok()
            .and_then(|index| self.counters.get(index));
        let before = counter.map_or(Ok(0), |counter| {
            counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
                Some(counted(before))
            })
        });
        // The update never fails: its closure always returns a value.
        let after = counted(before.unwrap_or_else(|before| before));
        let count = u32::try_from(after & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        STEP.saturating_mul(count.saturating_mul(count))
            .min(MAX_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    const ADDRESS: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    fn throttle() -> AuthThrottle {
        AuthThrottle::new(&Registry::new()).unwrap()
    }

    /// Returns the delay of one bad secret in milliseconds.
    async fn delay(throttle: &AuthThrottle) -> u128 {
        let began = Instant::now();
        throttle.delay(ADDRESS).await;
        began.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn each_bad_secret_is_delayed_longer_up_to_a_maximum() {
        let throttle = throttle();
        let mut delays = Vec::new();
        for _ in 0..40 {
            delays.push(delay(&throttle).await);
        }
        assert_eq!(delays[..4], [10, 40, 90, 160]);
        assert_eq!(delays[9], 1000);
        assert!(delays.is_sorted() && delays[39] == 5000, "{delays:?}");
        assert_eq!((throttle.late.get(), throttle.at_once.get()), (40, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn count_of_an_address_decays_step_by_step() {
        let throttle = throttle();
        for _ in 0..3 {
            delay(&throttle).await;
        }
        tokio::time::advance(Duration::from_secs(DECAY_INTERVAL * 2 + 1)).await;
        assert_eq!(delay(&throttle).await, 40);
        tokio::time::advance(Duration::from_hours(100)).await;
        assert_eq!(delay(&throttle).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_bad_secrets_are_counted_together() {
        let throttle = throttle();
        let mut delays = join_all((0..40).map(|_| delay(&throttle))).await;
        delays.sort_unstable();
        assert_eq!((delays[0], delays[39]), (10, 5000));
    }

    #[tokio::test(start_paused = true)]
    async fn response_beyond_the_maximum_is_sent_at_once() {
        let throttle = throttle();
        join_all((0..MAX_DELAYED + 10).map(|_| throttle.delay(ADDRESS))).await;
        assert_eq!(throttle.at_once.get(), 10);
        assert_eq!(throttle.delayed.in_use(), 0);
        // A caller that disconnects releases its permit.
        drop(tokio::time::timeout(Duration::from_millis(1), throttle.delay(ADDRESS)).await);
        assert_eq!(throttle.delayed.in_use(), 0);
    }

    #[test]
    fn client_is_an_ipv4_address_or_an_ipv6_64() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:0:0:1", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            assert_eq!(
                client_host(one.parse().unwrap()) == client_host(other.parse().unwrap()),
                same,
                "{one} {other}"
            );
        }
    }
}
