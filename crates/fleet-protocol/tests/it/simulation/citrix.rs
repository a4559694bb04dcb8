//! Citrix in the simulation: requests in progress, rates and logins, with the invariants that
//! concern them.

use std::time::Duration;

use fleet_protocol::Name;
use fleet_protocol::command::Rate;
use fleet_protocol::machine::PermitId;
use fleet_protocol::time::micros;

/// Limit of every queue.
pub const AT_ONCE: usize = 1;

/// A request in progress.
#[derive(Clone, Debug)]
pub struct Running {
    pub machine: usize,
    pub permit: PermitId,
    /// Its replica was without contact for longer than its permit is valid.
    pub excused: bool,
}

/// The requests in progress of one queue.
#[derive(Debug, Default)]
pub struct Service {
    running: Vec<Running>,
    peak: usize,
}

impl Service {
    /// Begins a request. At most [`AT_ONCE`] are in progress, except for excused ones.
    pub fn begin(&mut self, queue: Name, request: Running) {
        self.running.push(request);
        let exact = self
            .running
            .iter()
            .filter(|running| !running.excused)
            .count();
        assert!(exact <= AT_ONCE, "{queue}: {:?}", self.running);
        self.peak = self.peak.max(self.running.len());
    }

    pub fn end(&mut self, machine: usize, permit: PermitId) {
        self.running
            .retain(|running| (running.machine, running.permit) != (machine, permit));
    }

    /// Ends the requests of a machine whose process ended.
    pub fn abort(&mut self, machine: usize) {
        self.running.retain(|running| running.machine != machine);
    }

    /// Excuses the requests of a machine.
    pub fn excuse(&mut self, machine: usize) {
        let own = self
            .running
            .iter_mut()
            .filter(|running| running.machine == machine);
        own.for_each(|running| running.excused = true);
    }

    /// Returns the machines with requests in progress.
    pub fn machines(&self) -> Vec<usize> {
        self.running.iter().map(|running| running.machine).collect()
    }

    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Returns the highest number at the same time, excused ones included.
    pub fn peak(&self) -> usize {
        self.peak
    }
}

/// Limit of every rate: 15 a second, as a replica alone admits them.
pub const PER_SECOND: u32 = 15;

/// Returns the rate of one of `replicas`, with a burst of its requests of one second.
pub fn rate(replicas: u32, timeout: Duration) -> Rate {
    let interval = Duration::from_secs(1) / PER_SECOND * replicas;
    Rate {
        interval,
        burst: interval * (PER_SECOND / replicas).saturating_sub(1),
        timeout,
    }
}

/// The requests of one rate limit, as a bucket that fills by the rate.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    next: u64,
}

impl Meter {
    /// Admits a request; returns the time in microseconds by which it exceeds the burst.
    pub fn admit(&mut self, now: u64, rate: &Rate) -> u64 {
        let ahead = self.next.saturating_sub(now);
        self.next = self.next.max(now) + micros(rate.interval);
        ahead.saturating_sub(micros(rate.burst))
    }
}

/// The logins of one identity.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub logins: usize,
    /// When the token in the store was obtained; absent during a login and after a revocation.
    pub obtained: Option<u64>,
    /// When the verdict on the secret was published, and how long it holds.
    pub verdict: Option<(u64, u64)>,
}
