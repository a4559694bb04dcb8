//! The event queue: machines, callers, connections and faults.

mod faults;
mod gates;
mod load;
mod logins;
mod network;
mod rates;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use fleet_protocol::command::{Command, KeyFingerprint, QueueLimit};
use fleet_protocol::machine::{PermitId, Settings};
use fleet_protocol::{Event, Machine, Name, Output, Push, Replica, State, StoreTime, Time};

use self::gates::Gates;
use self::logins::Logins;
use self::rates::Rates;
use super::citrix::{AT_ONCE, Running, Service};
use super::store::{Health, Request, Store};
use crate::scripts::TIMING;
use testkit::store::model::Model;

const MILLISECOND: u64 = 1000;
const SECOND: u64 = 1_000_000;
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between the last message of a process and its end.
const EXIT: Duration = Duration::from_millis(20);
/// Interval of the search for idle queues.
const SWEEP: u64 = 250 * MILLISECOND;

/// A fleet and its load.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub machines: usize,
    pub queues: usize,
    /// Each requests again at once, from one machine in one queue.
    pub pollers: usize,
    /// Mean time of a request at Citrix.
    pub query: Duration,
    pub length: Duration,
    /// Commands are counted after this time.
    pub warm_up: Duration,
    /// Rate limits, with the number of callers of each that request again at once.
    pub rates: usize,
    pub rate_callers: usize,
    /// Identities, each used by all machines, and the lifetime of their tokens.
    pub identities: usize,
    pub token_lifetime: Duration,
    /// The first of these identities have an invalid secret.
    pub invalid_secrets: usize,
    /// Places where Citrix now and then requests a wait; each machine sends requests to each.
    pub gates: usize,
    /// Probability.
    pub lost_pushes: f64,
    /// Faults of which one at random happens in each interval.
    pub faults: &'static [Fault],
    pub fault_interval: Duration,
}

/// A fault.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// All data is lost.
    Flush,
    /// The store stops and continues.
    Stop(Duration),
    /// The store ends and comes back empty.
    Restart(Duration),
    /// The store ends, and another one with older data and another clock takes over.
    Failover(Duration),
    /// The store's clock is set by this number of seconds.
    SetClock(i64),
    /// Replies are delayed for some seconds.
    Slow(Duration),
    /// All connections are lost.
    Reset,
    /// A machine stops and continues.
    PauseMachine(Duration),
    /// A machine loses its connection and cannot connect.
    CutOff(Duration),
    /// A machine's process ends, and another one starts.
    Kill,
    /// The same, after a last message.
    Drain,
    /// Citrix revokes the token of an identity.
    Revoke,
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub permits: usize,
    pub alone: usize,
    pub commands: usize,
    pub commands_by_kind: BTreeMap<&'static str, usize>,
    /// Requests that were sent within a rate, and those that the store rejected at once because
    /// they would have waited beyond their deadline.
    pub sent: usize,
    pub never: usize,
    pub sent_alone: usize,
    /// The longest time by which a request was ahead of the burst, those without a store included.
    pub excess: Duration,
    pub logins: usize,
    /// Logins that lost data, an absent replica or a revocation explains.
    pub logins_excused: usize,
    /// The longest time for which a replica that had joined was without a token.
    pub longest_without_token: Duration,
    /// Logins with an invalid secret.
    pub rejected_logins: usize,
    /// The waits that Citrix requested, and the requests that it rejected.
    pub busy_times: usize,
    pub rejections: usize,
    pub pushes_missed: usize,
    pub lost: usize,
    pub peak: usize,
    pub timeouts: usize,
    pub longest_wait: Duration,
    pub longest_idle: Duration,
    pub least_served: usize,
    pub most_served: usize,
}

enum Happening {
    Command(Request),
    Reply(usize, u64, Event),
    Wake(usize),
    Connect(usize, u64),
    Lost(usize, u64),
    /// A request at Citrix ended.
    Ended {
        machine: usize,
        epoch: u64,
        queue: usize,
        permit: PermitId,
        poller: usize,
    },
    /// The process learns of something on its own machine.
    Local(usize, u64, Event),
    Poll(usize),
    Timeout(usize, u64),
    Fault,
    Exit(usize, u64),
    Resume(Health),
    Sweep,
    Rate(rates::Happening),
    Login(logins::Happening),
    Gate(gates::Happening),
}

