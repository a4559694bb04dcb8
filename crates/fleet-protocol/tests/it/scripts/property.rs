//! Random sequences of commands have equal results in the model and on a real server.

use std::cell::RefCell;
use std::ops::Range;

use fleet_protocol::command::{Mark, Set};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

use super::*;
use testkit::store::model::Model;

const START: u64 = 1_795_000_000_000_000;
const LIFETIME: Duration = Duration::from_secs(60);

/// A step. Times in commands are relative, and tickets are chosen among those used so far.
#[derive(Clone, Debug)]
enum Step {
    Enter(Enter),
    Leave(Leave, Index),
    /// With masks that select held and waiting tickets.
    Beat(Beat, u32, u64, u64),
    Bye(Bye, u64),
    Other(Command),
    Flush,
}

/// Milliseconds after the time of the command, less one.
fn deadline() -> impl Strategy<Value = StoreTime> {
    prop::bool::weighted(0.05).prop_map(|late| StoreTime(if late { 0 } else { 501 }))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => enter_step(),
        6 => leave_step(),
        8 => beat_step(),
        1 => (0..3_u32, any::<u64>()).prop_map(|(replica, mask)| {
            let (replica, queues) = (Replica(replica), Vec::new());
            Step::Bye(Bye { replica, queues }, mask)
        }),
        2 => reserve_step(),
        2 => (0..3_u8, 0..900_000_u64, 0..700_000_u64).prop_map(|(place, until, wait)| {
            let (place, until) = (name(place), StoreTime(until));
            let wait = Duration::from_millis(wait);
            let replica = Replica(1);
            Step::Other(Command::Close(Close {
                place,
                until,
                wait,
                replica,
            }))
        }),
        1 => Just(Step::Other(Command::Gates)),
        1 => Just(Step::Other(Command::Members(Members {
            queues: vec![name(0), name(1), name(9)],
        }))),
        2 => login_step(),
        2 => (0..2_u8, 0..3_u64, 0..5_u8).prop_map(|(secret, number, result)| {
            let lock = LockName { replica: Replica(1), number };
            let result = login_result(name(secret), result);
            Step::Other(Command::Finish(Finish { identity: name(7), lock, result }))
        }),
        1 => any::<bool>().prop_map(|is_known| {
            let known = is_known.then(|| vec![0, 0, 10]);
            let (identity, record, lifetime) = (name(7), vec![0, 0, 10], LIFETIME);
            Step::Other(Command::Publish(Publish { identity, known, record, lifetime }))
        }),
        1 => (0..5_u8, any::<bool>()).prop_map(|(kind, write)| Step::Other(fact(kind, write))),
        1 => Just(Step::Flush),
    ]
}

fn enter_step() -> impl Strategy<Value = Step> {
    let strategy = (0..2_u8, 0..3_u32, 0..3_u8, 1..3_u32, 0..5_u32, deadline());
    strategy.prop_map(|(queue, replica, caller, at_once, room, deadline)| {
        Step::Enter(Enter {
            queue: name(queue),
            ticket: ticket(replica, u64::from(queue)),
            caller: name(100 + caller),
            limit: QueueLimit {
                at_once,
                room,
                timeout: LIFETIME,
            },
            deadline,
        })
    })
}

fn leave_step() -> impl Strategy<Value = Step> {
    let strategy = (0..2_u8, any::<Index>(), 0..3_u8, 1..3_u32);
    strategy.prop_map(|(queue, index, caller, at_once)| {
        let leave = Leave {
            queue: name(queue),
            ticket: ticket(0, 0),
            caller: name(100 + caller),
            at_once,
        };
        Step::Leave(leave, index)
    })
}

fn beat_step() -> impl Strategy<Value = Step> {
    let identity = (0..3_u32, 0..3_u8, any::<bool>());
    let strategy = (identity, 1..3_u32, any::<u64>(), any::<u64>(), deadline());
    strategy.prop_map(
        |((replica, run, joins), at_once, held, waiting, deadline)| {
            let beat = Beat {
                replica: Replica(replica),
                key: KeyFingerprint(replica / 2),
                run: (run > 0).then_some(RunId([run; 20])),
                joins,
                queues: Vec::new(),
                deadline,
            };
            // Few tickets hold a permit.
            Step::Beat(beat, at_once, held & held.rotate_left(7), waiting)
        },
    )
}

fn reserve_step() -> impl Strategy<Value = Step> {
    let micros = |range: Range<u64>| range.prop_map(Duration::from_micros);
    let times = (
        micros(1..500_000),
        micros(0..2_000_000),
        micros(0..3_000_000),
    );
    (0..2_u8, times, deadline()).prop_map(|(limit, (interval, burst, max_wait), deadline)| {
        Step::Other(Command::Reserve(Reserve {
            limit: name(limit),
            rate: Rate {
                interval,
                burst,
                timeout: Duration::from_secs(3),
            },
            max_wait,
            deadline,
        }))
    })
}

fn login_step() -> impl Strategy<Value = Step> {
    let strategy = (0..2_u8, 0..3_u64, any::<bool>(), deadline());
    strategy.prop_map(|(secret, number, forced, deadline)| {
        let replica = Replica(1);
        Step::Other(Command::Login(Login {
            identity: name(7),
            secret: name(secret),
            lock: LockName { replica, number },
            lifetime: LIFETIME,
            forced: forced.then_some(LIFETIME),
            deadline,
        }))
    })
}

