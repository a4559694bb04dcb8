//! One replica's side, event by event.

use std::num::NonZeroU32;
use std::time::Duration;

use fleet_protocol::command::{Beat, Command, Fact, KeyFingerprint, QueueLimit, Rate, RunId};
use fleet_protocol::machine::{CommandId, PermitId, Request, RequestId, Settings, Slot};
use fleet_protocol::reply::{BeatReply, Body};
use fleet_protocol::{
    Event, Machine, Name, Output, Push, Replica, Reply, State, StoreTime, Ticket, Time, Timing,
};

const LIMIT: QueueLimit = QueueLimit {
    at_once: 1,
    room: 10,
    timeout: Duration::from_secs(60),
};
const QUEUE: Name = Name([1; 16]);
const CALLER: Name = Name([2; 16]);
const OTHER: Name = Name([3; 16]);

/// A machine with its time.
struct Replay {
    machine: Machine,
    now: Time,
}

impl Replay {
    fn new() -> Self {
        let settings = Settings {
            timing: Timing {
                lease: Duration::from_secs(5),
                timeout: Duration::from_millis(500),
            },
            replica: Replica(1),
            key: KeyFingerprint(1),
            replicas: 3,
            seed: 7,
        };
        let now = Time::default();
        Self {
            machine: Machine::new(settings, now),
            now,
        }
    }

    fn joined() -> Self {
        let mut replay = Self::new();
        replay.join();
        replay
    }

    /// Returns the outputs but for `Members`.
    fn handle(&mut self, event: Event) -> Vec<Output> {
        let mut out = Vec::new();
        self.machine.handle(self.now, event, &mut out);
        out.retain(|output| !matches!(output, Output::Members { .. }));
        out
    }

    /// Advances the time with the timers that become due.
    fn advance(&mut self, milliseconds: u64) -> Vec<Output> {
        let end = self.now + Duration::from_millis(milliseconds);
        let mut out = Vec::new();
        while let Some(at) = self.machine.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            out.extend(self.handle(Event::Timer));
        }
        self.now = end;
        out
    }

    fn connect(&mut self) -> Vec<Output> {
        self.handle(Event::Connected {
            run: Some(RunId([1; 20])),
            now: StoreTime(1_000_000),
        })
    }

    fn join(&mut self) -> Vec<Output> {
        let sent = self.connect();
        self.reply_all(&sent)
    }

    fn reply(&mut self, id: CommandId, body: Body) -> Vec<Output> {
        let now = Some(StoreTime(1_000_000) + self.now.since_origin());
        self.handle(Event::Reply {
            id,
            reply: Reply { now, body },
        })
    }

    /// Replies to heartbeats without results and to lists of gates.
    fn reply_all(&mut self, sent: &[Output]) -> Vec<Output> {
        let mut out = Vec::new();
        for output in sent {
            if let Output::Send { id, command } = output {
                out.extend(match command {
                    Command::Beat(_) => self.reply(*id, Body::Beat(BeatReply::default())),
                    Command::Gates => self.reply(*id, Body::Gates(Vec::new())),
                    _ => Vec::new(),
                });
            }
        }
        out
    }

    fn want(&mut self, caller: Name) -> Vec<Output> {
        self.handle(Event::Wanted {
            queue: QUEUE,
            limit: LIMIT,
            caller,
        })
    }

    fn go(&mut self, ticket: Ticket) -> Vec<Output> {
        self.handle(Event::Push(Push::Go {
            queue: QUEUE,
            ticket,
        }))
    }
}

fn only_command(out: &[Output]) -> (CommandId, &Command) {
    let [Output::Send { id, command }] = out else {
        panic!("not one command: {out:?}");
    };
    (*id, command)
}

fn entered(out: &[Output]) -> (CommandId, Ticket) {
    match only_command(out) {
        (id, Command::Enter(enter)) => (id, enter.ticket),
        other => panic!("{other:?}"),
    }
}