struct Entry {
    at: u64,
    number: u64,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A replica with its connection.
struct Node {
    machine: Machine,
    /// Number of the process; what an earlier one was to learn is dropped.
    epoch: u64,
    connection: Option<u64>,
    /// The last connection that ended.
    ended: Option<u64>,
    attempts: u32,
    /// Arrival of the last message in each direction: none overtakes another.
    up: u64,
    down: u64,
    paused_until: u64,
    cut_off_until: u64,
    /// Its process ends; nothing more is served.
    ends: bool,
    wake: Option<u64>,
    /// When a heartbeat of it last ran in the store.
    heard: u64,
    /// Pollers whose request waits, by queue and caller.
    waiting: BTreeMap<(usize, usize), VecDeque<usize>>,
}

struct Poller {
    machine: usize,
    queue: usize,
    caller: usize,
    /// Number of the request, and when it began to wait.
    request: u64,
    since: Option<u64>,
    served: usize,
}

/// The simulated world.
pub struct World {
    scenario: Scenario,
    random: fastrand::Rng,
    now: u64,
    number: u64,
    events: BinaryHeap<Reverse<Entry>>,
    store: Store,
    /// An older state of the store, for a failover.
    replicated: Model,
    slow: (u64, Duration),
    nodes: Vec<Node>,
    by_replica: BTreeMap<Replica, usize>,
    pollers: Vec<Poller>,
    services: Vec<Service>,
    rates: Rates,
    logins: Logins,
    gates: Gates,
    idle_since: Vec<Option<u64>>,
    last_fault: u64,
    report: Report,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}

fn queue_name(queue: usize) -> Name {
    Name((1_000_000 + queue as u128).to_be_bytes())
}

fn caller_name(caller: usize) -> Name {
    Name((2_000_000 + caller as u128).to_be_bytes())
}

fn rate_name(limit: usize) -> Name {
    Name((3_000_000 + limit as u128).to_be_bytes())
}

fn identity_name(identity: usize) -> Name {
    Name((4_000_000 + identity as u128).to_be_bytes())
}

const GATES: u128 = 5_000_000;

fn gate_name(place: usize) -> Name {
    Name((GATES + place as u128).to_be_bytes())
}

fn index_of(name: Name, base: u128) -> usize {
    usize::try_from(u128::from_be_bytes(name.0) - base).unwrap()
}

impl World {
    pub fn new(scenario: Scenario) -> Self {
        let mut random = fastrand::Rng::with_seed(scenario.seed);
        let pollers = (0..scenario.pollers).map(|number| Poller {
            machine: number % scenario.machines,
            queue: if scenario.queues == 1 {
                0
            } else {
                random.usize(..scenario.queues)
            },
            caller: number,
            request: 0,
            since: None,
            served: 0,
        });
        let pollers = pollers.collect();
        let services = (0..scenario.queues).map(|_| Service::default()).collect();
        let mut world = Self {
            scenario,
            random,
            now: 0,
            number: 0,
            events: BinaryHeap::new(),
            store: Store::new(),
            replicated: Model::new(TIMING),
            slow: (0, Duration::ZERO),
            nodes: Vec::new(),
            by_replica: BTreeMap::new(),
            pollers,
            services,
            rates: Rates::new(&scenario),
            logins: Logins::new(&scenario),
            gates: Gates::new(&scenario),
            idle_since: vec![None; scenario.queues],
            last_fault: 0,
            report: Report::default(),
        };
        for index in 0..scenario.machines {
            let node = world.new_node(index, 0);
            world.nodes.push(node);
            world.schedule(index as u64, Happening::Connect(index, 0));
            world.wake(index);
            world.start_logins(index);
            world.start_requests(index);
        }
        world.start_rates();
        world.start_gates();
        for poller in 0..scenario.pollers {
            let start = world.random.u64(..SECOND);
            world.schedule(start, Happening::Poll(poller));
        }
        world.schedule(SWEEP, Happening::Sweep);
        if !scenario.faults.is_empty() {
            world.schedule(5 * SECOND, Happening::Fault);
        }
        world
    }

    fn new_node(&mut self, index: usize, epoch: u64) -> Node {
        let replica = Replica(self.random.u32(..));
        self.by_replica.retain(|_, other| *other != index);
        self.by_replica.insert(replica, index);
        let settings = Settings {
            timing: TIMING,
            replica,
            key: KeyFingerprint(1),
            replicas: 0,
            seed: self.random.u64(..),
        };
        Node {
            machine: Machine::new(settings, time(self.now)),
            epoch,
            connection: None,
            ended: None,
            attempts: 0,
            up: 0,
            down: 0,
            paused_until: 0,
            cut_off_until: 0,
            ends: false,
            wake: None,
            heard: self.now,
            waiting: BTreeMap::new(),
        }
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.number += 1;
        let (at, number) = (at.max(self.now), self.number);
        self.events.push(Reverse(Entry {
            at,
            number,
            happening,
        }));
    }

    pub fn run(&mut self) -> Report {
        let end = micros(self.scenario.length);
        let mut repeated = 0;
        let warm = micros(self.scenario.warm_up);
        while let Some(Reverse(Entry { at, happening, .. })) = self.events.pop() {
            if at > end {
                break;
            }
            if self.now < warm && at >= warm {
                self.store.commands.clear();
            }
            repeated = if at == self.now { repeated + 1 } else { 0 };
            assert!(repeated < 10_000_000, "no progress at {at}");
            self.now = at;
            self.happen(happening);
        }
        let served = self.pollers.iter().map(|poller| poller.served);
        self.report.least_served = served.clone().min().unwrap_or(0);
        self.report.most_served = served.max().unwrap_or(0);
        self.report.peak = self.services.iter().map(Service::peak).max().unwrap();
        self.report.commands = self.store.commands.values().sum();
        self.report
            .commands_by_kind
            .clone_from(&self.store.commands);
        self.report.clone()
    }

