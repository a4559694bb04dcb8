//! One replica's side of the protocol: events in, outputs out.
//!
//! While joined, the store decides on permits, rates and logins; each caller with waiting requests
//! holds one ticket in each queue. While away, permits in use continue and requests wait. After a
//! lease without contact no permit of this replica is left in the store, and it acts alone, spaced
//! by the number of replicas, until it has joined again and reported what it holds.

mod link;
mod logins;
mod permits;
mod rates;
mod request;

use std::num::NonZeroU32;
use std::time::Duration;

use self::link::{Beats, Io, Link, Purpose};
use self::logins::Logins;
use self::permits::Permits;
use self::rates::Rates;
use crate::command::{Close, Command, KeyFingerprint, MAX_GATE_WAIT, QueueLimit, Rate, RunId};
use crate::name::{Name, Replica};
use crate::reply::{Body, Push, Reply};
use crate::time::{StoreTime, Time, Timing};

pub use self::request::{Request, RequestId};

/// The maximum jitter of a gate.
const MAX_GATE_JITTER: Duration = Duration::from_secs(1);

/// Parameters of a replica.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Intervals of the protocol.
    pub timing: Timing,
    /// This process.
    pub replica: Replica,
    /// Fingerprint of the fleet's key.
    pub key: KeyFingerprint,
    /// Number of replicas to assume while the store is away; zero: as many as it last counted.
    pub replicas: u32,
    /// Seed of all jitter.
    pub seed: u64,
}

/// Whether the store decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The store decides.
    Joined,
    /// The store is away; gated requests wait.
    Away,
    /// The store is away for longer than a lease; this replica decides for itself.
    Alone,
}

/// A number of a command, unique in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub(crate) u64);

/// A permit in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermitId(pub(crate) u64);

impl PermitId {
    /// Returns the permit with this number. The machine numbers them.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The time of [`Machine::wake_at`] is reached.
    Timer,
    /// A connection to the primary is established, and subscribed to this replica's channels.
    Connected {
        /// Its run id, if known.
        run: Option<RunId>,
        /// Its clock.
        now: StoreTime,
    },
    /// The connection is lost, or the store rejected a command (`READONLY`, `LOADING`, `NOPERM`).
    Disconnected,
    /// The reply to a command.
    Reply {
        /// The command.
        id: CommandId,
        /// The reply.
        reply: Reply,
    },
    /// A message without a command.
    Push(Push),
    /// Requests of a caller began to wait in a queue, or still wait after one was granted.
    Wanted {
        /// The queue.
        queue: Name,
        /// Its limit.
        limit: QueueLimit,
        /// The caller.
        caller: Name,
    },
    /// No request of the caller waits in the queue any more.
    Unwanted {
        /// The queue.
        queue: Name,
        /// The caller.
        caller: Name,
    },
    /// A use of a permit begins, in place of an earlier use. The first one begins with the grant.
    Used(PermitId),
    /// A permit is no longer in use.
    Released(PermitId),
    /// The first request in the queue of a rate limit needs a slot.
    Reserve {
        /// The rate limit.
        limit: Name,
        /// Its rate.
        rate: Rate,
        /// The request's deadline.
        until: Time,
    },
    /// That request is gone.
    Unreserve(Name),
    /// Citrix requested a wait (429 or 503 with a hint).
    GateClosed {
        /// The gate.
        place: Name,
        /// The wait.
        wait: Duration,
    },
    /// A request concerning logins or facts.
    Request {
        /// Its number.
        id: RequestId,
        /// The request.
        request: Request,
    },
    /// A reload changed the settings. The replica and the seed stay.
    Settings(Settings),
    /// The process ends: what it holds is passed on.
    Bye,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a command.
    Send {
        /// Its number.
        id: CommandId,
        /// The command.
        command: Command,
    },
    /// Close the connection, then connect again with backoff; after [`Event::Bye`], do not.
    Disconnect,
    /// The state changed.
    State(State),
    /// The caller's first request in the queue may proceed.
    Granted {
        /// The queue.
        queue: Name,
        /// The caller.
        caller: Name,
        /// The permit.
        permit: PermitId,
        /// `Joined` if the store granted it, else `Alone`.
        by: State,
    },
    /// A permit in use expired in the store and was given to another request.
    Lost(PermitId),
    /// The decision on a [`Event::Reserve`].
    Reserved {
        /// The rate limit.
        limit: Name,
        /// The decision.
        slot: Slot,
    },
    /// Another replica closed a gate.
    GateClosed {
        /// The gate.
        place: Name,
        /// Time until it opens, with jitter.
        wait: Duration,
    },
    /// The token, verdict or lock of an identity changed.
    TokenChanged(Name),
    /// The response to a request.
    Response {
        /// The request.
        id: RequestId,
        /// The result; `None`: no store.
        body: Option<Body>,
        /// The store's time, by which the age of a record is known.
        now: StoreTime,
    },
    /// The number of replicas, and whether some have another key.
    Members {
        /// Replicas that are alive.
        replicas: u32,
        /// Whether they have different keys.
        keys_differ: bool,
    },
    /// A permit was announced by a heartbeat's reply only.
    PushMissed,
    /// A command is late.
    Late,
}

