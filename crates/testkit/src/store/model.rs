//! The scripts once more, in Rust: what the store is expected to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fleet_protocol::command::{
    Beat, Bye, Close, Command, Enter, Fact, Finish, KeyFingerprint, Leave, LockName, Login,
    LoginResult, MAX_GATE_WAIT, MAX_LOGIN_WAIT, Members, Publish, QueueTickets, Reserve, RunId,
};
use fleet_protocol::reply::{BeatReply, Body, LoginOutcome, MembersReply, QueueState};
use fleet_protocol::time::{MAX_CLOCK_LAG, micros, millis};
use fleet_protocol::{Name, Push, Replica, Reply, StoreTime, Ticket, Timing};

/// A push and the replica that receives it; all without one.
pub type Sent = (Option<Replica>, Push);

/// The content of a store.
#[derive(Clone, Debug)]
pub struct Model {
    timing: Timing,
    /// Whether values expire by the time of commands.
    expires: bool,
    pub last: u64,
    pub grace_end: u64,
    pub run: Option<RunId>,
    pub replicas: BTreeMap<Replica, u64>,
    pub keys: BTreeMap<KeyFingerprint, u64>,
    pub queues: BTreeMap<Name, Queue>,
    rates: BTreeMap<Name, u64>,
    gates: BTreeMap<Name, u64>,
    /// With the times at which they were set.
    locks: Expiring<Name, (LockName, u64)>,
    /// End of the interval between forced logins.
    forced: Expiring<Name, u64>,
    /// End of the wait, and the time at which it was set.
    throttled: BTreeMap<Name, (u64, u64)>,
    /// With the times at which they were set.
    rejected: Expiring<(Name, Name), (Vec<u8>, u64)>,
    facts: Expiring<Fact, Vec<u8>>,
    // Of the current command.
    now: u64,
    in_grace: bool,
    pushes: Vec<Sent>,
}

/// Values that expire.
#[derive(Clone, Debug)]
struct Expiring<K, V>(BTreeMap<K, (V, u64)>);

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V> Expiring<K, V> {
    fn get(&self, now: u64, key: &K) -> Option<&V> {
        let (value, until) = self.0.get(key)?;
        (*until > now).then_some(value)
    }

    fn set(&mut self, now: u64, key: K, value: V, lifetime: Duration) {
        self.0.insert(key, (value, now + millis(lifetime).max(1)));
    }

    fn remove(&mut self, key: &K) {
        self.0.remove(key);
    }
}

#[derive(Clone, Debug, Default)]
pub struct Queue {
    pub holders: BTreeMap<Ticket, u64>,
    pub waiting: BTreeSet<(u64, Ticket)>,
    pub tags: BTreeMap<Name, u64>,
    pub served: Option<u64>,
}

impl Queue {
    fn hold(&mut self, ticket: Ticket, tag: u64, lease_end: u64) {
        self.holders.insert(ticket, lease_end);
        self.tags.retain(|_, of_caller| *of_caller > tag);
        self.served = Some(tag);
    }

    fn tag_of(&self, ticket: Ticket) -> Option<u64> {
        let mut waiting = self.waiting.iter();
        waiting
            .find(|(_, other)| *other == ticket)
            .map(|(tag, _)| *tag)
    }
}

