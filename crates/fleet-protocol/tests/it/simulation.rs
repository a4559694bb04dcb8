//! Fleets in simulated time, with delays, losses, pauses and faults of the store.

mod citrix;
mod store;
mod world;

use std::time::Duration;

use self::world::{Fault, Scenario, World};

const QUIET: Scenario = Scenario {
    seed: 1,
    machines: 3,
    queues: 1,
    pollers: 20,
    query: Duration::from_millis(200),
    length: Duration::from_secs(30),
    lost_pushes: 0.0,
    faults: &[],
    fault_interval: Duration::from_secs(10),
};

/// All faults, some at the same time.
const FAULTS: &[Fault] = &[
    Fault::Flush,
    Fault::Stop(Duration::from_millis(1500)),
    Fault::Stop(Duration::from_secs(3)),
    Fault::Stop(Duration::from_secs(8)),
    Fault::Restart(Duration::from_millis(300)),
    Fault::Restart(Duration::from_secs(3)),
    Fault::Failover(Duration::from_millis(500)),
    Fault::Failover(Duration::from_secs(2)),
    Fault::SetClock(3600),
    Fault::SetClock(-3600),
    Fault::SetClock(-4),
    Fault::Slow(Duration::from_millis(300)),
    Fault::Slow(Duration::from_secs(2)),
    Fault::Reset,
    Fault::PauseMachine(Duration::from_secs(3)),
    Fault::PauseMachine(Duration::from_secs(10)),
    Fault::CutOff(Duration::from_secs(4)),
    Fault::CutOff(Duration::from_secs(12)),
    Fault::Kill,
    Fault::Drain,
];

#[test]
fn three_replicas_share_one_permit_fairly_without_loss_of_time() {
    let mut world = World::new(Scenario { ..QUIET });
    let report = world.run();
    assert_eq!((report.peak, report.timeouts), (1, 0));
    // A grace period of 3 s, then 5 permits a second.
    assert!(report.permits >= 120, "{report:?}");
    assert!(report.most_served - report.least_served <= 2, "{report:?}");
    assert!(report.commands <= 4 * report.permits, "{report:?}");
}

#[test]
fn all_pushes_lost_delays_each_permit_by_a_heartbeat_at_most() {
    let mut world = World::new(Scenario {
        lost_pushes: 1.0,
        ..QUIET
    });
    let report = world.run();
    assert_eq!((report.peak, report.timeouts), (1, 0));
    assert!(report.permits >= 20, "{report:?}");
}

#[test]
fn each_fault_alone_keeps_the_invariants() {
    for fault in FAULTS {
        for seed in 1..=4 {
            let mut world = World::new(Scenario {
                seed,
                machines: 4,
                queues: 3,
                pollers: 24,
                query: Duration::from_millis(700),
                length: Duration::from_secs(40),
                lost_pushes: 0.01,
                faults: std::slice::from_ref(fault),
                fault_interval: Duration::from_secs(13),
            });
            let report = world.run();
            let bad = (report.timeouts, report.lost);
            assert_eq!(bad, (0, 0), "{fault:?} {report:?}");
        }
    }
}

#[test]
fn faults_at_the_same_time_keep_the_invariants() {
    for seed in 100..110 {
        let mut world = World::new(Scenario {
            seed,
            machines: 10,
            queues: 8,
            pollers: 60,
            query: Duration::from_millis(500),
            length: Duration::from_secs(120),
            lost_pushes: 0.05,
            faults: FAULTS,
            fault_interval: Duration::from_secs(4),
        });
        world.run();
    }
}

/// Two runs of two minutes, the second with faults: `cargo test --release -p fleet-protocol -- --ignored --nocapture`.
#[test]
#[ignore = "large; run in a release build"]
fn thousand_replicas_and_thousand_customers_keep_the_invariants() {
    for (seed, faults) in [(1, &[][..]), (2, FAULTS)] {
        let mut world = World::new(Scenario {
            seed,
            machines: 1000,
            queues: 1000,
            pollers: 10_000,
            query: Duration::from_secs(1),
            length: Duration::from_secs(120),
            lost_pushes: 0.01,
            faults,
            fault_interval: Duration::from_secs(8),
        });
        eprintln!("{:?}", world.run());
    }
}
