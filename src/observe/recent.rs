//! What happened lately, for operators: the last exchanges, the last failures, who came and who uses what is retired.
//!
//! Each worker has its own memory behind a mutex of its own, which it holds while it writes one record; only
//! somebody who looks in ever holds it besides. Records are written into slots that are used again, so a request
//! allocates nothing for it. Failures have slots of their own, so that neither success nor a scanner at the door
//! drives them out.

mod ring;
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
use ring::Ring;
use usage::{note_reason, note_retired};

pub use text::Text;
pub use usage::{CallerActivity, RetiredUse, RouteReasons};

/// Exchanges that are remembered, over all workers.
pub const MAX_EXCHANGES: usize = 4096;
/// Failures that are remembered, over all workers; and as many refused requests.
pub const MAX_FAILURES: usize = 256;
/// However many workers there are, each remembers as many of both.
const LEAST: usize = 32;
/// The longest explanation that is kept, in bytes.
const MAX_DETAIL: usize = 300;

/// A closed exchange, remembered.
#[derive(Clone, Default)]
pub struct Record {
    /// When the request's head was complete; none in a slot that was never used.
    pub began: Option<Instant>,
    /// This and the following fields are those of [`ExchangeSummary`].
    pub total: Duration,
    pub(crate) waited: Duration,
    pub(crate) upstream: Duration,
    pub(crate) gateway: Duration,
    pub(crate) attempts: u32,
    /// `X-Proxy-Request-Id`.
    pub request_id: Text<36>,
    /// As it was sent; a caller's own may be as long as that.
    pub transaction_id: Text<128>,
    pub(crate) citrix_ids: [Text<64>; 3],
    pub(crate) method: Text<16>,
    pub(crate) path: Text<128>,
    pub(crate) route: Text<64>,
    pub(crate) caller: Text<64>,
    pub(crate) customer: Text<64>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) retired: Option<&'static str>,
    pub(crate) status: u16,
    pub(crate) reason: Option<Reason>,
    pub(crate) detail: String,
    pub(crate) cause: String,
    pub(crate) end: End,
}

impl Record {
    /// Overwrites the record.
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
        self.customer
            .set(summary.customer.map_or(&[], HeaderValue::as_bytes));
        self.address = request.peer.map(|peer| peer.ip());
        self.retired = summary.retired;
        self.status = summary.status.as_u16();
        self.reason = summary.reason;
        set_bounded(&mut self.detail, summary.detail);
        set_bounded(&mut self.cause, summary.cause);
        self.end = summary.end;
    }

    /// Whether one of its ids is this, letter case aside.
    pub fn has_id(&self, id: &[u8]) -> bool {
        let is = |own: &[u8]| own.eq_ignore_ascii_case(id);
        is(self.request_id.as_bytes())
            || is(self.transaction_id.as_bytes())
            || self.citrix_ids.iter().any(|own| is(own.as_bytes()))
    }
}

fn set_bounded(own: &mut String, text: &str) {
    own.clear();
    own.push_str(&text[..text.floor_char_boundary(MAX_DETAIL)]);
}

/// One worker's memory. Aligned so that no two workers write to one cache line.
#[repr(align(128))]
pub struct WorkerRecent {
    start: Instant,
    memory: Mutex<Memory>,
    /// Written without the mutex, by handles.
    callers: Mutex<HashMap<String, Arc<CallerActivity>>>,
}

struct Memory {
    all: Ring,
    failed: Ring,
    refused: Ring,
    reasons: Vec<RouteReasons>,
    retired: Vec<RetiredUse>,
}

impl WorkerRecent {
    /// Records a finished exchange.
    pub fn record(&self, summary: &ExchangeSummary<'_>, caller: Option<&Arc<CallerActivity>>) {
        let disposition = summary.disposition();
        if let Some(caller) = caller {
            let since_start = summary.began.saturating_duration_since(self.start) + summary.total;
            caller.note(since_start, disposition == Disposition::Rejected);
        }
        let mut memory = self.memory();
        memory.all.slot().set(summary);
        match disposition {
            Disposition::Fine => {}
            Disposition::Rejected => memory.refused.slot().set(summary),
            Disposition::Failed => memory.failed.slot().set(summary),
        }
        if let Some(reason) = summary.reason {
            note_reason(&mut memory.reasons, summary.route, reason);
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
            note_retired(&mut memory.retired, used, summary.is_named);
        }
    }

