//! Spaced permits: the use of a limit by a replica that knows how many others there are, but cannot
//! ask them.

use std::num::NonZeroU32;
use std::time::Duration;

/// Smallest random factor of a rest.
const MIN_FACTOR: f64 = 0.5;
/// Largest random factor of a rest.
const MAX_FACTOR: f64 = 1.5;
/// A rest takes at most this part of the queue's timeout.
const MAX_PART: u32 = 3;

/// The spacing of a limit's permits among several replicas.
///
/// After a use, a permit rests for as long as each other replica needs for a use of the same
/// length. The random factor separates replicas whose uses collided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spacing {
    others: u32,
    max: Duration,
}

impl Spacing {
    /// Returns the spacing among `replicas`, for requests that wait up to `queue_timeout`.
    pub fn new(replicas: NonZeroU32, queue_timeout: Duration) -> Self {
        Self {
            others: replicas.get() - 1,
            max: queue_timeout / MAX_PART,
        }
    }

    /// Returns the rest after a use of `length`; `random` is from 0 to 1.
    pub fn rest(self, length: Duration, random: f64) -> Duration {
        let factor = MIN_FACTOR + (MAX_FACTOR - MIN_FACTOR) * random.clamp(0.0, 1.0);
        // Bounded first: the product of a long use and many replicas overflows.
        let mean = length.saturating_mul(self.others).min(self.max * 2);
        mean.mul_f64(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spacing(replicas: u32, queue_timeout_s: u64) -> Spacing {
        Spacing::new(
            NonZeroU32::new(replicas).unwrap(),
            Duration::from_secs(queue_timeout_s),
        )
    }

    #[test]
    fn rest_is_one_use_for_each_other_replica_within_its_bounds() {
        for (replicas, queue_timeout_s, length_ms, random, rest_ms) in [
            (1, 60, 300, 0.5, 0),
            (2, 60, 300, 0.5, 300),
            (3, 60, 300, 0.0, 300),
            (3, 60, 300, 0.5, 600),
            (3, 60, 300, 1.0, 900),
            (10, 60, 1_000, 0.5, 9_000),
            (10, 60, 1_000, 1.0, 13_500),
            (50, 60, 300, 0.5, 14_700),
            // A third of the timeout at most.
            (50, 60, 1_000, 0.0, 20_000),
            (3, 3, 5_000, 0.0, 1_000),
            (3, 60, 0, 1.0, 0),
            (u32::MAX, 60, 86_400_000, 0.5, 20_000),
            // A random number out of range counts as the nearest one within.
            (3, 60, 300, 7.0, 900),
            (3, 60, 300, -1.0, 300),
        ] {
            assert_eq!(
                spacing(replicas, queue_timeout_s).rest(Duration::from_millis(length_ms), random),
                Duration::from_millis(rest_ms),
                "{replicas} {queue_timeout_s} {length_ms} {random}"
            );
        }
    }

    proptest! {
        #[test]
        fn rest_grows_with_replicas_length_and_random_number(
            replicas in 1_u32..2000, length in 0_u64..100_000, random in 0.0_f64..1.0,
        ) {
            let rest = |replicas, length, random| {
                spacing(replicas, 60).rest(Duration::from_millis(length), random)
            };
            let this = rest(replicas, length, random);
            prop_assert!(this <= Duration::from_secs(20));
            prop_assert!(rest(replicas + 1, length, random) >= this);
            prop_assert!(rest(replicas, length + 1, random) >= this);
            prop_assert!(rest(replicas, length, random + 0.01) >= this);
        }
    }
}
