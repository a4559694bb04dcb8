//! Replicas of the gateway in simulated time, through faults that a seed draws: the token keeper and
//! its slot, the queue of a limit and its permits, gates, and forced logins after a 401. Only Citrix
//! and the clocks are emulated.

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
use std::env;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;

use self::plan::Plan;
use self::trace::Trace;
use self::world::World;

/// The seeds of each test run.
const SEEDS: std::ops::Range<u64> = 0..1000;

/// The result of a run that kept all invariants.
struct Report {
    hash: u64,
    simulated: Duration,
    counts: BTreeMap<&'static str, u64>,
    faults: usize,
}

/// Runs a seed.
///
/// # Panics
/// If an invariant does not hold, with the plan, the last events, and the command that repeats it.
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
    if let Some(failure) = trace.failure() {
        panic!(
            "seed {seed} failed {failure}\n{plan:#?}\n{}\
             repeat it: SEED={seed} cargo test --lib simulation::seeds -- --nocapture",
            trace.last()
        );
    }
    Report {
        hash: trace.hash(),
        simulated,
        counts: trace.counts(),
        faults: plan.faults.len(),
    }
}

/// Runs seeds one after another, and prints what happened.
fn run_all(seeds: impl Iterator<Item = u64>) {
    let (mut runs, mut simulated, mut faults) = (0_u64, Duration::ZERO, 0);
    let mut counts = BTreeMap::<_, u64>::new();
    for seed in seeds {
        let report = run(seed, false);
        runs += 1;
        simulated += report.simulated;
        faults += report.faults;
        for (kind, count) in report.counts {
            *counts.entry(kind).or_default() += count;
        }
    }
    let days = simulated.as_secs() / 86_400;
    eprintln!("{runs} seeds, {days} simulated days, {faults} faults: {counts:?}");
}

#[test]
fn seeds_keep_the_invariants() {
    match env::var("SEED") {
        Ok(seed) => drop(run(seed.parse().unwrap(), true)),
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