fn left(out: &[Output]) -> Ticket {
    match only_command(out) {
        (_, Command::Leave(leave)) => leave.ticket,
        other => panic!("{other:?}"),
    }
}

/// Returns the permits of all grants, with the state that granted them.
fn granted(out: &[Output]) -> Vec<(PermitId, State)> {
    let grant = |output: &Output| match output {
        Output::Granted { permit, by, .. } => Some((*permit, *by)),
        _ => None,
    };
    out.iter().filter_map(grant).collect()
}

/// Returns the states that were published.
fn states(out: &[Output]) -> Vec<State> {
    let state = |output: &Output| match output {
        Output::State(state) => Some(*state),
        _ => None,
    };
    out.iter().filter_map(state).collect()
}

fn beats(out: &[Output]) -> Vec<&Beat> {
    let mut beats = Vec::new();
    for output in out {
        if let Output::Send { command, .. } = output
            && let Command::Beat(beat) = command
        {
            beats.push(beat);
        }
    }
    beats
}

#[test]
fn free_queue_grants_with_one_command_and_returns_with_one() {
    let mut replay = Replay::joined();
    let (id, ticket) = entered(&replay.want(CALLER));
    let permits = granted(&replay.reply(id, Body::Go));
    assert_eq!(permits.len(), 1);
    assert_eq!(permits[0].1, State::Joined);
    assert_eq!(left(&replay.handle(Event::Released(permits[0].0))), ticket);
    assert_eq!(replay.machine.tickets(), (0, 0));
}

#[test]
fn waiting_caller_has_one_ticket_and_is_granted_by_a_push() {
    let mut replay = Replay::joined();
    let (id, ticket) = entered(&replay.want(CALLER));
    assert!(replay.reply(id, Body::Wait).is_empty());
    assert!(replay.want(CALLER).is_empty());
    assert_eq!(granted(&replay.go(ticket)).len(), 1);
    assert!(replay.go(ticket).is_empty(), "the push is repeated");
}

#[test]
fn permit_for_a_request_that_is_gone_is_declined() {
    let mut replay = Replay::joined();
    let (_, ticket) = entered(&replay.want(CALLER));
    let (queue, caller) = (QUEUE, CALLER);
    assert_eq!(
        left(&replay.handle(Event::Unwanted { queue, caller })),
        ticket
    );
    assert_eq!(left(&replay.go(ticket)), ticket);
}

/// The store may run both in the other order: after `SCRIPT FLUSH` scripts are sent again.
#[test]
fn permit_whose_request_left_before_the_reply_is_left_again() {
    let mut replay = Replay::joined();
    let (id, ticket) = entered(&replay.want(CALLER));
    let (queue, caller) = (QUEUE, CALLER);
    replay.handle(Event::Unwanted { queue, caller });
    assert_eq!(left(&replay.reply(id, Body::Go)), ticket);
}

#[test]
fn late_or_unknown_ticket_is_entered_again_and_a_crowded_one_with_the_heartbeat() {
    let mut replay = Replay::joined();
    let (id, first) = entered(&replay.want(CALLER));
    let (id, second) = entered(&replay.reply(id, Body::Late));
    assert!(second > first);
    assert!(replay.reply(id, Body::Crowded).is_empty());
    let out = replay.advance(1000);
    assert!(beats(&out)[0].queues.is_empty());
    let (id, third) = entered(&out[1..]);
    replay.reply_all(&out);
    assert!(replay.reply(id, Body::Wait).is_empty());
    let out = replay.advance(1000);
    let (id, _) = only_command(&out);
    assert_eq!(beats(&out)[0].queues[0].waiting, [third]);
    let gone = BeatReply {
        gone: vec![third],
        ..BeatReply::default()
    };
    let (_, fourth) = entered(&replay.reply(id, Body::Beat(gone)));
    assert!(fourth > third);
}

