//! When to log in. Pure: the caller passes in the time and the chance.

use std::time::Duration;

use super::outcome::Outcome;

/// The most that is taken off a token's life, so that none dies on its way to Citrix.
const MARGIN: Duration = Duration::from_secs(60);
/// The least time between scheduled logins.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// How much of the planned time chance may take off, so that replicas do not march in step.
const REFRESH_JITTER: f64 = 0.1;
/// How much chance may add to or take off a pause.
const PAUSE_JITTER: f64 = 0.2;
/// How much chance may add to a pause that was asked for.
const HINT_JITTER: f64 = 0.1;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE_WITHOUT_TOKEN: Duration = Duration::from_secs(15);
const LONGEST_PAUSE_WITH_TOKEN: Duration = Duration::from_secs(60);
const FIRST_RATE_LIMIT_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_RATE_LIMIT_PAUSE: Duration = Duration::from_secs(90);
/// A hint beyond this is not believed: it would take the gateway out of service for the day.
const LONGEST_HINT: Duration = Duration::from_secs(3600);

/// The part of a token's life in which it is sent: the life less a tenth of it, a minute at most.
pub fn usable_lifetime(life: Duration) -> Duration {
    life - MARGIN.min(life / 10)
}

/// How long after a token was asked for the next one is due: `refresh_at` of the usable life, less up to a
/// tenth by `chance` (0 to 1), and at least a second.
pub fn refresh_after(life: Duration, refresh_at: f64, chance: f64) -> Duration {
    let planned = usable_lifetime(life).mul_f64(refresh_at.clamp(0.0, 1.0));
    let jitter = planned.mul_f64(REFRESH_JITTER * chance.clamp(0.0, 1.0));
    (planned - jitter).max(LEAST_INTERVAL)
}

/// Logins that failed since the last that worked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// All of them.
    pub consecutive: u32,
    /// How many of the latest were all refused by a rate limit; 0 after any other failure.
    pub rate_limited: u32,
}

impl Failures {
    /// One more.
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

    /// How long to wait before the next login.
    ///
    /// `usable_for` is how long the present token can still be sent, if there is one: it allows longer pauses,
    /// but none that lasts past its end. `hint` is what the answer asked for; it is kept to (never earlier, a little
    /// later by chance): a 429's up to an hour, a 503's up to a minute and a half.
    pub fn backoff(
        self,
        usable_for: Option<Duration>,
        hint: Option<Duration>,
        chance: f64,
    ) -> Duration {
        let chance = chance.clamp(0.0, 1.0);
        let hinted = |longest| {
            let hint = hint?.clamp(FIRST_PAUSE, longest);
            Some(hint.mul_f64(1.0 + chance * HINT_JITTER))
        };
        if self.rate_limited > 0 {
            return hinted(LONGEST_HINT).unwrap_or_else(|| {
                doubled(
                    FIRST_RATE_LIMIT_PAUSE,
                    LONGEST_RATE_LIMIT_PAUSE,
                    self.rate_limited,
                    chance,
                )
            });
        }
        let short = doubled(
            FIRST_PAUSE,
            LONGEST_PAUSE_WITHOUT_TOKEN,
            self.consecutive,
            chance,
        );
        let pause = match usable_for {
            Some(left) => doubled(
                FIRST_PAUSE,
                LONGEST_PAUSE_WITH_TOKEN,
                self.consecutive,
                chance,
            )
            .min(left.max(short)),
            None => short,
        };
        // An outage ends sooner or later than it says, so it is believed for as long as a rate limit is at most.
        hinted(LONGEST_RATE_LIMIT_PAUSE).map_or(pause, |hinted| hinted.max(pause))
    }
}

