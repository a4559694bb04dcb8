//! Queues: one ticket for each caller with waiting requests, and the permits in use.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use super::link::{Io, Purpose};
use super::{Output, PermitId, Settings, State};
use crate::command::{Beat, Bye, Command, Enter, Leave, QueueLimit, QueueTickets};
use crate::name::{Name, Ticket};
use crate::reply::{BeatReply, Body};
use crate::spacing::Spacing;
use crate::time::Time;

/// Maximum number of tickets in one heartbeat; more are divided, so that no script runs for long.
const MAX_TICKETS_PER_BEAT: usize = 256;
/// Maximum number of tickets that ended without a connection and are reported later. The leases of
/// others expire.
const MAX_ENDED: usize = 1024;

/// All queues with waiting requests or permits in use.
#[derive(Debug)]
pub(super) struct Permits {
    queues: BTreeMap<Name, Queue>,
    /// Queue and caller of each ticket that waits, by its number.
    waiting: BTreeMap<u64, (Name, Name)>,
    /// Queue of each permit in use.
    held: BTreeMap<u64, Name>,
    ended: VecDeque<Leave>,
    /// When queues with waiting requests may grant again, while alone.
    spaced: BTreeSet<(Time, Name)>,
    next_number: u64,
    settings: Settings,
    jitter: fastrand::Rng,
}

#[derive(Debug)]
struct Queue {
    limit: QueueLimit,
    /// Callers with waiting requests, the first to wait first.
    order: VecDeque<Name>,
    /// Their tickets.
    callers: BTreeMap<Name, Option<Ticket>>,
    held: BTreeMap<u64, Held>,
    /// Next grant while alone.
    opens: Time,
}

#[derive(Debug)]
struct Held {
    ticket: Ticket,
    caller: Name,
    since: Time,
    /// Whether the store may know it.
    known: bool,
}

impl Queue {
    fn remove_caller(&mut self, caller: Name) -> Option<Option<Ticket>> {
        self.order.retain(|other| *other != caller);
        self.callers.remove(&caller)
    }

    fn is_unused(&self) -> bool {
        self.callers.is_empty() && self.held.is_empty()
    }

    fn leave(&self, queue: Name, ticket: Ticket, caller: Name) -> Leave {
        Leave {
            queue,
            ticket,
            caller,
            at_once: self.limit.at_once,
        }
    }
}

