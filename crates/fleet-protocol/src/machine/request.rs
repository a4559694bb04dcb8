//! Requests concerning logins and facts.

use std::time::Duration;

use crate::command::{Fact, LoginResult};
use crate::name::Name;

/// A number that the requester chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Requests the right to log in.
    Login {
        /// The credential.
        identity: Name,
        /// The secret to be used.
        secret: Name,
        /// The number of the attempt, for [`Request::Finish`].
        attempt: u64,
        /// Lifetime of the lock.
        lifetime: Duration,
        /// Minimum interval between forced logins, for a forced one.
        forced: Option<Duration>,
    },
    /// Ends a login.
    Finish {
        /// The credential.
        identity: Name,
        /// The number of the attempt.
        attempt: u64,
        /// Its result.
        result: LoginResult,
    },
    /// Publishes a token that was obtained without a lock, unless another one was published meanwhile.
    Publish {
        /// The credential.
        identity: Name,
        /// The token that was in the store, sealed.
        known: Option<Vec<u8>>,
        /// The token, sealed.
        record: Vec<u8>,
        /// Its lifetime.
        lifetime: Duration,
    },
    /// Lists the replicas, and the permits of some queues.
    Members(Vec<Name>),
    /// Reads a value.
    Get(Fact),
    /// Writes a value.
    Set {
        /// The key.
        fact: Fact,
        /// The value, sealed.
        value: Vec<u8>,
        /// Its lifetime.
        lifetime: Duration,
    },
    /// Writes a mark, unless it is there.
    Mark {
        /// The key.
        fact: Fact,
        /// Its lifetime.
        lifetime: Duration,
    },
}
