//! Fleets in simulated time, with delays, losses, pauses and faults of the store.

mod citrix;
mod replay;
mod store;
mod world;

use std::time::Duration;

use self::citrix::PER_SECOND;
use self::world::{Fault, Scenario, World};

const QUIET: Scenario = Scenario {
    seed: 1,
    machines: 3,
    queues: 1,
    pollers: 20,
    query: Duration::from_millis(200),
    length: Duration::from_secs(30),
    warm_up: Duration::ZERO,
    rates: 0,
    rate_callers: 0,
    identities: 0,
    token_lifetime: Duration::from_secs(60),
    invalid_secrets: 0,
    gates: 0,
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
    Fault::Revoke,
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
fn rate_is_used_up_and_not_exceeded_by_many_replicas() {
    let mut world = World::new(Scenario {
        machines: 20,
        pollers: 0,
        rates: 3,
        rate_callers: 40,
        length: Duration::from_secs(60),
        ..QUIET
    });
    let report = world.run();
    // Callers begin within 5 s.
    let least = 3 * 55 * PER_SECOND as usize;
    assert!(report.sent >= least, "{report:?}");
    assert_eq!(
        (report.timeouts, report.never, report.sent_alone),
        (0, 0, 0)
    );
    // The variation of delays.
    assert!(report.excess <= Duration::from_millis(300), "{report:?}");
}

#[test]
fn replicas_log_in_once_for_each_lifetime_and_once_after_a_revocation() {
    let scenario = Scenario {
        machines: 50,
        pollers: 0,
        identities: 4,
        length: Duration::from_secs(300),
        ..QUIET
    };
    let report = World::new(scenario).run();
    assert_eq!(report.logins_excused, 0, "{report:?}");
    // A login each 36.5 s at the earliest.
    assert!((4 * 8..=4 * 9).contains(&report.logins), "{report:?}");
    let scheduled = report.logins;
    let report = World::new(Scenario {
        faults: &[Fault::Revoke],
        fault_interval: Duration::from_secs(20),
        ..scenario
    })
    .run();
    assert!(report.logins_excused > 5, "{report:?}");
    assert!(
        report.logins <= scheduled + report.logins_excused,
        "{report:?}"
    );
    assert!(
        report.longest_without_token <= Duration::from_secs(2),
        "{report:?}"
    );
}

#[test]
fn invalid_secret_of_many_replicas_is_tried_as_often_as_that_of_one() {
    let attempts = [1, 20].map(|machines| {
        let mut world = World::new(Scenario {
            machines,
            pollers: 0,
            identities: 1,
            invalid_secrets: 1,
            length: Duration::from_secs(120),
            ..QUIET
        });
        world.run().rejected_logins
    });
    let [of_one, of_many] = attempts;
    assert!(of_one > 8 && of_many <= of_one, "{attempts:?}");
}

#[test]
fn one_rejection_closes_the_gate_of_all_replicas() {
    let mut world = World::new(Scenario {
        machines: 20,
        pollers: 0,
        gates: 5,
        length: Duration::from_secs(120),
        ..QUIET
    });
    let report = world.run();
    assert!(report.busy_times > 20, "{report:?}");
    // Requests that were sent before the announcement arrived.
    let most = report.busy_times * 3 / 2;
    let range = report.busy_times..=most;
    assert!(range.contains(&report.rejections), "{report:?}");
}

#[test]
fn clock_that_is_set_back_holds_no_gate_closed() {
    let mut world = World::new(Scenario {
        machines: 10,
        pollers: 0,
        gates: 20,
        length: Duration::from_secs(300),
        faults: &[Fault::SetClock(-3600)],
        fault_interval: Duration::from_secs(5),
        ..QUIET
    });
    let report = world.run();
    assert!(report.busy_times > 300, "{report:?}");
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
                length: Duration::from_secs(50),
                warm_up: Duration::ZERO,
                rates: 2,
                rate_callers: 12,
                identities: 5,
                token_lifetime: Duration::from_secs(30),
                invalid_secrets: 1,
                gates: 2,
                lost_pushes: 0.01,
                faults: std::slice::from_ref(fault),
                fault_interval: Duration::from_secs(13),
            });
            let report = world.run();
            let bad = (report.timeouts, report.never, report.lost);
            assert_eq!(bad, (0, 0, 0), "{fault:?} {report:?}");
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
            length: Duration::from_secs(180),
            warm_up: Duration::ZERO,
            rates: 4,
            rate_callers: 20,
            identities: 10,
            token_lifetime: Duration::from_secs(30),
            invalid_secrets: 2,
            gates: 3,
            lost_pushes: 0.05,
            faults: FAULTS,
            fault_interval: Duration::from_secs(4),
        });
        world.run();
    }
}

/// The paper load: all queues and rates saturated.
const SATURATED: Scenario = Scenario {
    machines: 1000,
    queues: 1000,
    pollers: 10_000,
    query: Duration::from_secs(1),
    length: Duration::from_secs(90),
    warm_up: Duration::from_secs(30),
    rates: 1000,
    rate_callers: 60,
    identities: 1000,
    token_lifetime: Duration::from_hours(1),
    lost_pushes: 0.01,
    fault_interval: Duration::from_secs(8),
    ..QUIET
};

/// Four minutes of processor time: `cargo test --release -p fleet-protocol -- --ignored --nocapture thousand_replicas_and`.
#[test]
#[ignore = "large; run in a release build"]
fn thousand_replicas_and_thousand_customers_keep_the_invariants() {
    let faults = Scenario {
        faults: FAULTS,
        ..SATURATED
    };
    let logins = Scenario {
        pollers: 0,
        rates: 0,
        length: Duration::from_mins(90),
        warm_up: Duration::from_mins(30),
        ..SATURATED
    };
    for (name, scenario) in [
        ("saturated", SATURATED),
        ("faults", faults),
        ("logins", logins),
    ] {
        let report = World::new(scenario).run();
        let seconds = (scenario.length - scenario.warm_up).as_secs_f64();
        for (kind, count) in &report.commands_by_kind {
            let count = f64::from(u32::try_from(*count).unwrap());
            eprintln!("{name}: {:.1} {kind} a second", count / seconds);
        }
        eprintln!("{name}: {report:?}");
    }
}
