//! The record of a run: a hash of all events, the last of them for a failure, and counts.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// Events that a failure shows.
const MAX_SHOWN: usize = 80;
/// Events at one moment, beyond which no time would pass any more.
const MAX_AT_ONCE: u32 = 10_000;

/// The events of one run.
pub(super) struct Trace {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hasher: DefaultHasher,
    last: VecDeque<String>,
    last_at: Duration,
    at_once: u32,
    counts: BTreeMap<&'static str, u64>,
    failure: Option<String>,
    prints: bool,
}

impl Trace {
    pub(super) fn new(prints: bool) -> Self {
        let state = State {
            prints,
            ..State::default()
        };
        Self {
            began: Instant::now(),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns the simulated time.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Records an event of an actor, with up to two values.
    pub(super) fn record(&self, kind: &'static str, actor: usize, values: [u64; 2]) {
        let now = self.now();
        let mut state = self.lock();
        (now, kind, actor, values).hash(&mut state.hasher);
        *state.counts.entry(kind).or_default() += 1;
        state.at_once = if state.last_at == now {
            state.at_once + 1
        } else {
            0
        };
        if state.at_once >= MAX_AT_ONCE {
            drop(state);
            panic!("no time passes at {now:?}");
        }
        state.last_at = now;
        let line = format!("{:>12.3} s  {kind} {actor} {values:?}", now.as_secs_f64());
        if state.prints {
            eprintln!("{line}");
        }
        if state.last.len() >= MAX_SHOWN {
            state.last.pop_front();
        }
        state.last.push_back(line);
    }

    /// Records that an invariant does not hold. The first one counts.
    pub(super) fn fail(&self, failure: impl Into<String>) {
        let now = self.now();
        let mut state = self.lock();
        if state.failure.is_none() {
            let failure = format!("at {:.3} s: {}", now.as_secs_f64(), failure.into());
            state.last.push_back(failure.clone());
            state.failure = Some(failure);
        }
    }

    /// Fails unless `holds`.
    pub(super) fn check(&self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.fail(failure());
        }
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    pub(super) fn hash(&self) -> u64 {
        self.lock().hasher.finish()
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    /// Returns the last events, one a line.
    pub(super) fn last(&self) -> String {
        let state = self.lock();
        state.last.iter().map(|line| format!("{line}\n")).collect()
    }
}
