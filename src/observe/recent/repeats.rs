//! Failures, or rejections, by kind: each has one record, of its last exchange, so that a flood of
//! one kind does not evict the others.

use tokio::time::Instant;

use super::Record;
use crate::observe::summary::ExchangeSummary;

/// Kinds that a worker keeps. A new one then evicts the least recent.
const MAX_KINDS: usize = 64;

/// The exchanges of one kind: with the same outcome, route, caller and customer.
#[derive(Clone)]
pub struct Repeats {
    /// The last of them.
    pub(crate) last: Record,
    /// Start of the first.
    pub(crate) first: Option<Instant>,
    pub(crate) count: u64,
}

impl Repeats {
    fn is_kind_of(&self, other: &Record) -> bool {
        let last = &self.last;
        (last.status, last.reason, last.end) == (other.status, other.reason, other.end)
            && last.route == other.route
            && last.caller == other.caller
            && last.customer == other.customer
    }
}

/// Counts an exchange. `record` is that of `summary`.
pub(super) fn count_repeat(
    known: &mut Vec<Repeats>,
    record: &Record,
    summary: &ExchangeSummary<'_>,
) {
    if let Some(same) = known.iter_mut().find(|known| known.is_kind_of(record)) {
        same.count += 1;
        // Unlike a clone, it allocates nothing.
        return same.last.set(summary);
    }
    let new = Repeats {
        last: record.clone(),
        first: record.began,
        count: 1,
    };
    if known.len() < MAX_KINDS {
        return known.push(new);
    }
    if let Some(oldest) = known.iter_mut().min_by_key(|known| known.last.began) {
        *oldest = new;
    }
}

/// Adds the repeats of another worker.
pub(super) fn add_repeats(sum: &mut Vec<Repeats>, one: &Repeats) {
    let Some(known) = sum.iter_mut().find(|known| known.is_kind_of(&one.last)) else {
        return sum.push(one.clone());
    };
    known.count += one.count;
    known.first = known.first.min(one.first);
    if one.last.began > known.last.began {
        known.last = one.last.clone();
    }
}
