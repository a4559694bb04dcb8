//! Replies and messages of the store.

use std::time::Duration;

use crate::name::{Name, Replica, Ticket};
use crate::time::StoreTime;

/// A value of the store's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Nil,
    /// An integer.
    Int(i64),
    /// A string or status.
    Bytes(Vec<u8>),
    /// A list.
    Array(Vec<Self>),
}

/// A reply or push that is not in the format of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The reply to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The store's time, from a script.
    pub now: Option<StoreTime>,
    /// The result.
    pub body: Body,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The command ran after its deadline and had no effect.
    Late,
    /// Enter: the ticket holds a permit.
    Go,
    /// Enter: the ticket waits.
    Wait,
    /// Enter: too many tickets wait.
    Crowded,
    /// Leave and bye.
    Left,
    /// Beat.
    Beat(BeatReply),
    /// Reserve: the time until the slot.
    At(Duration),
    /// Reserve: the slot is later than the request waits; it is not taken.
    Never,
    /// Close.
    Closed,
    /// Gates: those that are closed, with the time left.
    Gates(Vec<(Name, Duration)>),
    /// Login.
    Login {
        /// The decision.
        outcome: LoginOutcome,
        /// The sealed token in the store.
        token: Option<Vec<u8>>,
    },
    /// Finish and publish: the result is stored.
    Done,
    /// Finish: another replica has the lock by now. Publish: the store has another token by now.
    /// Nothing is stored.
    Overtaken,
    /// Members.
    Members(MembersReply),
    /// Get.
    Value(Option<Vec<u8>>),
    /// Set and mark: whether the value was written.
    Written(bool),
}

/// The reply to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BeatReply {
    /// Replicas that are alive.
    pub replicas: u32,
    /// Different keys among them.
    pub keys: u32,
    /// Permits that were given to other tickets.
    pub lost: Vec<Ticket>,
    /// Waiting tickets that hold a permit.
    pub go: Vec<Ticket>,
    /// Waiting tickets that the store does not know.
    pub gone: Vec<Ticket>,
}

/// The replicas, and the queues in the order of the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembersReply {
    /// Replicas that are alive, with the time since their heartbeats.
    pub replicas: Vec<(Replica, Duration)>,
    /// The queues.
    pub queues: Vec<QueueState>,
}

/// A queue in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// Tickets that hold a permit.
    pub holders: Vec<Ticket>,
    /// Number of tickets that wait.
    pub waiting: u32,
}

/// A decision on a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// The lock is this replica's.
    Mine,
    /// Another replica logs in.
    Held,
    /// The last forced login is too recent; the time to wait.
    Recent(Duration),
    /// The token endpoint returned 429; the time to wait.
    Throttled(Duration),
    /// Citrix rejected the secret; the sealed verdict.
    Rejected(Vec<u8>),
}

/// A message from the store without a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// A ticket holds a permit.
    Go {
        /// The queue.
        queue: Name,
        /// The ticket.
        ticket: Ticket,
    },
    /// A gate was closed.
    Gate {
        /// The gate.
        place: Name,
        /// Time until it opens.
        wait: Duration,
        /// The replica that closed it.
        by: Replica,
    },
    /// The token, verdict or lock of an identity changed.
    Token(Name),
}

impl Push {
    /// Parses a message.
    ///
    /// # Errors
    /// If it is not in the format of this version.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let text = str::from_utf8(message).map_err(|_| Malformed)?;
        let words: Vec<&str> = text.splitn(5, ' ').collect();
        Ok(match words[..] {
            ["go", queue, ticket] => Self::Go {
                queue: parse(queue)?,
                ticket: parse(ticket)?,
            },
            ["gate", place, wait, by] => Self::Gate {
                place: parse(place)?,
                wait: Duration::from_millis(parse(wait)?),
                by: parse(by)?,
            },
            ["token", identity] => Self::Token(parse(identity)?),
            _ => return Err(Malformed),
        })
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|_| Malformed)
}

