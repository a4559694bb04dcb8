//! The wait between permits of a replica that acts alone.

use std::time::Duration;

/// Returns how long a replica that acts alone waits after a permit that it held for `length`, so
/// that the others get theirs: as long as one of each of them takes, ±50 %, at most a third of the
/// longest wait. `jitter` is in 0..1.
pub fn spacing(replicas: u32, length: Duration, timeout: Duration, jitter: f64) -> Duration {
    let others = f64::from(replicas.saturating_sub(1));
    let wait = length.as_secs_f64() * others * (0.5 + jitter.clamp(0.0, 1.0));
    Duration::try_from_secs_f64(wait)
        .unwrap_or(Duration::MAX)
        .min(timeout / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_that_of_all_others_with_jitter_and_a_bound() {
        let [second, minute] = [1, 60].map(Duration::from_secs);
        for (replicas, jitter, expected) in [
            (0, 0.5, 0),
            (1, 0.5, 0),
            (2, 0.5, 1000),
            (3, 0.0, 1000),
            (3, 1.0, 3000),
            (50, 0.5, 20_000),
            (u32::MAX, 1.0, 20_000),
        ] {
            let wait = spacing(replicas, second, minute, jitter);
            assert_eq!(wait.as_millis(), expected, "{replicas} {jitter}");
        }
    }
}