/// A slot of a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The request may be sent after this wait.
    After(Duration),
    /// The request would wait beyond its deadline.
    Never,
    /// No store: use the local limiter at the rate divided by this number of replicas.
    Share(NonZeroU32),
}

/// One replica's side of the protocol.
#[derive(Debug)]
pub struct Machine {
    link: Link,
    permits: Permits,
    rates: Rates,
    logins: Logins,
    jitter: fastrand::Rng,
    /// The process ends.
    ends: bool,
}

impl Machine {
    /// Returns a replica that has no connection yet.
    pub fn new(settings: Settings, now: Time) -> Self {
        Self {
            link: Link::new(settings, now),
            permits: Permits::new(settings),
            rates: Rates::default(),
            logins: Logins::new(settings.replica),
            jitter: fastrand::Rng::with_seed(settings.seed ^ 1),
            ends: false,
        }
    }

    /// Returns the state.
    pub fn state(&self) -> State {
        self.link.state()
    }

    /// Returns when [`Event::Timer`] is due.
    pub fn wake_at(&self) -> Option<Time> {
        let alone = self.link.state() == State::Alone;
        let spaced = self.permits.wake_at().filter(|_| alone);
        [self.link.wake_at(), spaced].into_iter().flatten().min()
    }

    /// Returns the number of permits in use and of tickets that wait.
    pub fn tickets(&self) -> (usize, usize) {
        self.permits.tickets()
    }