impl Model {
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            expires: true,
            last: 0,
            grace_end: 0,
            run: None,
            replicas: BTreeMap::new(),
            keys: BTreeMap::new(),
            queues: BTreeMap::new(),
            rates: BTreeMap::new(),
            gates: BTreeMap::new(),
            locks: Expiring::default(),
            forced: Expiring::default(),
            throttled: BTreeMap::new(),
            rejected: Expiring::default(),
            facts: Expiring::default(),
            now: 0,
            in_grace: false,
            pushes: Vec::new(),
        }
    }

    /// Returns an empty store whose values do not expire: a server does not know the time of
    /// commands.
    pub fn without_expiry(timing: Timing) -> Self {
        Self {
            expires: false,
            ..Self::new(timing)
        }
    }

    /// Runs a command when the store's clock reads `at`, in microseconds.
    pub fn run(&mut self, at: u64, command: &Command) -> (Reply, Vec<Sent>) {
        self.now = at / 1000;
        let plain = matches!(
            command,
            Command::Get(_) | Command::Set(_) | Command::Mark(_)
        );
        let body = match command {
            Command::Enter(enter) => self.enter(enter),
            Command::Leave(leave) => self.leave(leave),
            Command::Beat(beat) => self.beat(beat),
            Command::Bye(bye) => self.bye(bye),
            Command::Reserve(reserve) => self.reserve(at, reserve),
            Command::Close(close) => self.close(close),
            Command::Gates => self.closed_gates(),
            Command::Login(login) => self.login(login),
            Command::Finish(finish) => self.finish(finish),
            Command::Publish(publish) => self.publish(publish),
            Command::Members(members) => self.members(members),
            Command::Get(fact) => Body::Value(self.facts.get(self.expiry(), fact).cloned()),
            Command::Set(set) => {
                let value = set.value.clone();
                self.facts.set(self.now, set.fact, value, set.lifetime);
                Body::Written(true)
            }
            Command::Mark(mark) => {
                let absent = self.facts.get(self.expiry(), &mark.fact).is_none();
                if absent {
                    let value = b"1".to_vec();
                    self.facts.set(self.now, mark.fact, value, mark.lifetime);
                }
                Body::Written(absent)
            }
        };
        let now = (!plain).then_some(StoreTime(self.now));
        (Reply { now, body }, std::mem::take(&mut self.pushes))
    }

    /// Returns the time until which values have expired.
    fn expiry(&self) -> u64 {
        if self.expires { self.now } else { 0 }
    }

    fn lease(&self) -> u64 {
        millis(self.timing.lease)
    }

    fn grace(&self) -> u64 {
        millis(self.timing.grace_period())
    }

    fn start_grace_period(&mut self) {
        self.in_grace = true;
        self.grace_end = self.now + self.grace();
    }

    fn begin(&mut self) {
        self.in_grace = self.grace_end > self.now && self.grace_end <= self.now + self.grace();
        if self.now.abs_diff(self.last) > millis(self.timing.silence()) {
            self.start_grace_period();
        }
    }

    fn pump(&mut self, name: Name, at_once: u32) {
        let (now, lease) = (self.now, self.lease());
        let latest = now + lease + millis(self.timing.silence());
        if self.in_grace {
            return;
        }
        let Some(queue) = self.queues.get_mut(&name) else {
            return;
        };
        queue.holders.retain(|_, end| *end > now && *end <= latest);
        while queue.holders.len() < at_once as usize {
            let Some((tag, ticket)) = queue.waiting.pop_first() else {
                return;
            };
            let alive = self.replicas.get(&ticket.replica);
            if alive.is_some_and(|until| *until > now && *until <= now + lease) {
                queue.hold(ticket, tag, now + lease);
                let go = Push::Go {
                    queue: name,
                    ticket,
                };
                self.pushes.push((Some(ticket.replica), go));
            }
        }
    }

    fn enter(&mut self, enter: &Enter) -> Body {
        self.begin();
        if self.now > enter.deadline.0 {
            return Body::Late;
        }
        self.pump(enter.queue, enter.limit.at_once);
        let (in_grace, lease_end) = (self.in_grace, self.now + self.lease());
        let queue = self.queues.entry(enter.queue).or_default();
        let lowest = queue.waiting.first().map(|(tag, _)| tag - 1);
        let served = queue.served.or(lowest).unwrap_or(0);
        let own = queue.tags.get(&enter.caller).copied().unwrap_or(0);
        let tag = own.max(served) + 1;
        let free = queue.holders.len() < enter.limit.at_once as usize;
        if !in_grace && queue.waiting.is_empty() && free {
            queue.hold(enter.ticket, tag, lease_end);
            return Body::Go;
        }
        if queue.waiting.len() >= enter.limit.room as usize {
            return Body::Crowded;
        }
        queue.tags.insert(enter.caller, tag);
        queue.waiting.insert((tag, enter.ticket));
        Body::Wait
    }

    fn leave(&mut self, leave: &Leave) -> Body {
        self.begin();
        if let Some(queue) = self.queues.get_mut(&leave.queue) {
            queue.holders.remove(&leave.ticket);
            if let Some(tag) = queue.tag_of(leave.ticket) {
                queue.waiting.remove(&(tag, leave.ticket));
                if let Some(own) = queue.tags.get_mut(&leave.caller).filter(|own| **own == tag) {
                    *own -= 1;
                }
            }
        }
        self.pump(leave.queue, leave.at_once);
        Body::Left
    }

    fn beat(&mut self, beat: &Beat) -> Body {
        self.begin();
        if self.now > beat.deadline.0 {
            return Body::Late;
        }
        if beat.joins && beat.run.is_some() && beat.run != self.run {
            self.start_grace_period();
        }
        self.run = beat.run.or(self.run);
        if self.last > self.now + self.lease() {
            self.gates.clear();
        }
        self.last = self.now;
        let (now, alive, latest) = (self.now, self.now + self.grace(), self.now + self.lease());
        self.replicas
            .retain(|_, until| *until > now && *until <= latest);
        self.replicas.insert(beat.replica, alive);
        self.keys
            .retain(|_, until| *until > now && *until <= latest);
        self.keys.insert(beat.key, alive);
        let mut reply = BeatReply {
            replicas: u32::try_from(self.replicas.len()).unwrap(),
            keys: u32::try_from(self.keys.len()).unwrap(),
            ..BeatReply::default()
        };
        for tickets in &beat.queues {
            self.report(beat.joins, tickets, &mut reply);
        }
        Body::Beat(reply)
    }

    fn report(&mut self, joins: bool, tickets: &QueueTickets, reply: &mut BeatReply) {
        let (now, lease_end) = (self.now, self.now + self.lease());
        let accepts = joins || self.in_grace;
        let queue = self.queues.entry(tickets.queue).or_default();
        for ticket in &tickets.held {
            let current = queue.holders.values().filter(|end| **end > now).count();
            let known = accepts || queue.holders.contains_key(ticket);
            if known || current < tickets.at_once as usize {
                queue.holders.insert(*ticket, lease_end);
                // A promoted server may know it as waiting.
                queue.waiting.retain(|(_, other)| other != ticket);
            } else {
                reply.lost.push(*ticket);
            }
        }
        self.pump(tickets.queue, tickets.at_once);
        let queue = self.queues.entry(tickets.queue).or_default();
        for ticket in &tickets.waiting {
            if let Some(end) = queue.holders.get_mut(ticket) {
                *end = lease_end;
                reply.go.push(*ticket);
            } else if queue.tag_of(*ticket).is_none() {
                reply.gone.push(*ticket);
            }
        }
    }

    fn bye(&mut self, bye: &Bye) -> Body {
        self.begin();
        self.replicas.remove(&bye.replica);
        for tickets in &bye.queues {
            let queue = self.queues.entry(tickets.queue).or_default();
            for ticket in tickets.all() {
                queue.holders.remove(ticket);
                queue.waiting.retain(|(_, other)| other != ticket);
            }
            self.pump(tickets.queue, tickets.at_once);
        }
        Body::Left
    }

    fn reserve(&mut self, at: u64, reserve: &Reserve) -> Body {
        if self.now > reserve.deadline.0 {
            return Body::Late;
        }
        let rate = reserve.rate;
        let mut next = self.rates.get(&reserve.limit).copied().unwrap_or(0).max(at);
        if next - at > micros(rate.burst) + micros(rate.timeout) {
            next = at;
        }
        let wait = (next - at).saturating_sub(micros(rate.burst));
        if wait > micros(reserve.max_wait) {
            return Body::Never;
        }
        self.rates
            .insert(reserve.limit, next + micros(rate.interval));
        Body::At(Duration::from_micros(wait))
    }

    fn close(&mut self, close: &Close) -> Body {
        let latest = self.now + millis(MAX_GATE_WAIT);
        let opens = close.until.0.min(self.now + millis(close.wait)).min(latest);
        let known = self.gates.get(&close.place).copied();
        let known = known.filter(|known| *known <= latest).unwrap_or(0);
        if opens > self.now && opens > known {
            self.gates.retain(|_, opens| *opens > self.now);
            self.gates.insert(close.place, opens);
            let gate = Push::Gate {
                place: close.place,
                wait: Duration::from_millis(opens - self.now),
                by: close.replica,
            };
            self.pushes.push((None, gate));
        }
        Body::Closed
    }

    fn closed_gates(&self) -> Body {
        let latest = self.now + millis(MAX_GATE_WAIT);
        let mut gates: Vec<_> = self
            .gates
            .iter()
            .map(|(place, opens)| (*opens, *place))
            .collect();
        gates.sort_unstable();
        let closed = gates
            .into_iter()
            .filter(|(opens, _)| *opens > self.now && *opens <= latest);
        let left = |opens| Duration::from_millis(opens - self.now);
        Body::Gates(closed.map(|(opens, place)| (place, left(opens))).collect())
    }

    fn members(&self, members: &Members) -> Body {
        let latest = self.now + self.grace();
        let alive = self
            .replicas
            .iter()
            .map(|(replica, until)| (*until, *replica));
        let mut alive: Vec<_> = alive
            .filter(|(until, _)| *until > self.now && *until <= latest)
            .collect();
        alive.sort_unstable();
        let since = |until| Duration::from_millis(latest - until);
        let state = |name: &Name| {
            let queue = self.queues.get(name).cloned().unwrap_or_default();
            let holders = queue.holders.into_iter().map(|(ticket, end)| (end, ticket));
            let mut holders: Vec<_> = holders.filter(|(end, _)| *end > self.now).collect();
            holders.sort_unstable();
            QueueState {
                holders: holders.into_iter().map(|(_, ticket)| ticket).collect(),
                waiting: u32::try_from(queue.waiting.len()).unwrap(),
            }
        };
        Body::Members(MembersReply {
            replicas: alive
                .into_iter()
                .map(|(until, replica)| (replica, since(until)))
                .collect(),
            queues: members.queues.iter().map(state).collect(),
        })
    }

    /// Returns the end of the wait that a 429 requested; 0 without one.
    fn throttled_until(&self, identity: Name) -> u64 {
        let latest = self.now + millis(MAX_CLOCK_LAG);
        let known = self.throttled.get(&identity);
        let current = known.filter(|(_, since)| *since <= latest);
        current.map_or(0, |(opens, _)| *opens)
    }

    fn login(&mut self, login: &Login) -> Body {
        let identity = login.identity;
        if self.now > login.deadline.0 {
            return Body::Late;
        }
        let latest = self.now + millis(MAX_CLOCK_LAG);
        let throttled = self.throttled_until(identity);
        let lock = self.locks.get(self.expiry(), &identity);
        let is_held = lock.is_some_and(|(_, since)| *since <= latest);
        let verdict = self.rejected.get(self.expiry(), &(identity, login.secret));
        let verdict = verdict.filter(|(_, since)| *since <= latest);
        let outcome = if throttled > self.now {
            LoginOutcome::Throttled(Duration::from_millis(throttled - self.now))
        } else if let Some((verdict, _)) = verdict {
            LoginOutcome::Rejected(verdict.clone())
        } else if let Some(interval) = login.forced
            && let Some(permitted) = self.forced.get(self.expiry(), &identity).copied()
            && permitted <= self.now + millis(interval)
            && !is_held
        {
            LoginOutcome::Recent(Duration::from_millis(permitted.saturating_sub(self.now)))
        } else if !is_held {
            let lock = (login.lock, self.now);
            self.locks.set(self.now, identity, lock, login.lifetime);
            if let Some(interval) = login.forced {
                let permitted = self.now + millis(interval);
                self.forced.set(self.now, identity, permitted, interval);
            }
            LoginOutcome::Mine
        } else {
            LoginOutcome::Held
        };
        let token = self
            .facts
            .get(self.expiry(), &Fact::Token(identity))
            .cloned();
        Body::Login { outcome, token }
    }

    fn finish(&mut self, finish: &Finish) -> Body {
        let identity = finish.identity;
        let latest = self.now + millis(MAX_CLOCK_LAG);
        let lock = self.locks.get(self.expiry(), &identity);
        if lock.is_some_and(|(lock, since)| *since <= latest && *lock != finish.lock) {
            return Body::Overtaken;
        }
        self.locks.remove(&identity);
        match &finish.result {
            LoginResult::Token {
                record,
                secret,
                lifetime,
            } => {
                let (fact, record) = (Fact::Token(identity), record.clone());
                self.facts.set(self.now, fact, record, *lifetime);
                self.rejected.remove(&(identity, *secret));
            }
            LoginResult::Rejected {
                secret,
                record,
                lifetime,
            } => {
                let key = (identity, *secret);
                let value = (record.clone(), self.now);
                self.rejected.set(self.now, key, value, *lifetime);
            }
            LoginResult::Throttled { wait } => {
                let wait = millis(*wait).clamp(1, millis(MAX_LOGIN_WAIT));
                let opens = self.throttled_until(identity).max(self.now + wait);
                self.throttled.insert(identity, (opens, self.now));
            }
            LoginResult::Failed | LoginResult::Unneeded => {
                self.forced.remove(&identity);
            }
        }
        if finish.result != LoginResult::Unneeded {
            self.pushes.push((None, Push::Token(identity)));
        }
        Body::Done
    }

    fn publish(&mut self, publish: &Publish) -> Body {
        let (fact, record) = (Fact::Token(publish.identity), publish.record.clone());
        if self.facts.get(self.expiry(), &fact) != publish.known.as_ref() {
            return Body::Overtaken;
        }
        self.facts.set(self.now, fact, record, publish.lifetime);
        self.pushes.push((None, Push::Token(publish.identity)));
        Body::Done
    }
}
