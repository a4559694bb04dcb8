//! Schedule of logins: refresh time and backoff. Pure: the caller supplies times and random
//! numbers.

use std::time::Duration;

use super::outcome::Outcome;

/// Largest safety margin before the expiry, so that no token expires on its way to Citrix.
const MAX_MARGIN: Duration = Duration::from_secs(60);
/// Minimum time between scheduled logins.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Share of the refresh time that jitter may subtract, so that replicas do not log in together.
const REFRESH_JITTER: f64 = 0.1;
/// Share of a backoff that jitter may add or subtract.
const BACKOFF_JITTER: f64 = 0.2;
/// Share of a requested wait that jitter may add.
const RETRY_AFTER_JITTER: f64 = 0.1;
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF_WITHOUT_TOKEN: Duration = Duration::from_secs(15);
const MAX_BACKOFF_WITH_TOKEN: Duration = Duration::from_secs(60);
const MIN_RATE_LIMIT_BACKOFF: Duration = Duration::from_secs(10);
const MAX_RATE_LIMIT_BACKOFF: Duration = Duration::from_secs(90);
/// Longest wait accepted from a 429.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Returns the time for which a token is sent: its lifetime minus 10 %, at most a minute.
pub fn usable_lifetime(lifetime: Duration) -> Duration {
    lifetime - MAX_MARGIN.min(lifetime / 10)
}

/// Returns the time from one login to the scheduled next: `refresh_at` of the usable lifetime,
/// minus up to 10 % by `random` (0 to 1), at least a second.
pub fn refresh_after(lifetime: Duration, refresh_at: f64, random: f64) -> Duration {
    let planned = usable_lifetime(lifetime).mul_f64(refresh_at.clamp(0.0, 1.0));
    let jitter = planned.mul_f64(REFRESH_JITTER * random.clamp(0.0, 1.0));
    (planned - jitter).max(MIN_INTERVAL)
}

/// Failed logins since the last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    pub consecutive: u32,
    /// Number of trailing failures by a rate limit; 0 after any other failure.
    pub rate_limited: u32,
}

impl Failures {
    /// Returns the count with one more failure.
    #[must_use]
    pub const fn with(self, outcome: Outcome) -> Self {
        Self {
            consecutive: self.consecutive.saturating_add(1),
            rate_limited: match outcome {
                Outcome::RateLimited => self.rate_limited.saturating_add(1),
                _ => 0,
            },
        }
    }

    /// Returns the wait before the next login.
    ///
    /// `usable_for` is the remaining lifetime of a usable token: it permits a longer backoff, which
    /// ends with the token at the latest. `retry_after` is the wait that the response requested: a
    /// 429's is respected up to an hour, a 503's up to 90 s, never shortened and slightly
    /// lengthened by jitter. Waits grow although each 429 requests the same short one.
    pub fn backoff(
        self,
        usable_for: Option<Duration>,
        retry_after: Option<Duration>,
        random: f64,
    ) -> Duration {
        let random = random.clamp(0.0, 1.0);
        let requested = |max| {
            let wait = retry_after?.clamp(MIN_BACKOFF, max);
            Some(wait.mul_f64(1.0 + random * RETRY_AFTER_JITTER))
        };
        let short = exponential(
            MIN_BACKOFF,
            MAX_BACKOFF_WITHOUT_TOKEN,
            self.consecutive,
            random,
        );
        if self.rate_limited > 0 {
            return match requested(MAX_RETRY_AFTER) {
                Some(requested) if self.rate_limited == 1 => requested,
                // The one before was too short.
                Some(requested) => requested.max(short),
                None => exponential(
                    MIN_RATE_LIMIT_BACKOFF,
                    MAX_RATE_LIMIT_BACKOFF,
                    self.rate_limited,
                    random,
                ),
            };
        }
        let backoff = match usable_for {
            Some(left) => exponential(
                MIN_BACKOFF,
                MAX_BACKOFF_WITH_TOKEN,
                self.consecutive,
                random,
            )
            .min(left.max(short)),
            None => short,
        };
        // The announced end of an outage is an estimate, hence the lower limit.
        requested(MAX_RATE_LIMIT_BACKOFF).map_or(backoff, |requested| requested.max(backoff))
    }
}

