//! Counts of the last minutes, from which the status page derives rates and latencies.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::observe::metrics::Totals;

/// Time between two samples.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// Age of the oldest sample that is used.
pub(super) const MAX_AGE: Duration = Duration::from_mins(5);
/// Enough samples for [`MAX_AGE`], and an older one.
const MAX_SAMPLES: usize = 32;

/// Samples of the counts, the oldest first.
pub(super) struct History(Mutex<VecDeque<(Instant, Arc<Totals>)>>);

impl History {
    /// Starts with a sample of zeros.
    pub(super) fn new(start: Instant) -> Self {
        Self(Mutex::new(VecDeque::from([(start, Arc::default())])))
    }

    pub(super) fn add(&self, now: Instant, totals: Arc<Totals>) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == MAX_SAMPLES {
            samples.pop_front();
        }
        samples.push_back((now, totals));
    }

    /// Returns the newest sample that is at least `age` old, else the oldest one, with its exact
    /// age.
    pub(super) fn before(&self, now: Instant, age: Duration) -> (Duration, Arc<Totals>) {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |at: Instant| now.saturating_duration_since(at);
        let old = samples
            .iter()
            .rev()
            .find(|(at, _)| since(*at) >= age)
            .or_else(|| samples.front());
        old.map(|(at, totals)| (since(*at), Arc::clone(totals)))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(requests: u64) -> Arc<Totals> {
        let mut totals = Totals::default();
        totals.would_deny.insert("a".to_owned(), requests);
        Arc::new(totals)
    }

    #[tokio::test(start_paused = true)]
    async fn before_returns_the_sample_of_that_age_and_old_samples_are_dropped() {
        let history = History::new(Instant::now());
        let before = |age: Duration| {
            let (exact_age, totals) = history.before(Instant::now(), age);
            (
                exact_age.as_secs(),
                totals.would_deny.get("a").copied().unwrap_or_default(),
            )
        };
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(before(MAX_AGE), (3, 0), "the first sample is of the start");
        for number in 1..=200 {
            history.add(Instant::now(), totals(number));
            tokio::time::advance(INTERVAL).await;
        }
        assert_eq!(before(Duration::from_secs(60)), (60, 195));
        assert_eq!(before(MAX_AGE), (300, 171));
        assert_eq!(history.0.lock().unwrap().len(), MAX_SAMPLES);
    }
}
