//! The connection: its state, commands without a reply, heartbeats.

use std::collections::BTreeMap;
use std::mem;
use std::num::NonZeroU32;

use super::request::{Request, RequestId};
use super::{CommandId, Output, Settings, State};
use crate::command::{Command, RunId};
use crate::name::{Name, Ticket};
use crate::reply::{BeatReply, Body, Reply};
use crate::time::{StoreClock, StoreTime, Time};

/// The use of a reply.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Enter(Name, Ticket),
    Leave,
    Beat,
    Bye,
    Reserve(Name),
    Close,
    Gates,
    /// With the request if it is to be sent again when it was late.
    Request(RequestId, Option<Request>),
}

#[derive(Debug)]
struct InFlight {
    sent: Time,
    purpose: Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No connection.
    Down,
    /// The first heartbeats are sent; the number without a reply, and whether one was late.
    Joining { beats: usize, late: bool },
    /// All were heard.
    Joined,
}

/// The effect of a heartbeat's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beats {
    Regular,
    /// One of the first heartbeats had no effect: all are due again.
    Repeat,
    /// The last of the first heartbeats was heard.
    Joined,
}

/// The connection to the store.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) settings: Settings,
    phase: Phase,
    /// Whether the replica acts alone, or did so until it connected.
    alone: bool,
    next_id: u64,
    in_flight: BTreeMap<u64, InFlight>,
    /// A command was late; another one from this number on proves that the store is away.
    suspect_from: Option<u64>,
    clock: StoreClock,
    pub(super) run: Option<RunId>,
    /// When the last command that may have extended a permit was sent.
    contact: Time,
    next_beat: Time,
    /// The number of replicas that the store last counted.
    replicas: u32,
}

/// The link with the outputs of the current event.
pub(super) struct Io<'m> {
    pub(super) link: &'m mut Link,
    pub(super) now: Time,
    pub(super) out: &'m mut Vec<Output>,
}

impl Io<'_> {
    pub(super) fn send(&mut self, command: Command, purpose: Purpose) {
        let id = self.link.next_id;
        self.link.next_id += 1;
        let sent = self.now;
        self.link.in_flight.insert(id, InFlight { sent, purpose });
        let id = CommandId(id);
        self.out.push(Output::Send { id, command });
    }

    /// Returns the store's time after which a command sent now has no effect.
    pub(super) fn deadline(&self) -> StoreTime {
        self.link.store_time(self.now) + self.link.settings.timing.timeout
    }
}