/// Returns `min`, doubled with each failure after the first, ±20 %. `max` includes the jitter,
/// which keeps its full width there.
fn exponential(min: Duration, max: Duration, failures: u32, random: f64) -> Duration {
    // 2^16 s exceeds every maximum.
    let doublings = failures.saturating_sub(1).min(16);
    let mean = (min * (1 << doublings)).min(max.div_f64(1.0 + BACKOFF_JITTER));
    mean.mul_f64(1.0 - BACKOFF_JITTER + 2.0 * BACKOFF_JITTER * random)
        .min(max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn usable_lifetime_is_shortened_by_a_tenth_or_a_minute() {
        for (lifetime, usable) in [
            (2.0, 1.8),
            (60.0, 54.0),
            (600.0, 540.0),
            (3600.0, 3540.0),
            (86_400.0, 86_340.0),
        ] {
            assert_eq!(usable_lifetime(secs(lifetime)), secs(usable), "{lifetime}");
        }
    }

    #[test]
    fn refresh_is_a_share_of_the_usable_lifetime() {
        let check = |lifetime, refresh_at, random, expected: f64| {
            let after = refresh_after(secs(lifetime), refresh_at, random).as_secs_f64();
            assert!(
                (after - expected).abs() < 1e-6,
                "{lifetime} {refresh_at} {random}: {after}"
            );
        };
        check(3600.0, 0.75, 0.0, 2655.0);
        check(3600.0, 0.75, 1.0, 2389.5);
        check(86_400.0, 0.75, 0.0, 64_755.0);
        check(2.0, 0.75, 0.0, 1.35);
        check(2.0, 0.1, 0.0, 1.0);
        check(60.0, 0.5, 0.5, 25.65);
    }

    #[test]
    fn backoff_doubles_up_to_its_maximum() {
        let mean = |with_token: bool| -> Vec<f64> {
            let usable = with_token.then_some(Duration::from_secs(86_400));
            (1..9)
                .map(|n| {
                    Failures {
                        consecutive: n,
                        rate_limited: 0,
                    }
                    .backoff(usable, None, 0.5)
                    .as_secs_f64()
                })
                .collect()
        };
        assert_eq!(mean(false), [1.0, 2.0, 4.0, 8.0, 12.5, 12.5, 12.5, 12.5]);
        assert_eq!(mean(true), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 50.0, 50.0]);
    }

    #[test]
    fn rate_limit_backoff_follows_retry_after() {
        let backoff = |rate_limited, retry_after, random| {
            Failures {
                consecutive: rate_limited,
                rate_limited,
            }
            .backoff(None, retry_after, random)
        };
        assert_eq!(
            (1..7)
                .map(|n| backoff(n, None, 0.5).as_secs())
                .collect::<Vec<_>>(),
            [10, 20, 40, 75, 75, 75]
        );
        assert_eq!(backoff(1, Some(secs(30.0)), 0.0), secs(30.0));
        assert_eq!(backoff(9, Some(secs(30.0)), 1.0), secs(33.0));
        assert_eq!(backoff(1, Some(secs(0.0)), 0.0), secs(1.0));
        assert_eq!(backoff(1, Some(Duration::MAX), 0.0), secs(3600.0));
    }

    #[test]
    fn repeated_429s_with_a_short_retry_after_are_spaced_like_other_failures() {
        let waits = (1..7).map(|count| {
            let failures = Failures {
                consecutive: count,
                rate_limited: count,
            };
            let backoff = failures.backoff(None, Some(secs(2.0)), 0.5);
            backoff.as_secs_f64()
        });
        assert_eq!(waits.collect::<Vec<_>>(), [2.1, 2.1, 4.0, 8.0, 12.5, 12.5]);
    }

    #[test]
    fn retry_after_of_a_503_is_respected_up_to_its_limit() {
        let failures = Failures {
            consecutive: 1,
            rate_limited: 0,
        };
        assert_eq!(failures.backoff(None, Some(secs(30.0)), 0.0), secs(30.0));
        assert_eq!(
            failures.backoff(Some(secs(600.0)), Some(secs(30.0)), 1.0),
            secs(33.0)
        );
        assert_eq!(failures.backoff(None, Some(secs(7200.0)), 0.0), secs(90.0));
        let failures = Failures {
            consecutive: 9,
            rate_limited: 0,
        };
        assert_eq!(
            failures.backoff(None, Some(secs(2.0)), 0.5),
            secs(12.5),
            "never shorter than without it"
        );
    }

    #[test]
    fn other_failure_resets_the_count_of_rate_limits() {
        let failures = Failures::default()
            .with(Outcome::RateLimited)
            .with(Outcome::RateLimited);
        assert_eq!(
            failures,
            Failures {
                consecutive: 2,
                rate_limited: 2
            }
        );
        assert_eq!(
            failures.with(Outcome::Http5xx),
            Failures {
                consecutive: 3,
                rate_limited: 0
            }
        );
    }

    #[test]
    fn backoff_ends_with_the_token() {
        let failures = Failures {
            consecutive: 9,
            rate_limited: 0,
        };
        assert_eq!(failures.backoff(Some(secs(30.0)), None, 0.5), secs(30.0));
        assert_eq!(
            failures.backoff(Some(secs(0.5)), None, 0.5),
            secs(12.5),
            "but not below the backoff without a token"
        );
    }

    proptest! {
        #[test]
        fn token_is_usable_at_its_scheduled_refresh(
            millis in 2_000_u64..86_400_000, refresh_at in 0.1_f64..=0.95, random in 0.0_f64..=1.0,
        ) {
            let lifetime = Duration::from_millis(millis);
            let after = refresh_after(lifetime, refresh_at, random);
            prop_assert!(after < usable_lifetime(lifetime));
            prop_assert!(usable_lifetime(lifetime) < lifetime);
            prop_assert!(after >= MIN_INTERVAL);
        }

        #[test]
        fn jitter_subtracts_at_most_a_tenth(
            millis in 20_000_u64..86_400_000, refresh_at in 0.1_f64..=0.95, random in 0.0_f64..=1.0,
        ) {
            let lifetime = Duration::from_millis(millis);
            let latest = refresh_after(lifetime, refresh_at, 0.0);
            let after = refresh_after(lifetime, refresh_at, random);
            prop_assert!(after <= latest && after.as_secs_f64() >= latest.as_secs_f64() * 0.9 - 1e-6);
        }

        #[test]
        fn backoff_grows_is_capped_and_jittered(
            consecutive in 1_u32..=u32::MAX - 1, with_token: bool, rate_limited: bool, random in 0.0_f64..=1.0,
        ) {
            let usable = with_token.then_some(Duration::from_secs(86_400));
            let ceiling = match (rate_limited, with_token) {
                (true, _) => MAX_RATE_LIMIT_BACKOFF,
                (false, true) => MAX_BACKOFF_WITH_TOKEN,
                (false, false) => MAX_BACKOFF_WITHOUT_TOKEN,
            };
            let failures = |n| Failures { consecutive: n, rate_limited: if rate_limited { n } else { 0 } };
            let backoff = failures(consecutive).backoff(usable, None, random);
            prop_assert!(backoff <= ceiling);
            prop_assert!(backoff >= Duration::from_millis(800));
            prop_assert!(failures(consecutive + 1).backoff(usable, None, random) >= backoff);
            let mean = failures(consecutive).backoff(usable, None, 0.5).as_secs_f64();
            prop_assert!((backoff.as_secs_f64() - mean).abs() <= mean * 0.2 + 1e-6);
            prop_assert_eq!(failures(consecutive).backoff(usable, None, 1.0) > failures(consecutive).backoff(usable, None, 0.0), true);
        }

        #[test]
        fn backoff_without_a_token_is_never_longer(
            consecutive in 1_u32..=u32::MAX, left in 0_u64..100_000, random in 0.0_f64..=1.0,
        ) {
            let failures = Failures { consecutive, rate_limited: 0 };
            let left = Duration::from_secs(left);
            prop_assert!(failures.backoff(None, None, random) <= failures.backoff(Some(left), None, random));
        }

        #[test]
        fn retry_after_is_never_shortened(seconds in 1_u64..3600, random in 0.0_f64..=1.0) {
            let retry_after = Duration::from_secs(seconds);
            let backoff = Failures { consecutive: 1, rate_limited: 1 }.backoff(None, Some(retry_after), random);
            prop_assert!(backoff >= retry_after && backoff.as_secs_f64() <= retry_after.as_secs_f64() * 1.1 + 1e-6);
        }
    }
}
