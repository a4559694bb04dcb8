//! Recent exchanges for the admin listener: the last ones, the last failures and rejections, and
//! the activity of callers.
//!
//! Each worker has its own records behind its own mutex, which it holds while it writes one record;
//! the only other holder is an admin request. Records are written to reused slots, so a request
//! allocates nothing for them. Failures and rejections have separate slots, so that neither
//! successes nor a port scan evict failures.

mod repeats;
mod ring;
mod sample;
mod search;
mod text;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use crate::error::Reason;
use crate::observe::summary::{Disposition, End, ExchangeSummary};
use repeats::{add_repeats, count_repeat};
use ring::Ring;
use usage::{count_reason, count_retired};

pub use repeats::Repeats;
pub use sample::Sample;
pub use search::{Search, StatusSearch};
pub use text::BoundedText;
pub use usage::{CallerActivity, RetiredUse, RouteReasons};

/// Number of exchanges recorded by all workers together.
pub const MAX_EXCHANGES: usize = 4096;
/// Number of failures recorded by all workers together, and of rejections.
pub const MAX_FAILURES: usize = 256;
/// Minimum of these numbers in one worker.
const MIN_PER_WORKER: usize = 32;
/// Maximum length of a recorded detail or cause, in bytes.
const MAX_DETAIL: usize = 300;

/// Record of an exchange that has ended, with the values of its [`ExchangeSummary`].
#[derive(Clone, Default)]
pub struct Record {
    /// `None` only in a slot that was never used.
    pub(crate) began: Option<Instant>,
    pub(crate) total: Duration,
    pub(crate) waited: Duration,
    pub(crate) upstream: Duration,
    pub(crate) gateway: Duration,
    pub(crate) attempts: u32,
    pub(crate) request_id: BoundedText<36>,
    /// The maximum is that of an id that a caller chose.
    pub(crate) transaction_id: BoundedText<128>,
    pub(crate) citrix_ids: [BoundedText<64>; 3],
    pub(crate) method: BoundedText<16>,
    pub(crate) path: BoundedText<128>,
    pub(crate) route: BoundedText<64>,
    pub(crate) caller: BoundedText<64>,
    pub(crate) customer: BoundedText<64>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) retired: Option<&'static str>,
    pub(crate) status: u16,
    pub(crate) reason: Option<Reason>,
    pub(crate) detail: String,
    pub(crate) cause: String,
    pub(crate) end: End,
}

impl Record {
    fn set(&mut self, summary: &ExchangeSummary<'_>) {
        let request = &summary.request;
        self.began = Some(summary.began);
        self.total = summary.total;
        self.waited = summary.waited;
        self.upstream = summary.upstream;
        self.gateway = summary.gateway;
        self.attempts = summary.attempts;
        self.request_id.set(request.request_id.as_bytes());
        self.transaction_id.set(request.transaction_id.as_bytes());
        for (text, id) in self.citrix_ids.iter_mut().zip(summary.citrix_ids) {
            text.set(id.as_ref().map_or(&[], HeaderValue::as_bytes));
        }
        self.method.set(request.method.as_str().as_bytes());
        self.path.set(request.path.as_bytes());
        self.route.set(summary.route.as_bytes());
        self.caller.set(request.caller.as_bytes());
        self.customer.set(summary.customer_bytes());
        self.address = request.peer.map(|peer| peer.ip());
        self.retired = summary.retired;
        self.status = summary.status.as_u16();
        self.reason = summary.reason;
        set_bounded(&mut self.detail, summary.detail);
        set_bounded(&mut self.cause, summary.cause);
        self.end = summary.end;
    }

    /// Returns `true` if one of the ids equals `id`, case-insensitively.
    fn has_id(&self, id: &[u8]) -> bool {
        let is = |own: &[u8]| own.eq_ignore_ascii_case(id);
        is(self.request_id.as_bytes())
            || is(self.transaction_id.as_bytes())
            || self.citrix_ids.iter().any(|own| is(own.as_bytes()))
    }
}