    /// Runs, and returns the report and all commands of the store.
    pub fn record(&mut self) -> (Report, Vec<(u64, usize, Command)>) {
        self.store.trace = Some(Vec::new());
        let report = self.run();
        (report, self.store.trace.take().unwrap())
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Command(request) => self.arrive(request),
            Happening::Reply(index, connection, event) => {
                if self.nodes[index].connection == Some(connection) {
                    self.handle(index, event);
                }
            }
            Happening::Wake(index) => {
                self.nodes[index].wake = None;
                let due = self.nodes[index].machine.wake_at();
                if due.is_some_and(|at| at <= time(self.now)) {
                    self.handle(index, Event::Timer);
                } else {
                    self.wake(index);
                }
            }
            Happening::Connect(index, epoch) => self.connect(index, epoch),
            Happening::Lost(index, connection) => self.lost(index, connection),
            Happening::Ended {
                machine,
                epoch,
                queue,
                permit,
                poller,
            } => {
                if self.nodes[machine].epoch == epoch {
                    self.services[queue].end(machine, permit);
                    self.handle(machine, Event::Released(permit));
                    let learnt = self.now.max(self.nodes[machine].paused_until);
                    self.schedule(learnt, Happening::Poll(poller));
                }
            }
            Happening::Local(index, epoch, event) => {
                if self.nodes[index].epoch == epoch {
                    self.handle(index, event);
                }
            }
            Happening::Poll(poller) => self.poll(poller),
            Happening::Timeout(poller, request) => self.time_out(poller, request),
            Happening::Fault => self.fault(),
            Happening::Exit(index, epoch) => {
                if self.nodes[index].epoch == epoch {
                    self.replace(index);
                }
            }
            Happening::Resume(was) => self.resume(was),
            Happening::Sweep => self.sweep(),
            Happening::Rate(happening) => self.happen_in_rates(happening),
            Happening::Login(happening) => self.happen_in_logins(happening),
            Happening::Gate(happening) => self.happen_at_gates(happening),
        }
    }

    /// Passes an event to a machine, after its pause.
    fn handle(&mut self, index: usize, event: Event) {
        let node = &mut self.nodes[index];
        let is_load = matches!(event, Event::Reserve { .. } | Event::Request { .. });
        if node.ends && is_load {
            return;
        }
        if node.paused_until > self.now {
            let (at, epoch) = (node.paused_until, node.epoch);
            let later = match (&event, node.connection) {
                (Event::Timer, _) => Happening::Wake(index),
                (Event::Reply { .. } | Event::Push(_) | Event::Connected { .. }, connection) => {
                    Happening::Reply(index, connection.unwrap_or(0), event)
                }
                _ => Happening::Local(index, epoch, event),
            };
            return self.schedule(at, later);
        }
        let mut out = Vec::new();
        node.machine.handle(time(self.now), event, &mut out);
        for output in out {
            self.output(index, output);
        }
        self.wake(index);
    }

    fn wake(&mut self, index: usize) {
        let Some(at) = self.nodes[index].machine.wake_at() else {
            return;
        };
        // Rounded up: the timer is not due before.
        let at = micros(at.since_origin() + Duration::from_nanos(999));
        if self.nodes[index].wake.is_none_or(|wake| at < wake) {
            self.nodes[index].wake = Some(at);
            self.schedule(at, Happening::Wake(index));
        }
    }

    fn output(&mut self, index: usize, output: Output) {
        match output {
            Output::Send { id, command } => {
                let Some(connection) = self.nodes[index].connection else {
                    panic!("{command:?} without a connection");
                };
                let at = (self.now + self.delay()).max(self.nodes[index].up);
                self.nodes[index].up = at;
                let machine = index;
                let request = Request {
                    machine,
                    connection,
                    id,
                    command,
                };
                self.schedule(at, Happening::Command(request));
            }
            Output::Disconnect => {
                self.nodes[index].connection = None;
                self.reconnect(index);
            }
            Output::State(State::Joined) => self.nodes[index].attempts = 0,
            Output::Granted {
                queue,
                caller,
                permit,
                by,
            } => {
                self.granted(index, queue, caller, permit, by);
            }
            Output::Lost(_) => self.report.lost += 1,
            Output::PushMissed => self.report.pushes_missed += 1,
            Output::Reserved { limit, slot } => self.reserved(index, limit, slot),
            Output::GateClosed { place, wait } => self.gate_closed(index, place, wait),
            Output::TokenChanged(identity) => self.token_changed(index, identity),
            Output::Response { id, body, now } => self.responded(index, id, body, now),
            _ => {}
        }
    }
}

fn time(micros: u64) -> Time {
    Time::new(Duration::from_micros(micros))
}
