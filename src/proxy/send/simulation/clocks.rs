//! The wall clocks of the replicas: they follow the runtime's time, and faults set them.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::plan::MAX_REPLICAS;
use crate::system::clock::Clock;

/// 2026-01-01T00:00:00Z
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    /// Each run has a thread for itself as long as it takes.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static SET_BY: [Cell<i64>; MAX_REPLICAS] = const { [const { Cell::new(0) }; MAX_REPLICAS] };
}

/// The clock of each replica.
pub(super) const CLOCKS: [Clock; MAX_REPLICAS] = [
    Clock::custom(now_of::<0>),
    Clock::custom(now_of::<1>),
    Clock::custom(now_of::<2>),
];

/// Starts a run, in which all clocks are right.
pub(super) fn start() {
    BEGAN.set(Some(Instant::now()));
    SET_BY.with(|clocks| clocks.iter().for_each(|clock| clock.set(0)));
}

/// Sets a replica's clock.
pub(super) fn set(replica: usize, by_seconds: i64) {
    SET_BY.with(|clocks| clocks[replica].set(clocks[replica].get() + by_seconds));
}

/// Returns the time on Citrix's clock.
pub(super) fn citrix() -> SystemTime {
    let began = BEGAN.get().expect("a run begins with start()");
    SystemTime::UNIX_EPOCH + EPOCH + began.elapsed()
}

fn now_of<const REPLICA: usize>() -> SystemTime {
    let by = SET_BY.with(|clocks| clocks[REPLICA].get());
    let shift = Duration::from_secs(by.unsigned_abs());
    if by < 0 {
        citrix() - shift
    } else {
        citrix() + shift
    }
}
