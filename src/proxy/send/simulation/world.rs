//! A run: the replicas, Citrix, and the faults in their order.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::callers::Caller;
use super::clocks;
use super::cloud::Cloud;
use super::gateway::{Gateway, Outside, Tasks};
use super::plan::{Failure, Fault, Plan, Refusal, StoreFault};
use super::trace::Trace;
use crate::fleet::simulated::{self, SimulatedStore};

/// Time within which all requests end.
const MAX_REQUEST: Duration = Duration::from_mins(20);
/// Time for the last message of a link.
const MAX_BYE: Duration = Duration::from_secs(2);
const DRAIN: Duration = Duration::from_millis(500);
/// Time after a fault of the store, or of a replica's process, within which all replicas know of
/// each other again: a lease, a grace period, and a connection.
const SETTLING: Duration = Duration::from_secs(15);
/// Beyond the end of any pause.
const FAR: Duration = Duration::from_secs(90);
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Logins within the interval of the checks, and more for each event that may require some.
const MAX_LOGINS: usize = 12;
const MAX_LOGINS_EACH: usize = 6;

/// A step of a run.
#[derive(Clone, Copy, Debug)]
enum Action {
    Fail(Option<Failure>),
    Refuse(Option<Refusal>),
    Revoke,
    SetClock(usize, i64),
    AddSecret(u64),
    UseSecret(usize, u64),
    RemoveSecretsBefore(u64),
    Reload(usize),
    RequestLogin(usize),
    Restart(usize),
    Stop(usize, bool),
    /// The process passes on what it holds.
    Leave(usize),
    Store(StoreFault),
    Check,
}

impl Action {
    /// Returns `true` if a replica may not know any more of the wait that a 429 asked for.
    const fn ends_waits(self) -> bool {
        matches!(
            self,
            Self::SetClock(..) | Self::UseSecret(..) | Self::Restart(_) | Self::Store(_)
        )
    }

    /// Returns `true` if logins may follow that the schedule and backoffs do not explain.
    const fn requires_login(self) -> bool {
        matches!(
            self,
            Self::Revoke
                | Self::SetClock(..)
                | Self::UseSecret(..)
                | Self::RequestLogin(_)
                | Self::Restart(_)
                | Self::Stop(..)
                | Self::Store(_)
        )
    }
}

/// A replica's process.
struct Process {
    gateway: Arc<Gateway>,
    tasks: Tasks,
    secret: u64,
}

/// A run.
pub(super) struct World {
    plan: Plan,
    outside: Outside,
    processes: Vec<Process>,
    /// When requests succeed again, and when callers end.
    recovered: Instant,
    until: Instant,
    /// When something last happened that requires logins.
    disturbances: Vec<Instant>,
}

impl World {
    /// Runs a plan to its end.
    pub(super) async fn run(plan: &Plan, trace: &Arc<Trace>) {
        clocks::start();
        let actions = actions(plan);
        let ends = actions.iter().map(|(at, action)| match action {
            Action::Store(fault) => *at + fault.length(),
            _ => *at,
        });
        let quiet = ends.max().unwrap_or_default();
        let recovered = Instant::now() + quiet + plan.recovery;
        let store = || SimulatedStore::new(plan.seed ^ 0x5708, plan.lost_pushes);
        let mut world = Self {
            plan: plan.clone(),
            outside: Outside {
                trace: Arc::clone(trace),
                cloud: Cloud::new(plan, Arc::clone(trace)),
                store: plan.is_fleet().then(store),
            },
            processes: Vec::new(),
            recovered,
            until: recovered + plan.think * 2 + Duration::from_secs(10),
            disturbances: vec![Instant::now()],
        };
        for index in 0..plan.replicas {
            let process = world.start(index, 1);
            world.processes.push(process);
        }
        let began = Instant::now();
        for (at, action) in actions {
            sleep_until(began + at).await;
            world.act(action);
            if trace.failure().is_some() {
                return;
            }
        }
        while Instant::now() < world.until {
            sleep_until(world.until.min(Instant::now() + CHECK_INTERVAL)).await;
            world.check();
        }
        world.end().await;
    }

    fn start(&self, index: usize, secret: u64) -> Process {
        let mut tasks = Tasks::default();
        let gateway = Gateway::start(index, secret, &self.plan, &self.outside, &mut tasks);
        for number in 0..self.plan.callers {
            let caller = Caller::new(number, index, self.plan.seed);
            let run = caller.run(Arc::clone(&gateway), self.recovered, self.until);
            tasks.callers.spawn(gateway.run(run));
        }
        Process {
            gateway,
            tasks,
            secret,
        }
    }

