//! Callers of rate limits: in each machine the first of a limit's callers requests a slot, waits
//! until it is due and sends its request. Citrix counts them.

use fleet_protocol::machine::Slot;

use super::*;
use crate::simulation::citrix::{Meter, rate};

/// Mean time of a request at Citrix, after which its caller sends the next one.
const RESPONSE: u64 = 100 * MILLISECOND;

pub enum Happening {
    Poll(usize),
    /// The first caller of a machine and limit sends its request, or requests a slot again.
    Due {
        machine: usize,
        epoch: u64,
        limit: usize,
        /// Number of the caller's request.
        request: u64,
        kind: Due,
    },
    Timeout(usize, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// With a slot that was requested at this time, in microseconds. If it is late, nothing is
    /// expected of its time.
    Slot { requested: u64, late: bool },
    /// With a share of the rate.
    Share(u32),
    /// After a wait for the share: by then the store may be back.
    Again,
}

#[derive(Clone, Debug)]
struct Caller {
    machine: usize,
    limit: usize,
    request: u64,
    since: u64,
}

/// Waiting callers of a machine and limit; the first has requested a slot.
#[derive(Clone, Debug, Default)]
struct Line {
    callers: VecDeque<usize>,
    /// When the oldest request for a slot without a decision was made.
    requested: Option<u64>,
    /// The machine's own limiter, for the time without a store.
    own: Meter,
}

#[derive(Clone, Debug, Default)]
struct Limit {
    /// Of requests with a slot of the store since data was last lost.
    exact: Meter,
    loss: Option<u64>,
    all: Meter,
}

pub struct Rates {
    callers: Vec<Caller>,
    lines: BTreeMap<(usize, usize), Line>,
    limits: Vec<Limit>,
}

impl Rates {
    pub fn new(scenario: &Scenario) -> Self {
        let caller = |number: usize| Caller {
            machine: number % scenario.machines,
            // Each limit's callers are spread over the machines.
            limit: number / scenario.rate_callers,
            request: 0,
            since: 0,
        };
        let callers = (0..scenario.rates * scenario.rate_callers).map(caller);
        Self {
            callers: callers.collect(),
            lines: BTreeMap::new(),
            limits: vec![Limit::default(); scenario.rates],
        }
    }
}

impl World {
    pub(super) fn start_rates(&mut self) {
        for caller in 0..self.rates.callers.len() {
            self.poll_rate_in(5 * SECOND, caller);
        }
    }

    /// The callers of a machine whose process ended request again from the next one.
    pub(super) fn restart_rates(&mut self, machine: usize) {
        self.rates.lines.retain(|(other, _), _| *other != machine);
        for caller in 0..self.rates.callers.len() {
            if self.rates.callers[caller].machine == machine {
                self.rates.callers[caller].request += 1;
                self.poll_rate_in(SECOND, caller);
            }
        }
    }

    fn poll_rate_in(&mut self, most: u64, caller: usize) {
        let at = self.now + self.random.u64(1..most);
        self.schedule(at, super::Happening::Rate(Happening::Poll(caller)));
    }

    pub(super) fn happen_in_rates(&mut self, happening: Happening) {
        match happening {
            Happening::Poll(caller) => self.poll_rate(caller),
            Happening::Due {
                machine,
                epoch,
                limit,
                request,
                kind,
            } => {
                let first = self.first_request(machine, limit);
                if self.nodes[machine].epoch == epoch && first == Some(request) {
                    self.due(machine, limit, kind);
                }
            }
            Happening::Timeout(caller, request) => self.time_out_rate(caller, request),
        }
    }

    fn poll_rate(&mut self, caller: usize) {
        let now = self.now;
        let of_caller = &mut self.rates.callers[caller];
        of_caller.since = now;
        of_caller.request += 1;
        let Caller {
            machine,
            limit,
            request,
            ..
        } = *of_caller;
        let end = now + micros(QUEUE_TIMEOUT);
        let timeout = Happening::Timeout(caller, request);
        self.schedule(end, super::Happening::Rate(timeout));
        let line = self.rates.lines.entry((machine, limit)).or_default();
        line.callers.push_back(caller);
        if line.callers.len() == 1 {
            self.reserve(machine, limit);
        }
    }

    /// Requests a slot for the first caller.
    fn reserve(&mut self, machine: usize, limit: usize) {
        let now = self.now;
        let Some(line) = self.rates.lines.get_mut(&(machine, limit)) else {
            return;
        };
        let Some(&caller) = line.callers.front() else {
            return;
        };
        line.requested.get_or_insert(now);
        let until = time(self.rates.callers[caller].since + micros(QUEUE_TIMEOUT));
        let (limit, rate) = (rate_name(limit), rate(1, QUEUE_TIMEOUT));
        self.handle(machine, Event::Reserve { limit, rate, until });
    }