/// `first`, doubled with each failure after the first, ±20 %. The ceiling holds with the jitter on top of it,
/// and the jitter is as wide at the ceiling as below.
fn doubled(first: Duration, longest: Duration, failures: u32, chance: f64) -> Duration {
    // 2^16 s is beyond every ceiling.
    let doublings = failures.saturating_sub(1).min(16);
    let middle = (first * (1 << doublings)).min(longest.div_f64(1.0 + PAUSE_JITTER));
    middle
        .mul_f64(1.0 - PAUSE_JITTER + 2.0 * PAUSE_JITTER * chance)
        .min(longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn usable_life_is_the_life_less_a_tenth_or_a_minute() {
        for (life, usable) in [
            (2.0, 1.8),
            (60.0, 54.0),
            (600.0, 540.0),
            (3600.0, 3540.0),
            (86_400.0, 86_340.0),
        ] {
            assert_eq!(usable_lifetime(secs(life)), secs(usable), "{life}");
        }
    }

    #[test]
    fn refresh_is_a_part_of_the_usable_life() {
        let check = |life, refresh_at, chance, expected: f64| {
            let after = refresh_after(secs(life), refresh_at, chance).as_secs_f64();
            assert!(
                (after - expected).abs() < 1e-6,
                "{life} {refresh_at} {chance}: {after}"
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
    fn pauses_double_to_their_ceilings() {
        let middle = |with_token: bool| -> Vec<f64> {
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
        assert_eq!(middle(false), [1.0, 2.0, 4.0, 8.0, 12.5, 12.5, 12.5, 12.5]);
        assert_eq!(middle(true), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 50.0, 50.0]);
    }

    #[test]
    fn a_rate_limit_is_given_time() {
        let pause = |rate_limited, hint, chance| {
            Failures {
                consecutive: rate_limited,
                rate_limited,
            }
            .backoff(None, hint, chance)
        };
        assert_eq!(
            (1..7)
                .map(|n| pause(n, None, 0.5).as_secs())
                .collect::<Vec<_>>(),
            [10, 20, 40, 75, 75, 75]
        );
        assert_eq!(pause(1, Some(secs(30.0)), 0.0), secs(30.0));
        assert_eq!(pause(9, Some(secs(30.0)), 1.0), secs(33.0));
        assert_eq!(pause(1, Some(secs(0.0)), 0.0), secs(1.0));
        assert_eq!(pause(1, Some(Duration::MAX), 0.0), secs(3600.0));
    }

    #[test]
    fn an_outage_that_names_its_end_is_believed_for_a_while() {
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
            "never sooner than without it"
        );
    }

    #[test]
    fn another_failure_ends_the_count_of_rate_limits() {
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
    fn a_pause_does_not_outlast_the_token() {
        let failures = Failures {
            consecutive: 9,
            rate_limited: 0,
        };
        assert_eq!(failures.backoff(Some(secs(30.0)), None, 0.5), secs(30.0));
        assert_eq!(
            failures.backoff(Some(secs(0.5)), None, 0.5),
            secs(12.5),
            "but it is still a pause"
        );
    }

    proptest! {
        #[test]
        fn a_token_is_usable_at_its_planned_refresh(
            millis in 2_000_u64..86_400_000, refresh_at in 0.1_f64..=0.95, chance in 0.0_f64..=1.0,
        ) {
            let life = Duration::from_millis(millis);
            let after = refresh_after(life, refresh_at, chance);
            prop_assert!(after < usable_lifetime(life));
            prop_assert!(usable_lifetime(life) < life);
            prop_assert!(after >= LEAST_INTERVAL);
        }

        #[test]
        fn jitter_takes_at_most_a_tenth(
            millis in 20_000_u64..86_400_000, refresh_at in 0.1_f64..=0.95, chance in 0.0_f64..=1.0,
        ) {
            let life = Duration::from_millis(millis);
            let latest = refresh_after(life, refresh_at, 0.0);
            let after = refresh_after(life, refresh_at, chance);
            prop_assert!(after <= latest && after.as_secs_f64() >= latest.as_secs_f64() * 0.9 - 1e-6);
        }

        #[test]
        fn pauses_grow_are_capped_and_jittered(
            consecutive in 1_u32..=u32::MAX - 1, with_token: bool, rate_limited: bool, chance in 0.0_f64..=1.0,
        ) {
            let usable = with_token.then_some(Duration::from_secs(86_400));
            let ceiling = match (rate_limited, with_token) {
                (true, _) => LONGEST_RATE_LIMIT_PAUSE,
                (false, true) => LONGEST_PAUSE_WITH_TOKEN,
                (false, false) => LONGEST_PAUSE_WITHOUT_TOKEN,
            };
            let failures = |n| Failures { consecutive: n, rate_limited: if rate_limited { n } else { 0 } };
            let pause = failures(consecutive).backoff(usable, None, chance);
            prop_assert!(pause <= ceiling);
            prop_assert!(pause >= Duration::from_millis(800));
            prop_assert!(failures(consecutive + 1).backoff(usable, None, chance) >= pause);
            let middle = failures(consecutive).backoff(usable, None, 0.5).as_secs_f64();
            prop_assert!((pause.as_secs_f64() - middle).abs() <= middle * 0.2 + 1e-6);
            prop_assert_eq!(failures(consecutive).backoff(usable, None, 1.0) > failures(consecutive).backoff(usable, None, 0.0), true);
        }

        #[test]
        fn without_a_token_retries_come_no_slower(
            consecutive in 1_u32..=u32::MAX, left in 0_u64..100_000, chance in 0.0_f64..=1.0,
        ) {
            let failures = Failures { consecutive, rate_limited: 0 };
            let left = Duration::from_secs(left);
            prop_assert!(failures.backoff(None, None, chance) <= failures.backoff(Some(left), None, chance));
        }

        #[test]
        fn a_hint_is_never_undercut(seconds in 1_u64..3600, chance in 0.0_f64..=1.0) {
            let hint = Duration::from_secs(seconds);
            let pause = Failures { consecutive: 1, rate_limited: 1 }.backoff(None, Some(hint), chance);
            prop_assert!(pause >= hint && pause.as_secs_f64() <= hint.as_secs_f64() * 1.1 + 1e-6);
        }
    }
}