    fn act(&mut self, action: Action) {
        let cloud = &self.outside.cloud;
        if !matches!(action, Action::Check) {
            self.outside.trace.record(kind(action), 0, [0, 0]);
        }
        if action.requires_login() {
            self.disturbances.push(Instant::now());
        }
        if action.ends_waits() {
            cloud.permit_login();
        }
        if self.plan.is_fleet() {
            self.unsettle(action);
        }
        match action {
            Action::Fail(failure) => cloud.set_failure(failure),
            Action::Refuse(refusal) => cloud.set_refusal(refusal),
            Action::Revoke => cloud.revoke(),
            Action::SetClock(replica, by) => clocks::set(replica, by),
            Action::AddSecret(secret) => cloud.add_secret(secret),
            Action::RemoveSecretsBefore(secret) => cloud.remove_secrets_before(secret),
            Action::UseSecret(replica, secret) => {
                let process = &mut self.processes[replica];
                // Of two rotations at a time, the later one may be configured first.
                process.secret = process.secret.max(secret);
                process.gateway.reload(process.secret, 0.75);
            }
            Action::Reload(replica) => {
                let process = &self.processes[replica];
                process.gateway.reload(process.secret, 0.5);
            }
            Action::RequestLogin(replica) => {
                // Rejected while another one is recent.
                let _ = self.processes[replica].gateway.slot.request_login();
            }
            Action::Leave(replica) => {
                let Process { gateway, tasks, .. } = &mut self.processes[replica];
                tasks.callers.abort_all();
                if let Some(fleet) = gateway.fleet.clone() {
                    tasks.keeper.spawn(async move {
                        simulated::bye(&fleet).await;
                        pending().await
                    });
                }
            }
            Action::Store(fault) => self.store_fault(fault),
            Action::Restart(replica) => {
                if let Some(store) = &self.outside.store {
                    store.leave(replica);
                }
                self.processes[replica] = self.start(replica, self.processes[replica].secret);
            }
            Action::Stop(replica, stops) => self.processes[replica].gateway.pause.set(stops),
            Action::Check => self.check(),
        }
    }

    /// Excuses what replicas do that may not know of each other for a while.
    fn unsettle(&self, action: Action) {
        let length = match action {
            Action::Store(fault) => fault.length(),
            Action::Stop(..) | Action::Restart(_) | Action::Leave(_) => Duration::ZERO,
            _ => return,
        };
        let mut until = Instant::now() + length + SETTLING;
        if let Action::Stop(_, true) = action {
            until += FAR;
        }
        self.outside.cloud.unsettle(until);
    }

    fn store_fault(&self, fault: StoreFault) {
        let Some(store) = &self.outside.store else {
            return;
        };
        match fault {
            StoreFault::Flush => store.flush(),
            StoreFault::Stop(length) => store.stop(length),
            StoreFault::Restart(length, clock) => store.restart(length, clock),
            StoreFault::SetClock(by) => store.set_clock(by),
            StoreFault::Slow(length, delay) => store.slow_down(length, delay),
            StoreFault::Reset => store.reset(),
            StoreFault::CutOff(replica, length) => store.cut_off(replica, length),
        }
    }

    fn check(&self) {
        let Outside { trace, cloud, .. } = &self.outside;
        let logins = cloud.logins_within(CHECK_INTERVAL);
        let recent = self.disturbances.iter().rev();
        let recent = recent.take_while(|at| at.elapsed() <= CHECK_INTERVAL * 2);
        let each = MAX_LOGINS_EACH * self.plan.replicas;
        let most = MAX_LOGINS + each * recent.count();
        trace.check(logins <= most, || {
            format!("{logins} logins within {CHECK_INTERVAL:?}, at most {most} expected")
        });
        self.processes.iter().for_each(|it| it.gateway.check());
    }