    /// Processes one event.
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Output>) {
        let mut io = Io {
            link: &mut self.link,
            now,
            out,
        };
        let io = &mut io;
        match event {
            Event::Timer => self.on_timer(now, out),
            Event::Connected { run, now: store } => {
                io.link.connected(now, run, store);
                io.send(Command::Gates, Purpose::Gates);
                self.permits.beat(io);
            }
            Event::Disconnected => self.disconnected(now, out),
            Event::Reply { id, reply } => self.on_reply(now, id, reply, out),
            Event::Push(push) => self.on_push(now, push, out),
            Event::Wanted { .. } if self.ends => {}
            Event::Wanted {
                queue,
                limit,
                caller,
            } => self.permits.wanted(io, queue, limit, caller),
            Event::Unwanted { queue, caller } => self.permits.unwanted(io, queue, caller),
            Event::Used(permit) => self.permits.used(io, permit),
            Event::Released(permit) => self.permits.released(io, permit),
            Event::Reserve { limit, rate, until } => self.rates.reserve(io, limit, rate, until),
            Event::Unreserve(limit) => self.rates.unreserve(limit),
            Event::GateClosed { place, wait } => close_gate(io, place, wait),
            Event::Request { id, request } => self.logins.request(io, id, request),
            Event::Settings(settings) => {
                io.link.settings = settings;
                self.permits.configure(settings);
            }
            Event::Bye => {
                self.ends = true;
                self.permits.bye(io);
            }
        }
    }

    fn on_timer(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.link.is_unresponsive(now, out) {
            out.push(Output::Disconnect);
            self.disconnected(now, out);
        }
        let became_alone = self.link.become_alone(now, out);
        let mut io = Io {
            link: &mut self.link,
            now,
            out,
        };
        if became_alone {
            self.permits.become_alone(&mut io);
            self.rates.resolve_all(&mut io);
        } else if io.link.state() == State::Alone {
            self.permits.grant_spaced(&mut io);
        }
        if io.link.is_beat_due(now) {
            self.permits.beat(&mut io);
        }
    }

    fn disconnected(&mut self, now: Time, out: &mut Vec<Output>) {
        let store_time = self.link.store_time(now);
        for purpose in self.link.disconnected(out) {
            if let Purpose::Request(id, _) = purpose {
                out.push(Output::Response {
                    id,
                    body: None,
                    now: store_time,
                });
            }
        }
        let mut io = Io {
            link: &mut self.link,
            now,
            out,
        };
        // A replica that had been alone continues.
        if io.link.state() == State::Alone {
            self.permits.become_alone(&mut io);
            self.rates.resolve_all(&mut io);
        }
    }

    fn on_reply(&mut self, now: Time, id: CommandId, reply: Reply, out: &mut Vec<Output>) {
        let Some(purpose) = self.link.replied(now, id, &reply) else {
            return;
        };
        let mut io = Io {
            link: &mut self.link,
            now,
            out,
        };
        let io = &mut io;
        match (purpose, reply.body) {
            (Purpose::Enter(queue, ticket), body) => {
                self.permits.entered(io, (queue, ticket), &body);
            }
            (Purpose::Beat, body) => self.on_beat(now, body, out),
            (Purpose::Reserve(limit), body) => self.rates.replied(io, limit, &body),
            (Purpose::Gates, Body::Gates(gates)) => {
                for (place, wait) in gates {
                    self.gate_closed(place, wait, out);
                }
            }
            (Purpose::Request(id, Some(request)), Body::Late) => {
                self.logins.request(io, id, request);
            }
            (Purpose::Request(id, _), body) => {
                let now = io.link.store_time(now);
                let body = Some(body);
                io.out.push(Output::Response { id, body, now });
            }
            (Purpose::Bye, _) => out.push(Output::Disconnect),
            (Purpose::Leave | Purpose::Close | Purpose::Gates, _) => {}
        }
    }

    /// Processes the reply to a heartbeat. One that ran after its deadline had no effect, and its
    /// reply corrected the clock.
    fn on_beat(&mut self, now: Time, body: Body, out: &mut Vec<Output>) {
        let mut io = Io {
            link: &mut self.link,
            now,
            out,
        };
        let was_late = match body {
            Body::Beat(beat) => {
                io.link.heard(&beat, io.out);
                self.permits.heard(&mut io, beat);
                false
            }
            _ => true,
        };
        match io.link.beat_ended(now, was_late, io.out) {
            Beats::Regular => {}
            Beats::Repeat => self.permits.beat(&mut io),
            Beats::Joined => {
                self.permits.joined(&mut io);
                self.rates.resolve_all(&mut io);
            }
        }
    }

    fn on_push(&mut self, now: Time, push: Push, out: &mut Vec<Output>) {
        let mut io = Io {
            link: &mut self.link,
            now,
            out,
        };
        match push {
            Push::Go { queue, ticket } => self.permits.announced(&mut io, queue, ticket),
            // Its own gate is closed already.
            Push::Gate { by, .. } if by == io.link.settings.replica => {}
            Push::Gate { place, wait, .. } => self.gate_closed(place, wait, out),
            Push::Token(identity) => out.push(Output::TokenChanged(identity)),
        }
    }

    fn gate_closed(&mut self, place: Name, wait: Duration, out: &mut Vec<Output>) {
        let wait = wait.min(MAX_GATE_WAIT);
        let wait = wait + gate_jitter(wait, self.jitter.f64());
        out.push(Output::GateClosed { place, wait });
    }
}

/// Returns what each replica adds to the wait of a gate, also the one that closed it: not all send at
/// the moment it opens, and none is always the first to send. `random` is from 0 to 1.
pub fn gate_jitter(wait: Duration, random: f64) -> Duration {
    let max = (wait / 10).min(MAX_GATE_JITTER);
    max.mul_f64(random.clamp(0.0, 1.0))
}

/// Announces a gate; without a store it is closed in this replica only.
fn close_gate(io: &mut Io<'_>, place: Name, wait: Duration) {
    if io.link.is_up() && wait <= MAX_GATE_WAIT {
        let close = Close {
            place,
            until: io.link.store_time(io.now) + wait,
            wait,
            replica: io.link.settings.replica,
        };
        io.send(Command::Close(close), Purpose::Close);
    }
}
