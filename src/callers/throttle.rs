//! Wrong secrets are answered later and later, by address. Right ones are never slowed, whoever else guesses at the
//! same address: nothing here is asked before it is known that a secret is wrong.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::time::{Instant, sleep};

use crate::limit::permits::PermitCounter;

/// Counters of wrong secrets. Addresses that share one slow each other's guesses, which does not matter: there is no
/// table to fill up and nothing to forget.
const COUNTERS: u64 = 8192;
/// How many answers are held back at a time. One more goes out at once: to keep it would cost more than it hinders.
const MOST_HELD: usize = 1024;
/// The first wrong secret waits that long, the n-th n² times as long: a mistake is not noticed, the tenth waits a second.
const STEP: Duration = Duration::from_millis(10);
/// No answer waits longer.
const LONGEST: Duration = Duration::from_secs(5);
/// So long without a wrong secret, and one is forgiven.
const FORGIVEN_AFTER: u64 = 30;
/// No more are counted: what waits for the longest time anyway need not be told apart.
const MOST_COUNTED: u64 = 64;

/// What is remembered of wrong secrets, for all workers.
pub struct AuthThrottle {
    hasher: RandomState,
    /// Each with the second in which the last one came (the upper half) and how many came (the lower).
    counters: Box<[AtomicU64]>,
    began: Instant,
    held: Arc<PermitCounter>,
    slowed: IntCounter,
    at_once: IntCounter,
}

impl AuthThrottle {
    /// Nothing yet.
    ///
    /// # Errors
    /// When the registry has its metric already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Requests with a wrong secret, by whether the answer was held back.";
        let options = Opts::new("citrix_auth_proxy_wrong_secrets_total", help);
        let wrong = IntCounterVec::new(options, &["answered"])?;
        registry.register(Box::new(wrong.clone()))?;
        Ok(Self {
            hasher: RandomState::new(),
            counters: (0..COUNTERS).map(|_| AtomicU64::default()).collect(),
            began: Instant::now(),
            held: Arc::default(),
            slowed: wrong.with_label_values(&["late"]),
            at_once: wrong.with_label_values(&["at_once"]),
        })
    }

    /// Counts a wrong secret that came from `address` (none: over a unix socket), and returns when it may be answered.
    pub async fn delay(&self, address: Option<IpAddr>) {
        let delay = self.count(address);
        let Some(_place) = self.held.acquire(MOST_HELD) else {
            self.at_once.inc();
            return;
        };
        self.slowed.inc();
        sleep(delay).await;
    }

    /// Counts, and tells how long to wait.
    fn count(&self, address: Option<IpAddr>) -> Duration {
        let now = self.began.elapsed().as_secs();
        let counted = |before: u64| {
            let (last, count) = (before >> 32, before & u64::from(u32::MAX));
            let count = count.saturating_sub(now.saturating_sub(last) / FORGIVEN_AFTER) + 1;
            now << 32 | count.min(MOST_COUNTED)
        };
        let place = self.hasher.hash_one(address.map(network)) % COUNTERS;
        let counter = usize::try_from(place)
            .ok()
            .and_then(|place| self.counters.get(place));
        let before = counter.map_or(Ok(0), |counter| {
            counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
                Some(counted(before))
            })
        });
        // An update that always has a value never fails.
        let after = counted(before.unwrap_or_else(|before| before));
        let count = u32::try_from(after & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        STEP.saturating_mul(count.saturating_mul(count))
            .min(LONGEST)
    }
}

/// What one sender has: an address of IPv4, or a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    const ONE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    fn guesses() -> AuthThrottle {
        AuthThrottle::new(&Registry::new()).unwrap()
    }

    async fn waited(guesses: &AuthThrottle, address: Option<IpAddr>) -> u128 {
        let began = Instant::now();
        guesses.delay(address).await;
        began.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn each_wrong_secret_waits_longer_than_the_one_before_up_to_a_bound() {
        let guesses = guesses();
        let mut waits = Vec::new();
        for _ in 0..40 {
            waits.push(waited(&guesses, ONE).await);
        }
        assert_eq!(waits[..4], [10, 40, 90, 160]);
        assert_eq!(waits[9], 1000);
        assert!(waits.is_sorted() && waits[39] == 5000, "{waits:?}");
        assert_eq!((guesses.slowed.get(), guesses.at_once.get()), (40, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_stops_guessing_is_forgiven_step_by_step() {
        let guesses = guesses();
        for _ in 0..3 {
            waited(&guesses, ONE).await;
        }
        tokio::time::advance(Duration::from_secs(FORGIVEN_AFTER * 2 + 1)).await;
        assert_eq!(waited(&guesses, ONE).await, 40);
        tokio::time::advance(Duration::from_hours(100)).await;
        assert_eq!(waited(&guesses, ONE).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_that_come_together_are_counted_together() {
        let guesses = guesses();
        let mut waits = join_all((0..40).map(|_| waited(&guesses, ONE))).await;
        waits.sort_unstable();
        assert_eq!((waits[0], waits[39]), (10, 5000));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_held_any_more_is_answered_at_once() {
        let guesses = guesses();
        join_all((0..MOST_HELD + 10).map(|_| guesses.delay(ONE))).await;
        assert_eq!(guesses.at_once.get(), 10);
        assert_eq!(guesses.held.in_use(), 0);
        // Who leaves gives its place back.
        drop(tokio::time::timeout(Duration::from_millis(1), guesses.delay(ONE)).await);
        assert_eq!(guesses.held.in_use(), 0);
    }

    #[test]
    fn a_sender_is_an_address_or_what_one_has_of_ipv6() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:0:0:1", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            assert_eq!(
                network(one.parse().unwrap()) == network(other.parse().unwrap()),
                same,
                "{one} {other}"
            );
        }
    }
}
