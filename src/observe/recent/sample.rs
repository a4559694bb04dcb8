//! Times of the last exchanges, for the status page.

use std::time::Duration;

use tokio::time::Instant;

use super::text::BoundedText;
use super::{Recent, Record};

/// Exchanges that are sampled at once, over all workers.
const MAX_SAMPLED: usize = 1024;
/// Minimum of this number in one worker.
const MIN_PER_WORKER: usize = 16;

/// Times of one exchange.
#[derive(Clone, Copy)]
pub struct Sample {
    pub(crate) route: BoundedText<64>,
    pub(crate) caller: BoundedText<64>,
    pub(crate) waited: Duration,
    /// The gateway's own time and Citrix's, if Citrix responded.
    pub(crate) responded: Option<(Duration, Duration)>,
}

impl Sample {
    fn of(record: &Record) -> Self {
        let has_response = record.attempts > 0 && record.reason.is_none();
        Self {
            route: record.route,
            caller: record.caller,
            waited: record.waited,
            responded: has_response.then_some((record.gateway, record.upstream)),
        }
    }
}

impl Recent {
    /// Returns exchanges that ended after `since`: the last ones, in all about a thousand. A worker
    /// waits only while its part is copied.
    pub(crate) fn sample(&self, since: Instant) -> Vec<Sample> {
        let share = (MAX_SAMPLED / self.workers.len()).max(MIN_PER_WORKER);
        let mut samples = Vec::with_capacity(share * self.workers.len());
        for worker in &self.workers {
            let records = worker.records();
            let newest = records.all.newest_first().take(share);
            let ended_since = |record: &&Record| {
                record
                    .began
                    .is_some_and(|began| began + record.total > since)
            };
            samples.extend(newest.take_while(ended_since).map(Sample::of));
        }
        samples
    }
}