fn login_result(secret: Name, result: u8) -> LoginResult {
    let lifetime = LIFETIME;
    let record = vec![0, b'\r', b'\n', 0xff, result];
    match result {
        0 => LoginResult::Token {
            record,
            lifetime,
            secret,
        },
        1 => LoginResult::Rejected {
            secret,
            record,
            lifetime,
        },
        2 => LoginResult::Throttled { wait: lifetime },
        3 => LoginResult::Failed,
        _ => LoginResult::Unneeded,
    }
}

fn fact(kind: u8, write: bool) -> Command {
    let (lifetime, value) = (LIFETIME, vec![kind, 0, 10]);
    let fact = match kind {
        0 => Fact::Token(name(7)),
        1 => Fact::Site(name(8)),
        2 => Fact::Activation(name(8)),
        3 => Fact::Regions(name(8)),
        _ => Fact::Member(Replica(1)),
    };
    match (write, kind) {
        (false, _) => Command::Get(fact),
        (true, 2) => Command::Mark(Mark { fact, lifetime }),
        (true, _) => Command::Set(Set {
            fact,
            value,
            lifetime,
        }),
    }
}

/// Milliseconds between steps; the clock may be set.
fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![
        20 => 0..700_i64,
        4 => 700..6000_i64,
        1 => prop::sample::select(vec![-3_600_000_i64, 3_600_000, -7000, -1500]),
    ]
}

/// The state from which steps become commands.
#[derive(Default)]
struct Sequence {
    micros: u64,
    tickets: Vec<Ticket>,
}

impl Sequence {
    /// Returns the tickets of a replica that the masks select.
    fn queues(&self, of: Replica, at_once: u32, held: u64, waiting: u64) -> Vec<QueueTickets> {
        let select = |queue: u8, mask: u64| {
            let own = |ticket: &&Ticket| {
                let selected = mask >> (ticket.number % 64) & 1 == 1;
                ticket.replica == of && ticket.number % 2 == u64::from(queue) && selected
            };
            self.tickets.iter().filter(own).copied().collect()
        };
        let of_queue = |queue| QueueTickets {
            queue: name(queue),
            at_once,
            held: select(queue, held),
            waiting: select(queue, waiting & !held),
        };
        (0..2).map(of_queue).collect()
    }

    /// Returns the command of a step; `None` for a flush.
    fn command(&mut self, step: &Step) -> Option<Command> {
        let now = StoreTime(self.micros / 1000);
        let at = |relative: StoreTime| StoreTime(now.0 + relative.0 - 1);
        Some(match step.clone() {
            Step::Enter(mut enter) => {
                // The parity of a number is its queue.
                let number = 2 * self.tickets.len() as u64 + enter.ticket.number;
                enter.ticket = Ticket {
                    arrived: now,
                    number,
                    ..enter.ticket
                };
                enter.deadline = at(enter.deadline);
                self.tickets.push(enter.ticket);
                Command::Enter(enter)
            }
            Step::Leave(mut leave, index) => {
                if !self.tickets.is_empty() {
                    leave.ticket = *index.get(&self.tickets);
                }
                Command::Leave(leave)
            }
            Step::Beat(mut beat, at_once, held, waiting) => {
                beat.queues = self.queues(beat.replica, at_once, held, waiting);
                beat.deadline = at(beat.deadline);
                Command::Beat(beat)
            }
            Step::Bye(mut bye, mask) => {
                bye.queues = self.queues(bye.replica, 1, mask, !mask);
                Command::Bye(bye)
            }
            Step::Other(mut command) => {
                match &mut command {
                    Command::Reserve(reserve) => reserve.deadline = at(reserve.deadline),
                    Command::Close(close) => close.until = at(close.until),
                    Command::Login(login) => login.deadline = at(login.deadline),
                    _ => {}
                }
                command
            }
            Step::Flush => return None,
        })
    }
}

/// Runs a sequence in both.
fn compare(store: &mut Store, steps: &[(i64, Step)]) -> Result<(), TestCaseError> {
    store.client.call(&["FLUSHALL"]).unwrap();
    let began = server_time(&mut store.client);
    let mut model = Model::without_expiry(TIMING);
    let mut sequence = Sequence {
        micros: START,
        ..Sequence::default()
    };
    let mut log = Vec::new();
    for (pause, step) in steps {
        sequence.micros = sequence.micros.saturating_add_signed(pause * 1000 + 7);
        if let Some(command) = sequence.command(step) {
            let expected = model.run(sequence.micros, &command);
            let actual = store.run(sequence.micros, &command);
            log.push((command, actual, expected));
        } else {
            store.client.call(&["FLUSHALL"]).unwrap();
            model = Model::without_expiry(TIMING);
        }
    }
    // Keys expire by the server's clock, the first after a second.
    prop_assume!(
        server_time(&mut store.client) - began < 900,
        "the machine is too slow"
    );
    for (command, actual, expected) in log {
        prop_assert_eq!(actual, expected, "{:?}", command);
    }
    Ok(())
}

/// `PROPTEST_CASES` sets another number of sequences.
#[test]
fn random_commands_have_equal_results_in_model_and_server() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let store = RefCell::new(Store::with_clock_argument(&server));
    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 400;
    }
    let sequences = prop::collection::vec((pause(), step()), 1..60);
    let run = |steps: Vec<_>| compare(&mut store.borrow_mut(), &steps);
    TestRunner::new(config).run(&sequences, run).unwrap();
}