    /// The handle for requests of the caller with this name, to be had once for each configuration.
    pub fn caller(&self, name: &str) -> Arc<CallerActivity> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        // What a reload left without a user is forgotten, so that the map is no larger than a configuration or two.
        callers.retain(|known, used| known == name || Arc::strong_count(used) > 1);
        Arc::clone(callers.entry(name.to_owned()).or_default())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has been seen of a caller, by all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerTotals {
    /// When its last request was over.
    pub last: Option<Instant>,
    /// Requests that the gateway refused for the caller's own fault.
    pub refused: u64,
}

/// The memory of all workers.
pub struct Recent {
    start: Instant,
    workers: Vec<Arc<WorkerRecent>>,
}

impl Recent {
    /// Memory for `workers` workers.
    pub fn new(workers: usize) -> Self {
        let workers = workers.max(1);
        let start = Instant::now();
        let share = |all: usize| (all / workers).max(LEAST);
        let worker = |_| {
            Arc::new(WorkerRecent {
                start,
                memory: Mutex::new(Memory {
                    all: Ring::new(share(MAX_EXCHANGES)),
                    failed: Ring::new(share(MAX_FAILURES)),
                    refused: Ring::new(share(MAX_FAILURES)),
                    reasons: Vec::new(),
                    retired: Vec::new(),
                }),
                callers: Mutex::default(),
            })
        };
        Self {
            start,
            workers: (0..workers).map(worker).collect(),
        }
    }

    /// One worker's.
    pub fn worker(&self, index: usize) -> Arc<WorkerRecent> {
        Arc::clone(&self.workers[index % self.workers.len()])
    }

    /// The exchanges that have this id, newest first, `limit` at most: an id that callers choose may be of many.
    pub fn find(&self, id: &str, limit: usize) -> Vec<Record> {
        let mut found: Vec<Record> = Vec::new();
        for worker in &self.workers {
            let memory = worker.memory();
            let rings = [&memory.all, &memory.failed, &memory.refused];
            for record in rings
                .into_iter()
                .flat_map(Ring::newest_first)
                .filter(|one| one.has_id(id.as_bytes()))
            {
                // A failure is in two rings.
                if found
                    .iter()
                    .all(|known| known.request_id.as_bytes() != record.request_id.as_bytes())
                {
                    found.push(record.clone());
                }
            }
        }
        newest(found, limit)
    }

    /// How many exchanges are remembered, and since when all of them are.
    pub fn reach(&self) -> (usize, Option<Instant>) {
        let (mut count, mut since) = (0, None);
        for worker in &self.workers {
            let memory = worker.memory();
            count += memory.all.len();
            since = since.max(
                memory
                    .all
                    .newest_first()
                    .last()
                    .and_then(|oldest| oldest.began),
            );
        }
        (count, since)
    }

    /// The last failures, newest first, `limit` at most.
    pub fn failures(&self, limit: usize) -> Vec<Record> {
        self.newest_of(limit, |memory| &memory.failed)
    }

    /// The last requests that were refused for the caller's own fault, newest first, `limit` at most.
    pub fn refusals(&self, limit: usize) -> Vec<Record> {
        self.newest_of(limit, |memory| &memory.refused)
    }

    fn newest_of(&self, limit: usize, ring: impl Fn(&Memory) -> &Ring) -> Vec<Record> {
        let mut found = Vec::new();
        for worker in &self.workers {
            found.extend(ring(&worker.memory()).newest_first().take(limit).cloned());
        }
        newest(found, limit)
    }

    /// How often the gateway answered itself, by route and reason.
    pub fn reasons(&self) -> Vec<RouteReasons> {
        let mut sum: Vec<RouteReasons> = Vec::new();
        for worker in &self.workers {
            for one in &worker.memory().reasons {
                match sum.iter_mut().find(|known| known.route == one.route) {
                    Some(known) => known.add(one),
                    None => sum.push(one.clone()),
                }
            }
        }
        sum
    }

    /// Who uses retired addresses, the last one first. `is_named` tells configured callers.
    pub fn retired(&self, is_named: impl Fn(&str) -> bool) -> Vec<RetiredUse> {
        let mut sum = Vec::new();
        for worker in &self.workers {
            for one in &worker.memory().retired {
                let named = is_named(&one.caller);
                note_retired(&mut sum, one.clone(), named);
            }
        }
        sum.sort_by_key(|one| std::cmp::Reverse(one.last));
        sum
    }

    /// What was seen of callers, by name.
    pub fn callers(&self) -> BTreeMap<String, CallerTotals> {
        let mut sum: BTreeMap<String, CallerTotals> = BTreeMap::new();
        for worker in &self.workers {
            let callers = worker
                .callers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for (name, used) in &*callers {
                let seen = sum.entry(name.clone()).or_default();
                seen.last = seen.last.max(used.last().map(|last| self.start + last));
                seen.refused += used.refused();
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