impl Link {
    pub(super) fn new(settings: Settings, now: Time) -> Self {
        Self {
            settings,
            phase: Phase::Down,
            alone: false,
            next_id: 1,
            in_flight: BTreeMap::new(),
            suspect_from: None,
            clock: StoreClock::new(StoreTime(0), now),
            run: None,
            contact: now,
            next_beat: now,
            replicas: 0,
        }
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Joined => State::Joined,
            _ if self.alone => State::Alone,
            _ => State::Away,
        }
    }

    /// Returns `true` if commands may be sent.
    pub(super) fn is_up(&self) -> bool {
        self.phase != Phase::Down
    }

    pub(super) fn is_joined(&self) -> bool {
        self.phase == Phase::Joined
    }

    /// Returns `true` if this replica decides for itself. It does not while it joins: what it
    /// granted then would be missing in its first heartbeat.
    pub(super) fn decides(&self) -> bool {
        self.alone && self.phase == Phase::Down
    }

    /// Returns `true` if permits that the store announced are valid. After a pause of this replica
    /// they may have expired: then the next heartbeat decides.
    pub(super) fn is_fresh(&self, now: Time) -> bool {
        now.since(self.contact) < self.settings.timing.silence()
    }

    pub(super) fn store_time(&self, now: Time) -> StoreTime {
        self.clock.at(now)
    }

    /// Returns the number of replicas to assume without a store.
    pub(super) fn assumed_replicas(&self) -> NonZeroU32 {
        let counts = [self.settings.replicas, self.replicas];
        let known = counts.into_iter().find_map(NonZeroU32::new);
        known.unwrap_or(NonZeroU32::MIN)
    }

    pub(super) fn connected(&mut self, now: Time, run: Option<RunId>, store: StoreTime) {
        self.in_flight.clear();
        self.suspect_from = None;
        self.run = run;
        self.clock = StoreClock::new(store, now);
        self.phase = Phase::Joining {
            beats: 0,
            late: false,
        };
    }

    /// Returns what was to be done with the replies that are missing.
    pub(super) fn disconnected(
        &mut self,
        out: &mut Vec<Output>,
    ) -> impl Iterator<Item = Purpose> + use<> {
        if self.phase == Phase::Joined {
            out.push(Output::State(State::Away));
        }
        self.phase = Phase::Down;
        let missing = mem::take(&mut self.in_flight);
        missing.into_values().map(|in_flight| in_flight.purpose)
    }

    pub(super) fn beats_sent(&mut self, now: Time, count: usize) {
        self.next_beat = now + self.settings.timing.heartbeat();
        if let Phase::Joining { beats, .. } = &mut self.phase {
            *beats += count;
        }
    }

    /// Returns what is to be done with a reply; `None` for a command of an earlier connection.
    pub(super) fn replied(&mut self, now: Time, id: CommandId, reply: &Reply) -> Option<Purpose> {
        let InFlight { sent, purpose } = self.in_flight.remove(&id.0)?;
        // A store that executes only some commands while this replica joins is as good as none.
        let extends = matches!(purpose, Purpose::Beat) && !matches!(reply.body, Body::Late);
        if extends || self.is_joined() {
            self.contact = self.contact.max(sent);
        }
        if let Some(store) = reply.now {
            self.clock = StoreClock::new(store, now);
        }
        if now.since(sent) < self.settings.timing.timeout {
            self.suspect_from = None;
        }
        Some(purpose)
    }

    pub(super) fn heard(&mut self, beat: &BeatReply, out: &mut Vec<Output>) {
        self.replicas = beat.replicas;
        out.push(Output::Members {
            replicas: beat.replicas,
            keys_differ: beat.keys > 1,
        });
    }

    /// Processes the end of a heartbeat, which had no effect if it was late.
    pub(super) fn beat_ended(&mut self, now: Time, was_late: bool, out: &mut Vec<Output>) -> Beats {
        let Phase::Joining { beats, late } = &mut self.phase else {
            if was_late {
                self.next_beat = now;
            }
            return Beats::Regular;
        };
        *beats = beats.saturating_sub(1);
        *late |= was_late;
        match (*beats, *late) {
            (0, true) => {
                *late = false;
                Beats::Repeat
            }
            (0, false) => {
                self.phase = Phase::Joined;
                self.alone = false;
                out.push(Output::State(State::Joined));
                Beats::Joined
            }
            _ => Beats::Regular,
        }
    }

    /// Returns `true` if the store counts as away: a command is late, and another one that was sent
    /// after that was noticed, or while joining.
    pub(super) fn is_unresponsive(&mut self, now: Time, out: &mut Vec<Output>) -> bool {
        if self.late_at().is_none_or(|late| now < late) {
            return false;
        }
        out.push(Output::Late);
        if self.suspect_from.is_some() || !self.is_joined() {
            return true;
        }
        self.suspect_from = Some(self.next_id);
        // The next heartbeat is the proof.
        self.next_beat = now;
        false
    }

    fn late_at(&self) -> Option<Time> {
        let from = self.suspect_from.unwrap_or(0);
        let (_, oldest) = self.in_flight.range(from..).next()?;
        Some(oldest.sent + self.settings.timing.timeout)
    }

    /// Returns `true` if the replica acts alone from now on.
    pub(super) fn become_alone(&mut self, now: Time, out: &mut Vec<Output>) -> bool {
        if self.is_up() || self.alone || now < self.contact + self.settings.timing.lease {
            return false;
        }
        self.alone = true;
        out.push(Output::State(State::Alone));
        true
    }

    pub(super) fn is_beat_due(&self, now: Time) -> bool {
        self.is_joined() && self.next_beat <= now
    }

    pub(super) fn wake_at(&self) -> Option<Time> {
        match self.phase {
            Phase::Down if self.alone => None,
            Phase::Down => Some(self.contact + self.settings.timing.lease),
            Phase::Joining { .. } => self.late_at(),
            Phase::Joined => Some(
                self.late_at()
                    .map_or(self.next_beat, |late| late.min(self.next_beat)),
            ),
        }
    }
}