    /// Waits for the end of all requests, then ends the processes.
    async fn end(mut self) {
        let trace = Arc::clone(&self.outside.trace);
        for process in &mut self.processes {
            let callers = &mut process.tasks.callers;
            let ending = async {
                while let Some(ended) = callers.join_next().await {
                    trace.check(ended.is_ok(), || format!("{ended:?}"));
                }
            };
            let ended = timeout(MAX_REQUEST, ending).await;
            trace.check(ended.is_ok(), || "a request does not end".to_owned());
        }
        for Process { gateway, tasks, .. } in &mut self.processes {
            gateway.check_idle();
            if let Some(fleet) = &gateway.fleet {
                let is_joined = simulated::is_joined(fleet);
                trace.check(is_joined, || "a replica has not joined".to_owned());
                simulated::bye(fleet).await;
                let ended = timeout(MAX_BYE, tasks.link.join_next()).await;
                trace.check(matches!(ended, Ok(Some(Ok(())))), || format!("{ended:?}"));
            }
            let keeper = tasks.keeper.try_join_next();
            trace.check(keeper.is_none(), || format!("{keeper:?}"));
        }
        let in_flight = self.outside.cloud.in_flight();
        trace.check(in_flight == 0, || format!("{in_flight} requests in flight"));
        let store = self.outside.store.clone();
        let is_idle = store.is_none_or(|store| store.is_idle());
        trace.check(is_idle, || "the store holds tickets".to_owned());
        drop(self);
        // Messages on their way.
        sleep(Duration::from_secs(5)).await;
    }
}

/// Returns the name of an action in the trace.
fn kind(action: Action) -> &'static str {
    match action {
        Action::Fail(None) => "token service works",
        Action::Fail(Some(_)) => "token service fails",
        Action::Refuse(None) => "service works",
        Action::Refuse(Some(_)) => "service fails",
        Action::Revoke => "tokens revoked",
        Action::SetClock(..) => "clock set",
        Action::AddSecret(_) => "secret added",
        Action::UseSecret(..) => "secret configured",
        Action::RemoveSecretsBefore(_) => "secret removed",
        Action::Reload(_) => "reload",
        Action::RequestLogin(_) => "login requested",
        Action::Restart(_) => "restart",
        Action::Stop(_, true) => "process stopped",
        Action::Stop(_, false) => "process continued",
        Action::Leave(_) => "drain",
        Action::Store(fault) => match fault {
            StoreFault::Flush => "store flushed",
            StoreFault::Stop(_) => "store stopped",
            StoreFault::Restart(..) => "store restarted",
            StoreFault::SetClock(_) => "store's clock set",
            StoreFault::Slow(..) => "store slow",
            StoreFault::Reset => "connections to the store reset",
            StoreFault::CutOff(..) => "replica cut off from the store",
        },
        Action::Check => "check",
    }
}

/// Returns the steps of a plan with their times.
fn actions(plan: &Plan) -> Vec<(Duration, Action)> {
    let mut actions = Vec::new();
    let mut secret = 1;
    for (at, fault) in plan.faults.iter().copied() {
        let mut add = |after: Duration, action| actions.push((at + after, action));
        let now = Duration::ZERO;
        match fault {
            Fault::TokenService(failure, length) => {
                add(now, Action::Fail(Some(failure)));
                add(length, Action::Fail(None));
            }
            Fault::Service(refusal, length) => {
                add(now, Action::Refuse(Some(refusal)));
                add(length, Action::Refuse(None));
            }
            Fault::Revoke => add(now, Action::Revoke),
            Fault::SetClock(replica, by) => add(now, Action::SetClock(replica, by)),
            Fault::Rotate {
                reload_after,
                invalid_after,
            } => {
                secret += 1;
                add(now, Action::AddSecret(secret));
                add(invalid_after, Action::RemoveSecretsBefore(secret));
                for replica in 0..plan.replicas {
                    add(reload_after, Action::UseSecret(replica, secret));
                }
            }
            Fault::Reload(replica) => add(now, Action::Reload(replica)),
            Fault::RequestLogin(replica) => add(now, Action::RequestLogin(replica)),
            Fault::Restart(replica) => add(now, Action::Restart(replica)),
            Fault::Drain(replica) => {
                add(now, Action::Leave(replica));
                add(DRAIN, Action::Restart(replica));
            }
            Fault::Store(fault) => add(now, Action::Store(fault)),
            Fault::Pause(replica, length) => {
                add(now, Action::Stop(replica, true));
                add(length, Action::Stop(replica, false));
            }
        }
    }
    let mut at = CHECK_INTERVAL;
    while at < plan.length {
        actions.push((at, Action::Check));
        at += CHECK_INTERVAL;
    }
    actions.sort_by_key(|(at, _)| *at);
    actions
}