#[test]
fn missed_push_is_found_by_the_next_heartbeat() {
    let mut replay = Replay::joined();
    let (id, ticket) = entered(&replay.want(CALLER));
    replay.reply(id, Body::Wait);
    let (id, _) = only_command(&replay.advance(1000));
    let go = BeatReply {
        go: vec![ticket],
        ..BeatReply::default()
    };
    let out = replay.reply(id, Body::Beat(go));
    assert_eq!(granted(&out).len(), 1);
    assert!(out.contains(&Output::PushMissed));
}

#[test]
fn lost_permit_is_reported_once_and_not_returned() {
    let mut replay = Replay::joined();
    let (id, ticket) = entered(&replay.want(CALLER));
    let permit = granted(&replay.reply(id, Body::Go))[0].0;
    let out = replay.advance(1000);
    assert_eq!(beats(&out)[0].queues[0].held, [ticket]);
    let (id, _) = only_command(&out);
    let lost = BeatReply {
        lost: vec![ticket],
        ..BeatReply::default()
    };
    assert_eq!(replay.reply(id, Body::Beat(lost)), [Output::Lost(permit)]);
    assert!(beats(&replay.advance(1000))[0].queues.is_empty());
    assert!(replay.handle(Event::Released(permit)).is_empty());
}

#[test]
fn two_late_commands_in_a_row_end_the_connection() {
    let mut replay = Replay::joined();
    replay.want(CALLER);
    let out = replay.advance(500);
    assert_eq!((&out[0], beats(&out).len()), (&Output::Late, 1));
    assert_eq!(replay.machine.state(), State::Joined);
    let out = replay.advance(500);
    assert_eq!(
        out,
        [Output::Late, Output::Disconnect, Output::State(State::Away)]
    );
}

#[test]
fn one_late_command_followed_by_a_timely_one_changes_nothing() {
    let mut replay = Replay::joined();
    let (id, _) = entered(&replay.want(CALLER));
    let out = replay.advance(500);
    replay.reply(id, Body::Wait);
    replay.reply_all(&out);
    for _ in 0..10 {
        let out = replay.advance(1000);
        replay.reply_all(&out);
    }
    assert_eq!(replay.machine.state(), State::Joined);
}

#[test]
fn short_outage_keeps_permits_and_tickets() {
    let mut replay = Replay::joined();
    let (id, held) = entered(&replay.want(CALLER));
    let permit = granted(&replay.reply(id, Body::Go))[0].0;
    let (id, waiting) = entered(&replay.want(OTHER));
    replay.reply(id, Body::Wait);
    assert_eq!(
        replay.handle(Event::Disconnected),
        [Output::State(State::Away)]
    );
    assert!(replay.advance(3000).is_empty());
    let out = replay.connect();
    let [beat] = beats(&out)[..] else {
        panic!("{out:?}");
    };
    assert!(beat.joins);
    assert_eq!(beat.queues[0].held, [held]);
    assert_eq!(beat.queues[0].waiting, [waiting]);
    assert_eq!(replay.reply_all(&out), [Output::State(State::Joined)]);
    assert_eq!(left(&replay.handle(Event::Released(permit))), held);
}

#[test]
fn permit_that_ends_during_an_outage_is_returned_after_it() {
    let mut replay = Replay::joined();
    let (id, held) = entered(&replay.want(CALLER));
    let permit = granted(&replay.reply(id, Body::Go))[0].0;
    replay.handle(Event::Disconnected);
    assert!(replay.handle(Event::Released(permit)).is_empty());
    let out = replay.join();
    assert_eq!(out[0], Output::State(State::Joined));
    assert_eq!(left(&out[1..]), held);
}

