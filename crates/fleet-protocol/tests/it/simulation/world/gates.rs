//! Requests at places where Citrix now and then requests a wait: the first replica that is rejected
//! closes the gate of all.

use super::*;

/// Mean time between two requests of a machine at a place.
const INTERVAL: u64 = 400 * MILLISECOND;
/// Time for which Citrix rejects requests, and mean time until it does so again.
const BUSY: u64 = 5 * SECOND;
const CALM: u64 = 10 * SECOND;
/// The longest jitter of a gate that another replica closed, and the delay of its announcement.
const MAX_LATE: u64 = BUSY / 10 + 600 * MILLISECOND;
/// The longest time by which a clock that is set by seconds extends a gate; one that is set by more
/// does not.
const MAX_SHIFT: u64 = 5 * SECOND;
/// Time after which a clock that was set is known to all replicas.
const CLOCK_KNOWN: u64 = 3 * SECOND;

pub enum Happening {
    Busy(usize),
    Request {
        machine: usize,
        epoch: u64,
        place: usize,
    },
}

/// When Citrix last began to reject requests, and until when.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    since: u64,
    until: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    opens: u64,
    /// Connection and arrival of the last announcement.
    informed: Option<(u64, u64)>,
}

pub struct Gates {
    places: Vec<Place>,
    /// By machine and place.
    gates: Vec<Vec<Gate>>,
}

impl Gates {
    pub fn new(scenario: &Scenario) -> Self {
        let gates = vec![Gate::default(); scenario.gates];
        Self {
            places: vec![Place::default(); scenario.gates],
            gates: vec![gates; scenario.machines],
        }
    }
}

impl World {
    pub(super) fn start_gates(&mut self) {
        for place in 0..self.scenario.gates {
            self.become_busy_in(CALM, place);
        }
    }

    /// Starts the requests of a process.
    pub(super) fn start_requests(&mut self, machine: usize) {
        for place in 0..self.scenario.gates {
            self.gates.gates[machine][place] = Gate::default();
            self.request_at(self.now, machine, place);
        }
    }

    fn become_busy_in(&mut self, mean: u64, place: usize) {
        let at = self.now + self.random.u64(mean / 2..mean * 3 / 2);
        self.schedule(at, super::Happening::Gate(Happening::Busy(place)));
    }

    fn request_at(&mut self, at: u64, machine: usize, place: usize) {
        let at = at + self.random.u64(INTERVAL / 2..INTERVAL * 3 / 2);
        self.schedule_request(at, machine, place);
    }

    fn schedule_request(&mut self, at: u64, machine: usize, place: usize) {
        let epoch = self.nodes[machine].epoch;
        let request = Happening::Request {
            machine,
            epoch,
            place,
        };
        self.schedule(at, super::Happening::Gate(request));
    }

    pub(super) fn happen_at_gates(&mut self, happening: Happening) {
        match happening {
            Happening::Busy(place) => {
                let (since, until) = (self.now, self.now + BUSY);
                self.gates.places[place] = Place { since, until };
                self.report.busy_times += 1;
                self.become_busy_in(BUSY + CALM, place);
            }
            Happening::Request {
                machine,
                epoch,
                place,
            } => {
                let node = &self.nodes[machine];
                let opens = self.gates.gates[machine][place].opens;
                let earliest = node.paused_until.max(opens);
                if node.epoch != epoch {
                    return;
                }
                if earliest > self.now {
                    return self.schedule_request(earliest, machine, place);
                }
                if self.now < self.gates.places[place].until {
                    self.reject(machine, place);
                }
                self.request_at(self.now, machine, place);
            }
        }
    }

    /// Rejects a request, of a machine that was not informed to wait.
    fn reject(&mut self, machine: usize, place: usize) {
        self.report.rejections += 1;
        let Place { since, until } = self.gates.places[place];
        let node = &self.nodes[machine];
        let was_informed = self.gates.gates[machine][place].informed;
        let was_informed = was_informed.is_some_and(|(connection, at)| {
            let arrived = at.max(node.paused_until) + MILLISECOND;
            node.connection == Some(connection) && (since..self.now).contains(&arrived)
        });
        // The replica that announced it knew the store's time with a delay.
        let soon = until < self.now + SECOND;
        assert!(
            !was_informed || soon || self.is_time_uncertain(since),
            "machine {machine} is rejected at {}",
            self.now
        );
        let wait = Duration::from_micros(until - self.now);
        self.gates.gates[machine][place].opens = until;
        let place = gate_name(place);
        self.handle(machine, Event::GateClosed { place, wait });
    }

    /// Returns `true` if the store's clock was set, or replies were delayed, since a moment.
    fn is_time_uncertain(&self, since: u64) -> bool {
        let was_set = |set: u64| set + CLOCK_KNOWN >= since;
        self.store.clock_set.is_some_and(was_set) || self.slow.0 + CLOCK_KNOWN >= since
    }

    /// An announcement is on its way to a machine.
    pub(super) fn gate_announced(&mut self, machine: usize, name: Name) {
        let node = &self.nodes[machine];
        let informed = node.connection.map(|connection| (connection, node.down));
        self.gates.gates[machine][index_of(name, GATES)].informed = informed;
    }

    /// Another replica closed a gate: not for much longer than Citrix requested.
    pub(super) fn gate_closed(&mut self, machine: usize, name: Name, wait: Duration) {
        let place = index_of(name, GATES);
        let Place { since, until } = self.gates.places[place];
        let opens = self.now + micros(wait);
        assert!(
            micros(wait) <= BUSY + MAX_LATE + MAX_SHIFT,
            "gate {place} is closed for {wait:?} at {}",
            self.now
        );
        let was_paused = self.nodes[machine].paused_until + SECOND > self.now;
        assert!(
            opens <= until + MAX_LATE || was_paused || self.is_time_uncertain(since),
            "gate {place} of machine {machine} opens at {opens}, not at {until}"
        );
        let gate = &mut self.gates.gates[machine][place];
        gate.opens = gate.opens.max(opens);
    }
}