    pub(super) fn reserved(&mut self, machine: usize, name: Name, slot: Slot) {
        let limit = index_of(name, 3_000_000);
        let line = self.rates.lines.get_mut(&(machine, limit));
        let Some(requested) = line.and_then(|line| line.requested.take()) else {
            return;
        };
        let (at, kind) = match slot {
            Slot::After(wait) => {
                let late = self.now - requested > micros(TIMING.timeout);
                (self.now + micros(wait), Due::Slot { requested, late })
            }
            Slot::Share(replicas) => (self.now, Due::Share(replicas.get())),
            Slot::Never => {
                self.report.never += 1;
                return self.end_first(machine, limit);
            }
        };
        self.schedule_due(machine, limit, at, kind);
    }

    /// Returns the number of the request that is first in a line.
    fn first_request(&self, machine: usize, limit: usize) -> Option<u64> {
        let line = self.rates.lines.get(&(machine, limit))?;
        let caller = line.callers.front()?;
        Some(self.rates.callers[*caller].request)
    }

    fn schedule_due(&mut self, machine: usize, limit: usize, at: u64, kind: Due) {
        let Some(request) = self.first_request(machine, limit) else {
            return;
        };
        let epoch = self.nodes[machine].epoch;
        let due = Happening::Due {
            machine,
            epoch,
            limit,
            request,
            kind,
        };
        self.schedule(at, super::Happening::Rate(due));
    }

    fn due(&mut self, machine: usize, limit: usize, kind: Due) {
        let paused = self.nodes[machine].paused_until;
        if paused > self.now {
            let kind = match kind {
                Due::Slot { requested, .. } => Due::Slot {
                    requested,
                    late: true,
                },
                other => other,
            };
            return self.schedule_due(machine, limit, paused, kind);
        }
        match kind {
            Due::Again => return self.reserve(machine, limit),
            Due::Share(replicas) => {
                let Some(line) = self.rates.lines.get_mut(&(machine, limit)) else {
                    return;
                };
                let mut own = line.own.clone();
                let wait = own.admit(self.now, &rate(replicas, QUEUE_TIMEOUT));
                if wait > 0 {
                    return self.schedule_due(machine, limit, self.now + wait, Due::Again);
                }
                line.own = own;
            }
            Due::Slot { .. } => {}
        }
        self.send(limit, kind);
        self.end_first(machine, limit);
    }

    /// A request reaches Citrix: those with a slot exceed the burst by no more than a reply may
    /// be late, unless data was lost.
    fn send(&mut self, limit: usize, kind: Due) {
        let (now, loss) = (self.now, self.store.loss);
        let rate = rate(1, QUEUE_TIMEOUT);
        let of_limit = &mut self.rates.limits[limit];
        if of_limit.loss != loss {
            (of_limit.loss, of_limit.exact) = (loss, Meter::default());
        }
        let is_exact = |requested| loss.is_none_or(|loss| loss < requested);
        if matches!(kind, Due::Slot { requested, late: false } if is_exact(requested)) {
            let excess = Duration::from_micros(of_limit.exact.admit(now, &rate));
            assert!(
                excess <= TIMING.timeout,
                "limit {limit}: {excess:?} at {now}"
            );
        }
        let excess = Duration::from_micros(of_limit.all.admit(now, &rate));
        self.report.excess = self.report.excess.max(excess);
        self.report.sent += 1;
        self.report.sent_alone += usize::from(matches!(kind, Due::Share(_)));
    }

    /// The first caller's wait is over.
    fn end_first(&mut self, machine: usize, limit: usize) {
        let Some(line) = self.rates.lines.get_mut(&(machine, limit)) else {
            return;
        };
        let Some(caller) = line.callers.pop_front() else {
            return;
        };
        self.rates.callers[caller].request += 1;
        self.poll_rate_in(2 * RESPONSE, caller);
        self.reserve(machine, limit);
    }

    fn time_out_rate(&mut self, caller: usize, request: u64) {
        let of_caller = &self.rates.callers[caller];
        if of_caller.request != request {
            return;
        }
        let (machine, limit) = (of_caller.machine, of_caller.limit);
        self.report.timeouts += 1;
        let Some(line) = self.rates.lines.get_mut(&(machine, limit)) else {
            return;
        };
        if line.callers.front() == Some(&caller) {
            self.handle(machine, Event::Unreserve(rate_name(limit)));
            self.end_first(machine, limit);
        } else {
            line.callers.retain(|other| *other != caller);
            self.rates.callers[caller].request += 1;
            self.poll_rate_in(2 * RESPONSE, caller);
        }
    }
}
