//! Slots of rate limits. At most one request at a time waits for a slot of a limit: the first of
//! its queue.

use std::collections::BTreeMap;

use super::link::{Io, Purpose};
use super::{Output, Slot};
use crate::command::{Command, Rate, Reserve};
use crate::name::Name;
use crate::reply::Body;
use crate::time::Time;

/// The requests that wait for a decision.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<Name, Waiting>);

#[derive(Clone, Copy, Debug)]
struct Waiting {
    rate: Rate,
    until: Time,
}

impl Rates {
    pub(super) fn reserve(&mut self, io: &mut Io<'_>, limit: Name, rate: Rate, until: Time) {
        self.0.insert(limit, Waiting { rate, until });
        self.resolve(io, limit);
    }

    pub(super) fn unreserve(&mut self, limit: Name) {
        self.0.remove(&limit);
    }

    /// Decides for each request in a changed state.
    pub(super) fn resolve_all(&mut self, io: &mut Io<'_>) {
        let limits: Vec<Name> = self.0.keys().copied().collect();
        for limit in limits {
            self.resolve(io, limit);
        }
    }

    fn resolve(&mut self, io: &mut Io<'_>, limit: Name) {
        let Some(waiting) = self.0.get(&limit).copied() else {
            return;
        };
        if io.link.decides() {
            self.0.remove(&limit);
            let slot = Slot::Share(io.link.assumed_replicas());
            io.out.push(Output::Reserved { limit, slot });
        } else if io.link.is_joined() {
            let reserve = Reserve {
                limit,
                rate: waiting.rate,
                max_wait: waiting.until.since(io.now),
                deadline: io.deadline(),
            };
            io.send(Command::Reserve(reserve), Purpose::Reserve(limit));
        }
    }

    pub(super) fn replied(&mut self, io: &mut Io<'_>, limit: Name, body: &Body) {
        let slot = match body {
            Body::At(wait) => Slot::After(*wait),
            Body::Never => Slot::Never,
            _ => return self.resolve(io, limit),
        };
        if self.0.remove(&limit).is_some() {
            io.out.push(Output::Reserved { limit, slot });
        }
    }
}