impl Permits {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            queues: BTreeMap::new(),
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
            ended: VecDeque::new(),
            spaced: BTreeSet::new(),
            next_number: 1,
            settings,
            jitter: fastrand::Rng::with_seed(settings.seed),
        }
    }

    pub(super) fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub(super) fn tickets(&self) -> (usize, usize) {
        (self.held.len(), self.waiting.len())
    }

    pub(super) fn wanted(&mut self, io: &mut Io<'_>, name: Name, limit: QueueLimit, caller: Name) {
        let queue = self.queues.entry(name).or_insert_with(|| Queue {
            limit,
            order: VecDeque::new(),
            callers: BTreeMap::new(),
            held: BTreeMap::new(),
            opens: io.now,
        });
        queue.limit = limit;
        if queue.callers.contains_key(&caller) {
            return;
        }
        queue.callers.insert(caller, None);
        queue.order.push_back(caller);
        if io.link.is_joined() {
            self.enter(io, name, caller);
        } else {
            self.grant_alone(io, name);
        }
    }

    pub(super) fn unwanted(&mut self, io: &mut Io<'_>, name: Name, caller: Name) {
        let Some(queue) = self.queues.get_mut(&name) else {
            return;
        };
        let ticket = queue.remove_caller(caller).flatten();
        let leave = ticket.map(|ticket| queue.leave(name, ticket, caller));
        if let Some(leave) = leave {
            self.waiting.remove(&leave.ticket.number);
            self.leave(io, leave);
        }
        self.remove_unused(io, name);
    }

    /// Records that a use of a permit begins, in place of an earlier use.
    pub(super) fn used(&mut self, io: &Io<'_>, permit: PermitId) {
        let queue = self.held.get(&permit.0);
        let queue = queue.and_then(|name| self.queues.get_mut(name));
        if let Some(held) = queue.and_then(|queue| queue.held.get_mut(&permit.0)) {
            held.since = io.now;
        }
    }

    pub(super) fn released(&mut self, io: &mut Io<'_>, permit: PermitId) {
        let Some(name) = self.held.remove(&permit.0) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(&name) else {
            return;
        };
        if let Some(held) = queue.held.remove(&permit.0) {
            let length = io.now.since(held.since);
            let spacing = Spacing::new(io.link.assumed_replicas(), queue.limit.timeout);
            queue.opens = io.now + spacing.rest(length, self.jitter.f64());
            if held.known {
                let leave = queue.leave(name, held.ticket, held.caller);
                self.leave(io, leave);
            }
        }
        self.grant_alone(io, name);
        self.remove_unused(io, name);
    }

    fn remove_unused(&mut self, io: &Io<'_>, name: Name) {
        let spaced = |queue: &Queue| io.link.state() == State::Alone && queue.opens > io.now;
        let unused = |queue: &Queue| queue.is_unused() && !spaced(queue);
        if self.queues.get(&name).is_some_and(unused) {
            self.queues.remove(&name);
        }
    }

    /// Requests a permit for a caller without a ticket.
    fn enter(&mut self, io: &mut Io<'_>, name: Name, caller: Name) {
        let ticket = self.new_ticket(io);
        let Some(queue) = self.queues.get_mut(&name) else {
            return;
        };
        queue.callers.insert(caller, Some(ticket));
        self.waiting.insert(ticket.number, (name, caller));
        let enter = Enter {
            queue: name,
            ticket,
            caller,
            limit: queue.limit,
            deadline: io.deadline(),
        };
        io.send(Command::Enter(enter), Purpose::Enter(name, ticket));
    }

    fn new_ticket(&mut self, io: &Io<'_>) -> Ticket {
        let number = self.next_number;
        self.next_number += 1;
        Ticket {
            arrived: io.link.store_time(io.now),
            replica: self.settings.replica,
            number,
        }
    }

    fn leave(&mut self, io: &mut Io<'_>, leave: Leave) {
        if io.link.is_up() {
            io.send(Command::Leave(leave), Purpose::Leave);
        } else {
            if self.ended.len() == MAX_ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(leave);
        }
    }

    /// Gives a permit to a caller.
    fn grant(&mut self, io: &mut Io<'_>, name: Name, caller: Name, ticket: Ticket, by: State) {
        let Some(queue) = self.queues.get_mut(&name) else {
            return;
        };
        queue.remove_caller(caller);
        self.waiting.remove(&ticket.number);
        self.held.insert(ticket.number, name);
        let held = Held {
            ticket,
            caller,
            since: io.now,
            known: by == State::Joined,
        };
        queue.held.insert(ticket.number, held);
        io.out.push(Output::Granted {
            queue: name,
            caller,
            permit: PermitId(ticket.number),
            by,
        });
    }

    pub(super) fn entered(&mut self, io: &mut Io<'_>, entered: (Name, Ticket), body: &Body) {
        let (queue, ticket) = entered;
        // Without an entry it was left, or announced before.
        let Some(&(name, caller)) = self.waiting.get(&ticket.number) else {
            if matches!(body, Body::Go) {
                self.announced(io, queue, ticket);
            }
            return;
        };
        match body {
            Body::Go if io.link.is_fresh(io.now) => {
                self.grant(io, name, caller, ticket, State::Joined);
            }
            Body::Crowded => self.forget_ticket(name, caller, ticket),
            Body::Late => {
                self.forget_ticket(name, caller, ticket);
                self.enter(io, name, caller);
            }
            _ => {}
        }
    }

    /// The next heartbeat enters for the caller again.
    fn forget_ticket(&mut self, name: Name, caller: Name, ticket: Ticket) {
        self.waiting.remove(&ticket.number);
        if let Some(queue) = self.queues.get_mut(&name) {
            queue.callers.insert(caller, None);
        }
    }

    /// Accepts a permit that the store announced, or declines it.
    pub(super) fn announced(&mut self, io: &mut Io<'_>, name: Name, ticket: Ticket) {
        if let Some(&(name, caller)) = self.waiting.get(&ticket.number) {
            if io.link.is_fresh(io.now) {
                self.grant(io, name, caller, ticket, State::Joined);
            }
        } else if !self.held.contains_key(&ticket.number) {
            let at_once = self
                .queues
                .get(&name)
                .map_or(1, |queue| queue.limit.at_once);
            let leave = Leave {
                queue: name,
                ticket,
                caller: name,
                at_once,
            };
            self.leave(io, leave);
        }
    }

    /// Processes the results of a heartbeat. A ticket in it that is not known any more was left
    /// after it was sent.
    pub(super) fn heard(&mut self, io: &mut Io<'_>, beat: BeatReply) {
        let fresh = io.link.is_fresh(io.now);
        for ticket in beat.go.into_iter().filter(|_| fresh) {
            if let Some(&(name, caller)) = self.waiting.get(&ticket.number) {
                io.out.push(Output::PushMissed);
                self.grant(io, name, caller, ticket, State::Joined);
            }
        }
        for ticket in beat.gone {
            if let Some(&(name, caller)) = self.waiting.get(&ticket.number) {
                self.forget_ticket(name, caller, ticket);
                if io.link.is_joined() {
                    self.enter(io, name, caller);
                }
            }
        }
        for ticket in beat.lost {
            let number = ticket.number;
            let queue = self
                .held
                .get(&number)
                .and_then(|name| self.queues.get_mut(name));
            if let Some(held) = queue.and_then(|queue| queue.held.get_mut(&number)) {
                held.known = false;
                io.out.push(Output::Lost(PermitId(number)));
            }
        }
    }

    /// Sends heartbeats with all tickets.
    pub(super) fn beat(&mut self, io: &mut Io<'_>) {
        let joins = !io.link.is_joined();
        let mut beats = 0;
        for queues in self.reports(joins) {
            let beat = Beat {
                replica: self.settings.replica,
                key: self.settings.key,
                run: io.link.run,
                joins,
                queues,
                deadline: io.deadline(),
            };
            io.send(Command::Beat(beat), Purpose::Beat);
            beats += 1;
        }
        io.link.beats_sent(io.now, beats);
        if !joins {
            self.enter_all(io);
        }
    }

    /// Returns the tickets in parts, at least one. Those of permits that were lost are not reported
    /// until the replica joins again.
    fn reports(&mut self, joins: bool) -> Vec<Vec<QueueTickets>> {
        let mut reports = vec![Vec::new()];
        let mut size = 0;
        for (name, queue) in &mut self.queues {
            if joins {
                queue.held.values_mut().for_each(|held| held.known = true);
            }
            let held = queue.held.values().filter(|held| held.known);
            let tickets = QueueTickets {
                queue: *name,
                at_once: queue.limit.at_once,
                held: held.map(|held| held.ticket).collect(),
                waiting: queue.callers.values().copied().flatten().collect(),
            };
            let count = tickets.all().count();
            if count == 0 {
                continue;
            }
            if size > 0 && size + count > MAX_TICKETS_PER_BEAT {
                reports.push(Vec::new());
                size = 0;
            }
            size += count;
            if let Some(last) = reports.last_mut() {
                last.push(tickets);
            }
        }
        reports
    }

    /// Enters for all callers without a ticket.
    fn enter_all(&mut self, io: &mut Io<'_>) {
        let without = |(name, queue): (&Name, &Queue)| {
            let callers = queue.order.iter().copied();
            let without = callers.filter(|caller| queue.callers.get(caller) == Some(&None));
            without.map(|caller| (*name, caller)).collect::<Vec<_>>()
        };
        let without: Vec<_> = self.queues.iter().flat_map(without).collect();
        for (name, caller) in without {
            self.enter(io, name, caller);
        }
    }

    /// Continues with the store: reports what ended without it, and enters what waits.
    pub(super) fn joined(&mut self, io: &mut Io<'_>) {
        for leave in mem::take(&mut self.ended) {
            self.leave(io, leave);
        }
        self.spaced.clear();
        self.queues.retain(|_, queue| !queue.is_unused());
        self.enter_all(io);
    }

    /// Continues without the store. Tickets that wait in it are void, and are left when the replica
    /// joins again: a store that was out of reach may still have them.
    pub(super) fn become_alone(&mut self, io: &mut Io<'_>) {
        for (name, caller) in mem::take(&mut self.waiting).into_values() {
            let queue = self.queues.get(&name);
            let ticket = queue.and_then(|queue| queue.callers.get(&caller).copied().flatten());
            if let Some((queue, ticket)) = queue.zip(ticket) {
                self.leave(io, queue.leave(name, ticket, caller));
            }
        }
        let names: Vec<Name> = self.queues.keys().copied().collect();
        for name in names {
            if let Some(queue) = self.queues.get_mut(&name) {
                queue.callers.values_mut().for_each(|ticket| *ticket = None);
            }
            self.grant_alone(io, name);
        }
    }

    /// Grants what may be granted without a store.
    fn grant_alone(&mut self, io: &mut Io<'_>, name: Name) {
        while io.link.decides() {
            let Some(queue) = self.queues.get(&name) else {
                return;
            };
            let Some(&caller) = queue.order.front() else {
                return;
            };
            if queue.held.len() >= usize::try_from(queue.limit.at_once).unwrap_or(usize::MAX) {
                return;
            }
            if queue.opens > io.now {
                self.spaced.insert((queue.opens, name));
                return;
            }
            let ticket = self.new_ticket(io);
            self.grant(io, name, caller, ticket, State::Alone);
        }
    }

    /// Returns when the next queue may grant while alone.
    pub(super) fn wake_at(&self) -> Option<Time> {
        self.spaced.first().map(|(time, _)| *time)
    }

    /// Grants in queues whose wait is over.
    pub(super) fn grant_spaced(&mut self, io: &mut Io<'_>) {
        while let Some((_, name)) = self.spaced.first().copied().filter(|(at, _)| *at <= io.now) {
            self.spaced.pop_first();
            self.grant_alone(io, name);
            self.remove_unused(io, name);
        }
    }

    /// Passes everything on. No request is served after it.
    pub(super) fn bye(&mut self, io: &mut Io<'_>) {
        if io.link.is_up() {
            let queues = self.reports(false).into_iter().flatten().collect();
            let bye = Bye {
                replica: self.settings.replica,
                queues,
            };
            io.send(Command::Bye(bye), Purpose::Bye);
        } else {
            io.out.push(Output::Disconnect);
        }
        self.queues.clear();
        self.waiting.clear();
        self.held.clear();
    }
}
