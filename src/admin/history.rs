//! What was counted some minutes ago, so that rates and latencies of the last minutes can be told at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::observe::metrics::Totals;

/// How often the counts are noted.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// How far back is remembered.
pub(super) const REACH: Duration = Duration::from_mins(5);
/// Enough for [`REACH`], and one that is older.
const NOTES: usize = 32;

/// The counts of the last minutes.
pub(super) struct History(Mutex<VecDeque<(Instant, Arc<Totals>)>>);

impl History {
    /// Nothing was counted before `start`.
    pub(super) fn new(start: Instant) -> Self {
        Self(Mutex::new(VecDeque::from([(start, Arc::default())])))
    }

    /// Notes what was counted up to `now`.
    pub(super) fn note(&self, now: Instant, totals: Totals) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == NOTES {
            notes.pop_front();
        }
        notes.push_back((now, Arc::new(totals)));
    }

    /// What was counted `age` ago, or a little before that, and when exactly; the oldest that is known in a young
    /// program.
    pub(super) fn before(&self, now: Instant, age: Duration) -> (Duration, Arc<Totals>) {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |at: Instant| now.saturating_duration_since(at);
        let old = notes
            .iter()
            .rev()
            .find(|(at, _)| since(*at) >= age)
            .or_else(|| notes.front());
        old.map(|(at, totals)| (since(*at), Arc::clone(totals)))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(requests: u64) -> Totals {
        let mut totals = Totals::default();
        totals.callers.insert("a".to_owned(), requests);
        totals
    }

    #[tokio::test(start_paused = true)]
    async fn the_counts_of_some_minutes_ago_are_at_hand_and_no_older_ones_are_kept() {
        let history = History::new(Instant::now());
        let before = |age: Duration| {
            let (exactly, totals) = history.before(Instant::now(), age);
            (
                exactly.as_secs(),
                totals.callers.get("a").copied().unwrap_or_default(),
            )
        };
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(
            before(REACH),
            (3, 0),
            "nothing was counted before the start"
        );
        for number in 1..=200 {
            history.note(Instant::now(), counted(number));
            tokio::time::advance(INTERVAL).await;
        }
        assert_eq!(before(Duration::from_secs(60)), (60, 195));
        assert_eq!(before(REACH), (300, 171));
        assert_eq!(history.0.lock().unwrap().len(), NOTES);
    }
}
