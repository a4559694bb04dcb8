//! The commands of a replica.

use std::fmt;
use std::time::Duration;

use crate::name::{Name, Replica, Ticket};
use crate::time::StoreTime;

/// The longest time for which a gate may be closed for all replicas.
pub const MAX_GATE_WAIT: Duration = Duration::from_mins(10);

/// The longest time for which all replicas respect a 429 of the token endpoint.
pub const MAX_LOGIN_WAIT: Duration = Duration::from_hours(1);

/// The limit of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimit {
    /// Number of permits.
    pub at_once: u32,
    /// Maximum number of tickets of all replicas that wait.
    pub room: u32,
    /// Longest wait of a request (`queue_timeout`).
    pub timeout: Duration,
}

/// A rate limit: the generic cell rate algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time between requests at the rate.
    pub interval: Duration,
    /// Time that a request may be ahead of schedule.
    pub burst: Duration,
    /// Longest wait of any request (`queue_timeout`), equal on all replicas.
    pub timeout: Duration,
}

impl Rate {
    /// Returns a rate of `count` requests a second, with a burst of as many. `count` is not zero.
    pub fn per_second(count: u32, timeout: Duration) -> Self {
        let count = count.max(1);
        let interval = Duration::from_secs(1) / count;
        Self {
            interval,
            burst: interval * (count - 1),
            timeout,
        }
    }
}

/// Tickets of one replica in one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueTickets {
    /// The queue.
    pub queue: Name,
    /// Its number of permits.
    pub at_once: u32,
    /// Tickets that hold a permit.
    pub held: Vec<Ticket>,
    /// Tickets that wait for one.
    pub waiting: Vec<Ticket>,
}

impl QueueTickets {
    /// Returns the tickets, those that hold a permit first.
    pub fn all(&self) -> impl Iterator<Item = &Ticket> {
        self.held.iter().chain(&self.waiting)
    }
}

/// The run id of a server, which a restart or failover changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId(pub [u8; 20]);

/// The first four bytes of a hash of the fleet's key, to detect replicas with another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyFingerprint(pub u32);

/// The name of a login lock: one for each login attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockName {
    /// The replica that logs in.
    pub replica: Replica,
    /// Its number of the attempt.
    pub number: u64,
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.replica, self.number)
    }
}

/// A value under a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// The sealed token of an identity.
    Token(Name),
    /// The sealed site id of a customer.
    Site(Name),
    /// A request for activation of a customer's frozen site.
    Activation(Name),
    /// The sealed redirects of a customer to other regions.
    Regions(Name),
    /// The sealed description of a replica.
    Member(Replica),
}

/// The result of a login, which ends its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginResult {
    /// A token, sealed.
    Token {
        /// The sealed record.
        record: Vec<u8>,
        /// Its remaining lifetime.
        lifetime: Duration,
        /// The secret that obtained it, whose rejection is over.
        secret: Name,
    },
    /// Citrix rejected the secret.
    Rejected {
        /// The secret.
        secret: Name,
        /// The sealed verdict.
        record: Vec<u8>,
        /// Time until the next attempt.
        lifetime: Duration,
    },
    /// The token endpoint returned 429.
    Throttled {
        /// Time until the next attempt.
        wait: Duration,
    },
    /// A failure of this replica's network: another replica may succeed.
    Failed,
    /// None was made, because the token in the store serves. No replica is notified.
    Unneeded,
}

/// Requests a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enter {
    /// The queue.
    pub queue: Name,
    /// The ticket.
    pub ticket: Ticket,
    /// The caller, which shares the queue fairly with others.
    pub caller: Name,
    /// The queue's limit.
    pub limit: QueueLimit,
    /// Time of the last effect.
    pub deadline: StoreTime,
}

/// Returns a permit, leaves the queue, or declines a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// The queue.
    pub queue: Name,
    /// The ticket.
    pub ticket: Ticket,
    /// The caller of `Enter`.
    pub caller: Name,
    /// The queue's number of permits.
    pub at_once: u32,
}

/// Renews what a replica holds and reports what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The replica.
    pub replica: Replica,
    /// Fingerprint of its key.
    pub key: KeyFingerprint,
    /// The server it is connected to, if known.
    pub run: Option<RunId>,
    /// Whether this is the first heartbeat of a connection.
    pub joins: bool,
    /// Its tickets.
    pub queues: Vec<QueueTickets>,
    /// Time of the last effect.
    pub deadline: StoreTime,
}

/// Ends a replica; passes its permits on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bye {
    /// The replica.
    pub replica: Replica,
    /// Its tickets.
    pub queues: Vec<QueueTickets>,
}

/// Takes the next slot of a rate limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// The rate limit.
    pub limit: Name,
    /// Its rate.
    pub rate: Rate,
    /// Longest wait of this request.
    pub max_wait: Duration,
    /// Time of the last effect.
    pub deadline: StoreTime,
}

/// Closes a gate, unless it is closed for longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The gate.
    pub place: Name,
    /// Time at which it opens.
    pub until: StoreTime,
    /// Time until then: a clock that was set since does not extend it.
    pub wait: Duration,
    /// The replica that closes it.
    pub replica: Replica,
}

/// Requests the right to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The credential.
    pub identity: Name,
    /// The secret to be used.
    pub secret: Name,
    /// Name of the lock.
    pub lock: LockName,
    /// Lifetime of the lock.
    pub lifetime: Duration,
    /// Minimum interval between forced logins, for a forced one.
    pub forced: Option<Duration>,
    /// Time of the last effect.
    pub deadline: StoreTime,
}

/// Ends a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The credential.
    pub identity: Name,
    /// Name of the lock.
    pub lock: LockName,
    /// The result.
    pub result: LoginResult,
}

/// Publishes a token that was obtained without a lock, unless another one was published meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The credential.
    pub identity: Name,
    /// The token that was in the store, sealed.
    pub known: Option<Vec<u8>>,
    /// The token, sealed.
    pub record: Vec<u8>,
    /// Its lifetime.
    pub lifetime: Duration,
}

/// Lists the replicas, and the permits of some queues. Changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The queues.
    pub queues: Vec<Name>,
}

/// Writes a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The key.
    pub fact: Fact,
    /// The value, sealed.
    pub value: Vec<u8>,
    /// Its lifetime.
    pub lifetime: Duration,
}

/// Writes a mark, unless it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The key.
    pub fact: Fact,
    /// Its lifetime.
    pub lifetime: Duration,
}

/// One command. Those that grant something carry a deadline and have no effect after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Requests a permit.
    Enter(Enter),
    /// Returns a permit, leaves the queue, or declines a permit.
    Leave(Leave),
    /// Renews what a replica holds and reports what it waits for.
    Beat(Beat),
    /// Ends a replica; passes its permits on.
    Bye(Bye),
    /// Takes the next slot of a rate limit.
    Reserve(Reserve),
    /// Closes a gate, unless it is closed for longer.
    Close(Close),
    /// Lists the closed gates.
    Gates,
    /// Requests the right to log in.
    Login(Login),
    /// Ends a login.
    Finish(Finish),
    /// Publishes a token that was obtained without a lock.
    Publish(Publish),
    /// Lists the replicas, and the permits of some queues.
    Members(Members),
    /// Reads a value.
    Get(Fact),
    /// Writes a value.
    Set(Set),
    /// Writes a mark, unless it is there.
    Mark(Mark),
}