#[test]
fn replica_acts_alone_after_a_lease_without_contact() {
    let mut replay = Replay::new();
    assert!(replay.want(CALLER).is_empty());
    assert!(replay.advance(4999).is_empty());
    let out = replay.advance(1);
    assert_eq!(out[0], Output::State(State::Alone));
    let permits = granted(&out);
    assert_eq!(permits.len(), 1);
    assert_eq!(permits[0].1, State::Alone);
    assert!(replay.want(OTHER).is_empty(), "one at a time");
}

#[test]
fn ticket_of_a_replica_that_acted_alone_is_left_when_it_joins() {
    let mut replay = Replay::joined();
    let (id, waits) = entered(&replay.want(CALLER));
    replay.reply(id, Body::Wait);
    replay.handle(Event::Disconnected);
    // Served without the store, which may have kept the ticket.
    let permit = granted(&replay.advance(5000))[0].0;
    replay.handle(Event::Released(permit));
    let out = replay.join();
    assert_eq!(out[0], Output::State(State::Joined));
    assert_eq!(left(&out[1..]), waits);
}

#[test]
fn permits_alone_are_spaced_by_the_number_of_replicas() {
    let mut replay = Replay::new();
    replay.want(CALLER);
    replay.want(OTHER);
    let permit = granted(&replay.advance(5000))[0].0;
    assert!(replay.advance(2000).is_empty());
    assert!(replay.handle(Event::Released(permit)).is_empty());
    // (3 − 1) × 2 s ± 50 %.
    assert!(replay.advance(1999).is_empty());
    assert_eq!(granted(&replay.advance(4001)).len(), 1);
}

#[test]
fn permit_taken_alone_is_reported_when_joining_and_none_is_taken_meanwhile() {
    let mut replay = Replay::new();
    replay.want(CALLER);
    let permit = granted(&replay.advance(5000))[0].0;
    replay.want(OTHER);
    let sent = replay.connect();
    assert_eq!(beats(&sent)[0].queues[0].held.len(), 1);
    let ticket = beats(&sent)[0].queues[0].held[0];
    assert_eq!(left(&replay.handle(Event::Released(permit))), ticket);
    assert!(granted(&replay.advance(400)).is_empty());
    let out = replay.reply_all(&sent);
    assert_eq!(out[0], Output::State(State::Joined));
    entered(&out[1..]);
}

#[test]
fn first_heartbeat_that_was_late_is_repeated() {
    let mut replay = Replay::new();
    let sent = replay.connect();
    let Some(Output::Send { id, .. }) = sent.last() else {
        panic!("{sent:?}");
    };
    let out = replay.reply(*id, Body::Late);
    assert!(beats(&out)[0].joins);
    assert_eq!(replay.reply_all(&out), [Output::State(State::Joined)]);
}

#[test]
fn late_first_heartbeat_without_reply_ends_the_connection_and_alone_continues() {
    let mut replay = Replay::new();
    replay.want(CALLER);
    replay.advance(5000);
    replay.connect();
    let out = replay.advance(500);
    assert_eq!(out[..2], [Output::Late, Output::Disconnect]);
    assert_eq!(replay.machine.state(), State::Alone);
}

#[test]
fn rate_slot_is_the_stores_while_joined_and_a_share_while_alone() {
    let rate = Rate {
        interval: Duration::from_millis(60),
        burst: Duration::from_millis(840),
        timeout: Duration::from_secs(60),
    };
    let limit = QUEUE;
    let mut replay = Replay::new();
    let until = Time::new(Duration::from_secs(60));
    let reserve = || Event::Reserve { limit, rate, until };
    assert!(replay.handle(reserve()).is_empty());
    let out = replay.join();
    let (id, _) = only_command(&out[1..]);
    // Late: requested again.
    let out = replay.reply(id, Body::Late);
    let (id, _) = only_command(&out);
    let wait = Duration::from_millis(120);
    let slot = Slot::After(wait);
    assert_eq!(
        replay.reply(id, Body::At(wait)),
        [Output::Reserved { limit, slot }]
    );
    replay.handle(reserve());
    replay.handle(Event::Disconnected);
    let slot = Slot::Share(NonZeroU32::new(3).unwrap());
    assert!(
        replay
            .advance(5000)
            .contains(&Output::Reserved { limit, slot })
    );
    assert_eq!(replay.handle(reserve()), [Output::Reserved { limit, slot }]);
}