fn set_bounded(target: &mut String, text: &str) {
    target.clear();
    target.push_str(&text[..text.floor_char_boundary(MAX_DETAIL)]);
}

/// Records of one worker. Aligned so that no two workers write to one cache line.
#[repr(align(128))]
pub struct WorkerRecent {
    start: Instant,
    records: Mutex<Records>,
    /// Written through handles, without the mutex.
    callers: Mutex<HashMap<String, Arc<CallerActivity>>>,
}

struct Records {
    all: Ring,
    failed: Ring,
    rejected: Ring,
    failures: Vec<Repeats>,
    rejections: Vec<Repeats>,
    reasons: Vec<RouteReasons>,
    retired: Vec<RetiredUse>,
}

impl WorkerRecent {
    /// Creates the records of one of `workers` workers.
    fn new(start: Instant, workers: usize) -> Self {
        let share = |all: usize| (all / workers).max(MIN_PER_WORKER);
        Self {
            start,
            records: Mutex::new(Records {
                all: Ring::new(share(MAX_EXCHANGES)),
                failed: Ring::new(share(MAX_FAILURES)),
                rejected: Ring::new(share(MAX_FAILURES)),
                failures: Vec::new(),
                rejections: Vec::new(),
                reasons: Vec::new(),
                retired: Vec::new(),
            }),
            callers: Mutex::default(),
        }
    }

    /// Records a finished exchange.
    pub fn record(&self, summary: &ExchangeSummary<'_>, caller: Option<&Arc<CallerActivity>>) {
        let disposition = summary.disposition();
        if let Some(caller) = caller {
            let since_start = summary.began.saturating_duration_since(self.start) + summary.total;
            caller.record(since_start, disposition == Disposition::Rejected);
        }
        let records = &mut *self.records();
        records.all.slot().set(summary);
        match disposition {
            Disposition::Ok => {}
            Disposition::Rejected => {
                let record = records.rejected.slot();
                record.set(summary);
                count_repeat(&mut records.rejections, record, summary);
            }
            Disposition::Failed => {
                let record = records.failed.slot();
                record.set(summary);
                count_repeat(&mut records.failures, record, summary);
            }
        }
        if let Some(reason) = summary.reason {
            count_reason(&mut records.reasons, summary.route, reason);
        }
        if let Some(family) = summary.retired {
            let used = RetiredUse {
                family,
                route: summary.route.to_owned(),
                caller: summary.request.caller.to_owned(),
                address: summary.request.peer.map(|peer| peer.ip()),
                count: 1,
                last: summary.began,
            };
            count_retired(&mut records.retired, used, summary.is_named);
        }
    }

    /// Returns the handle for requests of a caller. Called once for each configuration.
    pub fn caller(&self, name: &str) -> Arc<CallerActivity> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        // Removes callers that a reload removed, so that the map has at most the callers of two
        // configurations.
        callers.retain(|known, used| known == name || Arc::strong_count(used) > 1);
        Arc::clone(callers.entry(name.to_owned()).or_default())
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Activity of a caller in all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerTotals {
    /// End of its last request.
    pub(crate) last: Option<Instant>,
    /// Requests that the gateway rejected for a fault of the caller.
    pub(crate) rejected: u64,
}

/// Records of all workers.
pub struct Recent {
    start: Instant,
    workers: Vec<Arc<WorkerRecent>>,
}

impl Recent {
    pub(crate) fn new(workers: usize) -> Self {
        let workers = workers.max(1);
        let start = Instant::now();
        let worker = |_| Arc::new(WorkerRecent::new(start, workers));
        Self {
            start,
            workers: (0..workers).map(worker).collect(),
        }
    }

    pub(crate) fn worker(&self, index: usize) -> Arc<WorkerRecent> {
        Arc::clone(&self.workers[index % self.workers.len()])
    }

