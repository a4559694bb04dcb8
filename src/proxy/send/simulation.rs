//! Replicas of the gateway in simulated time, through faults that a seed draws: the token keeper and
//! its slot, the queue of a limit and its permits, gates, and forced logins after a 401. Citrix, the
//! clocks and the store are emulated; requests without HTTP take the steps of `queue` and `send`.

mod callers;
mod clocks;
mod cloud;
mod exchange;
mod fairness;
mod gateway;
mod pause;
mod plan;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, panic, thread};

use tokio::runtime::Builder;

use self::plan::Plan;
use self::trace::Trace;
use self::world::World;

/// The seeds of each test run.
const SEEDS: Range<u64> = 0..1000;

/// The result of a run, or of several.
#[derive(Default)]
struct Report {
    /// Seeds of the runs that did not keep all invariants.
    failed: Vec<u64>,
    hash: u64,
    simulated: Duration,
    counts: BTreeMap<&'static str, u64>,
    faults: usize,
}

impl Report {
    /// Adds that of another run. The hash is that of one run only.
    fn and(mut self, other: Self) -> Self {
        self.failed.extend(other.failed);
        self.simulated += other.simulated;
        self.faults += other.faults;
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
        self
    }
}

/// Runs a seed. If an invariant does not hold, prints the plan, the last events, and the command that
/// repeats it.
fn run(seed: u64, prints: bool) -> Report {
    fastrand::seed(seed);
    let plan = Plan::draw(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let (trace, simulated) = runtime.block_on(async {
        let trace = Arc::new(Trace::new(prints));
        World::run(&plan, &trace).await;
        let simulated = trace.now();
        (trace, simulated)
    });
    let tasks = runtime.metrics().num_alive_tasks();
    trace.check(tasks == 0, || format!("{tasks} tasks remain"));
    let failure = trace.failure();
    if let Some(failure) = &failure {
        eprintln!(
            "seed {seed} failed {failure}\n{plan:#?}\n{}\
             repeat it: SEED={seed} cargo test --lib simulation::seeds -- --nocapture",
            trace.last()
        );
    }
    Report {
        failed: failure.map(|_| seed).into_iter().collect(),
        hash: trace.hash(),
        simulated,
        counts: trace.counts(),
        faults: plan.faults.len(),
    }
}

/// Runs seeds, one after another on each processor, and prints what happened.
///
/// # Panics
/// If a run did not keep all invariants.
fn run_all(seeds: Range<u64>) {
    let (next, runs) = (AtomicU64::new(seeds.start), seeds.end - seeds.start);
    let run_next = || {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        (seed < seeds.end).then(|| {
            panic::catch_unwind(|| run(seed, false)).unwrap_or_else(|_| {
                eprintln!("seed {seed} panicked");
                Report {
                    failed: vec![seed],
                    ..Report::default()
                }
            })
        })
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let reports = thread::scope(|scope| {
        let threads: Vec<_> = (0..processors)
            .map(|_| {
                scope.spawn(|| std::iter::from_fn(run_next).fold(Report::default(), Report::and))
            })
            .collect();
        let reports = threads.into_iter().map(|thread| thread.join().unwrap());
        reports.fold(Report::default(), Report::and)
    });
    let (days, faults) = (reports.simulated.as_secs() / 86_400, reports.faults);
    eprintln!(
        "{runs} seeds, {days} simulated days, {faults} faults: {:?}",
        reports.counts
    );
    assert_eq!(reports.failed, [0; 0], "failed seeds");
}

#[test]
fn seeds_keep_the_invariants() {
    match env::var("SEED") {
        Ok(seed) => assert_eq!(run(seed.parse().unwrap(), true).failed, [0; 0]),
        Err(_) => run_all(SEEDS),
    }
}

#[test]
fn same_seed_has_the_same_trace() {
    for seed in 0..20 {
        let hashes = [(); 3].map(|()| run(seed, false).hash);
        assert_eq!(hashes, [hashes[0]; 3], "seed {seed}");
    }
}

/// `SEEDS=0..1000000 cargo test --release --lib simulation::many -- --ignored --nocapture`
#[test]
#[ignore = "takes hours; run in a release build"]
fn many_seeds_keep_the_invariants() {
    let seeds = env::var("SEEDS").unwrap_or_else(|_| "1000..11000".to_owned());
    let (from, to) = seeds.split_once("..").unwrap();
    run_all(from.parse().unwrap()..to.parse().unwrap());
}