impl Reply {
    /// Decodes the reply of a script.
    ///
    /// # Errors
    /// If it is not in the format of this version.
    pub fn from_script(value: Value) -> Result<Self, Malformed> {
        let mut values = Values::of(value)?;
        let now = StoreTime(values.number()?);
        let word = values.bytes()?;
        let body = match &word[..] {
            b"late" => Body::Late,
            b"go" => Body::Go,
            b"wait" => Body::Wait,
            b"crowded" => Body::Crowded,
            b"left" => Body::Left,
            b"beat" => Body::Beat(BeatReply {
                replicas: values.small()?,
                keys: values.small()?,
                lost: values.tickets()?,
                go: values.tickets()?,
                gone: values.tickets()?,
            }),
            b"at" => Body::At(Duration::from_micros(values.number()?)),
            b"never" => Body::Never,
            b"closed" => Body::Closed,
            b"gates" => Body::Gates(values.pairs()?),
            b"members" => Body::Members(MembersReply {
                replicas: values.pairs()?,
                queues: values.queues()?,
            }),
            b"done" => Body::Done,
            b"overtaken" => Body::Overtaken,
            outcome => values.login(outcome)?,
        };
        Ok(Self {
            now: Some(now),
            body,
        })
    }

    /// Decodes the reply of a plain command.
    ///
    /// # Errors
    /// If it is not in the format of this version.
    pub fn from_plain(reads: bool, value: Value) -> Result<Self, Malformed> {
        let body = match (reads, value) {
            (true, Value::Nil) => Body::Value(None),
            (true, Value::Bytes(bytes)) => Body::Value(Some(bytes)),
            (false, Value::Nil) => Body::Written(false),
            (false, Value::Bytes(_)) => Body::Written(true),
            _ => return Err(Malformed),
        };
        Ok(Self { now: None, body })
    }
}

/// The items of a list, in order.
struct Values(std::vec::IntoIter<Value>);

impl Values {
    fn of(value: Value) -> Result<Self, Malformed> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(Malformed),
        }
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        match self.0.next() {
            Some(Value::Int(number)) => u64::try_from(number).map_err(|_| Malformed),
            _ => Err(Malformed),
        }
    }

    fn small(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        match self.0.next() {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    fn word<T: std::str::FromStr>(&mut self) -> Result<T, Malformed> {
        parse(str::from_utf8(&self.bytes()?).map_err(|_| Malformed)?)
    }

    fn list(&mut self) -> Result<Self, Malformed> {
        Self::of(self.0.next().ok_or(Malformed)?)
    }

    fn tickets(&mut self) -> Result<Vec<Ticket>, Malformed> {
        let mut list = self.list()?;
        (0..list.0.len()).map(|_| list.word()).collect()
    }

    /// Reads names with milliseconds.
    fn pairs<T: std::str::FromStr>(&mut self) -> Result<Vec<(T, Duration)>, Malformed> {
        let mut list = self.list()?;
        let count = list.0.len() / 2;
        let pair = |_| {
            let name = list.word()?;
            Ok((name, Duration::from_millis(list.number()?)))
        };
        (0..count).map(pair).collect()
    }

    fn queues(&mut self) -> Result<Vec<QueueState>, Malformed> {
        let mut list = self.list()?;
        let count = list.0.len() / 2;
        let queue = |_| {
            Ok(QueueState {
                holders: list.tickets()?,
                waiting: list.small()?,
            })
        };
        (0..count).map(queue).collect()
    }

    fn login(&mut self, outcome: &[u8]) -> Result<Body, Malformed> {
        let token = self.bytes()?;
        let outcome = match outcome {
            b"mine" => LoginOutcome::Mine,
            b"held" => LoginOutcome::Held,
            b"recent" => LoginOutcome::Recent(Duration::from_millis(self.number()?)),
            b"throttled" => LoginOutcome::Throttled(Duration::from_millis(self.number()?)),
            b"rejected" => LoginOutcome::Rejected(self.bytes()?),
            _ => return Err(Malformed),
        };
        let token = Some(token).filter(|token| !token.is_empty());
        Ok(Body::Login { outcome, token })
    }
}
