//! The state of a request body that outlasts the body, and its failures.

use std::cell::{Cell, OnceCell, RefCell};
use std::error::Error as _;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use citrix_wire::framing_guard::ChunkedBodyError;
use tokio::time::Instant;

use crate::error::{Failure, Reason};
use crate::inbound::connection::caller_time::CallerTime;
use crate::inbound::replay_buffer::ReplayBuffer;
use crate::limit::owner::OwnedPermit;

/// A failure of a request body that the caller caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// Larger than `limits.max_body_bytes`.
    #[error("request body exceeds limits.max_body_bytes")]
    TooLarge,
    /// It was incomplete for too long while others queued for the permit of its request.
    #[error("request body incomplete for 5s while others waited for this service")]
    Revoked,
    /// It fell `limits.body_idle_timeout` behind the minimum transfer rate.
    #[error("request body stalled for limits.body_idle_timeout")]
    Stalled,
    /// Its chunks or trailers have more than one reading.
    #[error("request body is ambiguous: {0}")]
    Ambiguous(ChunkedBodyError),
    /// The caller disconnected, reset the stream or sent invalid framing.
    #[error("request body is truncated")]
    Broken,
}

impl From<hyper::Error> for BodyFault {
    fn from(error: hyper::Error) -> Self {
        let source = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>());
        let ambiguous = source
            .and_then(io::Error::get_ref)
            .and_then(|source| source.downcast_ref::<ChunkedBodyError>());
        ambiguous.map_or(Self::Broken, |error| Self::Ambiguous(*error))
    }
}

impl From<BodyFault> for Failure {
    fn from(fault: BodyFault) -> Self {
        let reason = match fault {
            BodyFault::TooLarge => Reason::BodyTooLarge,
            BodyFault::Stalled | BodyFault::Revoked => Reason::RequestTimeout,
            BodyFault::Ambiguous(_) | BodyFault::Broken => Reason::BadRequest,
        };
        Self::new(reason, fault.to_string())
    }
}

/// The state of a body that hyper owns while it is sent.
pub struct BodyProgress {
    /// The reason why it ended early.
    pub fault: Cell<Option<BodyFault>>,
    /// Bytes received.
    pub bytes: Cell<u64>,
    /// Time of the last frame or of the end.
    pub last_progress: Cell<Instant>,
    /// The longest possible wait for the next frame while the caller is waited for; zero at other
    /// times.
    pub caller_wait: Cell<Duration>,
    /// `true` once no more of it will be sent: it is complete, failed or was dropped.
    pub ended: Cell<bool>,
    /// The bytes received so far, for a replay.
    pub replay_buffer: RefCell<ReplayBuffer>,
    /// The waits of the exchange, once it holds a queue permit.
    held: OnceCell<Rc<CallerTime>>,
    /// The bytes that may be buffered of it.
    reserved: Cell<Option<OwnedPermit>>,
}

impl BodyProgress {
    /// Counts waits for the rest of the body while the exchange holds a queue permit.
    pub fn hold_permit(&self, time: &Rc<CallerTime>) {
        // An exchange acquires one permit.
        self.held.get_or_init(|| Rc::clone(time));
    }

    /// Returns the waits of the exchange, once it holds a queue permit.
    pub(super) fn permit_time(&self) -> Option<&Rc<CallerTime>> {
        self.held.get()
    }

    /// Keeps the permits for the bytes that may be buffered, until the body and its replay buffer
    /// are dropped.
    pub(super) fn reserve(&self, bytes: OwnedPermit) {
        self.reserved.set(Some(bytes));
    }

    /// Takes the permits for the bytes that may be buffered.
    pub fn take_reserved(&self) -> Option<OwnedPermit> {
        self.reserved.take()
    }
}

impl Default for BodyProgress {
    fn default() -> Self {
        Self {
            fault: Cell::new(None),
            bytes: Cell::new(0),
            last_progress: Cell::new(Instant::now()),
            caller_wait: Cell::new(Duration::ZERO),
            ended: Cell::new(false),
            replay_buffer: RefCell::default(),
            held: OnceCell::new(),
            reserved: Cell::new(None),
        }
    }
}