    /// Returns up to `limit` exchanges that meet the conditions, newest first.
    pub(crate) fn find(&self, search: &Search, limit: usize) -> Vec<Record> {
        let mut found: Vec<Record> = Vec::new();
        for worker in &self.workers {
            let records = worker.records();
            for ring in [&records.all, &records.failed, &records.rejected] {
                let matching = ring.newest_first().filter(|one| search.matches(one));
                for record in matching.take(limit) {
                    // A failure or rejection is in two rings.
                    if found
                        .iter()
                        .all(|known| known.request_id.as_bytes() != record.request_id.as_bytes())
                    {
                        found.push(record.clone());
                    }
                }
            }
        }
        newest(found, limit)
    }

    /// Returns the number of recorded exchanges, and the time since which the record is complete.
    pub(crate) fn coverage(&self) -> (usize, Option<Instant>) {
        let (mut count, mut since) = (0, None);
        for worker in &self.workers {
            let records = worker.records();
            count += records.all.len();
            since = since.max(
                records
                    .all
                    .newest_first()
                    .last()
                    .and_then(|oldest| oldest.began),
            );
        }
        (count, since)
    }

    /// Returns up to `limit` failures, newest first.
    pub(crate) fn failures(&self, limit: usize) -> Vec<Record> {
        self.newest_of(limit, |records| &records.failed)
    }

    /// Returns up to `limit` requests that were rejected for a fault of the caller, newest first.
    pub(crate) fn rejections(&self, limit: usize) -> Vec<Record> {
        self.newest_of(limit, |records| &records.rejected)
    }

    /// Returns the kinds of failures with their repeats, the most recent first.
    pub(crate) fn repeated_failures(&self) -> Vec<Repeats> {
        self.repeats(|records| &records.failures)
    }

    /// Returns the kinds of rejections with their repeats, the most recent first.
    pub(crate) fn repeated_rejections(&self) -> Vec<Repeats> {
        self.repeats(|records| &records.rejections)
    }

    fn repeats(&self, of: impl Fn(&Records) -> &Vec<Repeats>) -> Vec<Repeats> {
        let mut sum = Vec::new();
        for worker in &self.workers {
            of(&worker.records())
                .iter()
                .for_each(|one| add_repeats(&mut sum, one));
        }
        sum.sort_by_key(|one| std::cmp::Reverse(one.last.began));
        sum
    }

    fn newest_of(&self, limit: usize, ring: impl Fn(&Records) -> &Ring) -> Vec<Record> {
        let mut found = Vec::new();
        for worker in &self.workers {
            found.extend(ring(&worker.records()).newest_first().take(limit).cloned());
        }
        newest(found, limit)
    }

    /// Returns the numbers of responses that the gateway generated, by route and reason.
    pub(crate) fn reasons(&self) -> Vec<RouteReasons> {
        let mut sum: Vec<RouteReasons> = Vec::new();
        for worker in &self.workers {
            for one in &worker.records().reasons {
                match sum.iter_mut().find(|known| known.route == one.route) {
                    Some(known) => known.add(one),
                    None => sum.push(one.clone()),
                }
            }
        }
        sum
    }

    /// Returns the users of retired addresses, the most recent first. `is_named` returns `true` for
    /// configured callers.
    pub(crate) fn retired(&self, is_named: impl Fn(&str) -> bool) -> Vec<RetiredUse> {
        let mut sum = Vec::new();
        for worker in &self.workers {
            for one in &worker.records().retired {
                let named = is_named(&one.caller);
                count_retired(&mut sum, one.clone(), named);
            }
        }
        sum.sort_by_key(|one| std::cmp::Reverse(one.last));
        sum
    }

    /// Returns the activity of callers, by name.
    pub(crate) fn callers(&self) -> BTreeMap<String, CallerTotals> {
        let mut sum: BTreeMap<String, CallerTotals> = BTreeMap::new();
        for worker in &self.workers {
            let callers = worker
                .callers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for (name, used) in &*callers {
                let total = sum.entry(name.clone()).or_default();
                total.last = total.last.max(used.last().map(|last| self.start + last));
                total.rejected += used.rejected();
            }
        }
        sum
    }
}

fn newest(mut records: Vec<Record>, limit: usize) -> Vec<Record> {
    records.sort_by_key(|record| std::cmp::Reverse(record.began));
    records.truncate(limit);
    records
}

#[cfg(test)]
mod tests;
