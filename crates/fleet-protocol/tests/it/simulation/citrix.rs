//! Citrix in the simulation: the requests in progress, and the first invariant.

use fleet_protocol::Name;
use fleet_protocol::machine::PermitId;

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
