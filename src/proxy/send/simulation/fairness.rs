//! The order in which callers are admitted.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// The admissions of each caller.
#[derive(Default)]
pub(super) struct Fairness(Mutex<State>);

#[derive(Default)]
struct State {
    admitted: BTreeMap<usize, usize>,
    /// Requests in the queue.
    queued: BTreeMap<usize, usize>,
}

/// A request in the queue.
pub(super) struct Place<'f> {
    fairness: &'f Fairness,
    caller: usize,
    /// Admissions of others before it was queued; `None` behind another one of its caller.
    others: Option<usize>,
}

impl State {
    fn others(&self, caller: usize) -> usize {
        let others = self.admitted.iter().filter(|(other, _)| **other != caller);
        others.map(|(_, count)| count).sum()
    }
}

impl Fairness {
    pub(super) fn queued(&self, caller: usize) -> Place<'_> {
        let mut state = self.0.lock().unwrap();
        let others = state.others(caller);
        let count = state.queued.entry(caller).or_default();
        let is_first = *count == 0;
        *count += 1;
        Place {
            fairness: self,
            caller,
            others: is_first.then_some(others),
        }
    }

    pub(super) fn admitted(&self, caller: usize) {
        *self.0.lock().unwrap().admitted.entry(caller).or_default() += 1;
    }
}

impl Place<'_> {
    /// Returns the number of requests of others that were admitted while this one was the first of
    /// its caller.
    pub(super) fn admitted(self) -> usize {
        let now = self.fairness.0.lock().unwrap().others(self.caller);
        self.others.map_or(0, |before| now - before)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.fairness.0.lock().unwrap();
        *state.queued.get_mut(&self.caller).unwrap() -= 1;
    }
}