#[test]
fn gate_is_announced_with_its_end_and_heard_from_others_with_jitter() {
    let mut replay = Replay::joined();
    let (place, wait) = (QUEUE, Duration::from_secs(5));
    let out = replay.handle(Event::GateClosed { place, wait });
    let Command::Close(close) = only_command(&out).1 else {
        panic!("{out:?}");
    };
    assert_eq!(close.until, StoreTime(1_005_000));
    let heard_from = |by| Event::Push(Push::Gate { place, wait, by });
    assert_eq!(replay.handle(heard_from(close.replica)), []);
    let out = replay.handle(heard_from(Replica(close.replica.0 + 1)));
    let [Output::GateClosed { wait: heard, .. }] = out[..] else {
        panic!("{out:?}");
    };
    assert!((wait..wait + Duration::from_millis(500)).contains(&heard));
    let long = Duration::from_secs(601);
    assert!(
        replay
            .handle(Event::GateClosed { place, wait: long })
            .is_empty()
    );
}

#[test]
fn request_without_a_store_is_responded_to_at_once() {
    let (id, identity) = (RequestId(9), QUEUE);
    let request = Request::Get(Fact::Token(identity));
    let event = || Event::Request {
        id,
        request: request.clone(),
    };
    let response = |body, now| Output::Response {
        id,
        body,
        now: StoreTime(now),
    };
    let mut replay = Replay::new();
    assert_eq!(replay.handle(event()), [response(None, 0)]);
    replay.join();
    let (command, _) = only_command(&replay.handle(event()));
    let body = Body::Value(None);
    let expected = [response(Some(body.clone()), 1_000_000)];
    assert_eq!(replay.reply(command, body), expected);
    replay.handle(event());
    let out = replay.handle(Event::Disconnected);
    assert_eq!(out[1..], [response(None, 1_000_000)]);
}

#[test]
fn bye_passes_all_tickets_on_and_ends_the_connection() {
    let mut replay = Replay::joined();
    let (id, held) = entered(&replay.want(CALLER));
    replay.reply(id, Body::Go);
    let (_, waiting) = entered(&replay.want(OTHER));
    let out = replay.handle(Event::Bye);
    let (id, Command::Bye(bye)) = only_command(&out) else {
        panic!("{out:?}");
    };
    assert_eq!(bye.queues[0].held, [held]);
    assert_eq!(bye.queues[0].waiting, [waiting]);
    assert_eq!(replay.reply(id, Body::Left), [Output::Disconnect]);
}

#[test]
fn many_tickets_are_divided_among_heartbeats() {
    let mut replay = Replay::joined();
    for number in 0..1000_u128 {
        replay.handle(Event::Wanted {
            queue: Name(number.to_be_bytes()),
            limit: LIMIT,
            caller: CALLER,
        });
    }
    replay.handle(Event::Disconnected);
    let sent = replay.connect();
    assert_eq!(beats(&sent).len(), 4);
    assert_eq!(replay.reply_all(&sent), [Output::State(State::Joined)]);
}

#[test]
fn store_that_rejects_heartbeats_leaves_the_replica_alone_after_a_lease() {
    let mut replay = Replay::joined();
    replay.handle(Event::Disconnected);
    let mut published = Vec::new();
    for _ in 0..6 {
        for output in replay.connect() {
            if let Output::Send { id, command } = output
                && command == Command::Gates
            {
                replay.reply(id, Body::Gates(Vec::new()));
            }
        }
        published.extend(replay.handle(Event::Disconnected));
        published.extend(replay.advance(1000));
    }
    assert_eq!(states(&published), [State::Alone]);
}
