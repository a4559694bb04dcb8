//! The state of callers' connections: what each waits for, since when, and when it must end.
//!
//! A request changes its connection's phase by storing into cells; it sets no timer and reads no
//! clock. One task per worker sweeps all connections and directs overdue ones to close. hyper's
//! header timer also runs while a connection idles, and would close keep-alive connections after
//! `header_read_timeout`; this module distinguishes the two waits.

mod all;
mod buffered;
pub mod caller_time;
mod evictable;
mod evictions;
mod head_bytes;
mod streams;
#[cfg(test)]
mod tests;
mod turns;

use std::cell::{Cell, OnceCell, RefCell};
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use http::Version;
use tokio::time::Instant;

use self::head_bytes::UnfinishedHead;
use self::streams::OpenStreams;
use self::turns::ReadTurn;
use crate::config::Limits;
use crate::inbound::tls::CallerCertificate;
use crate::inbound::transfer_rate::RateDeficit;
use crate::limit::owner::{Owner, OwnerKey};

pub use all::{Connections, RegisteredConnection, sweep_interval};
pub use evictions::Evictions;

/// Idle time after which an HTTP/1 connection is parked, that is, releases its buffers; at most a
/// quarter of `limits.keep_alive_timeout`.
const PARK_AFTER: Duration = Duration::from_secs(2);
/// Idle timeout of a connection on which no request was admitted; at most
/// `limits.keep_alive_timeout`.
const REJECTED_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a new connection has to begin its first request once the program drains: a round trip
/// and a margin.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that the client of an idle connection has to acknowledge a drain: over HTTP/2 the GOAWAY,
/// which clients that do not read idle connections never do.
const DRAIN_ACK_TIMEOUT: Duration = Duration::from_secs(1);

/// An instruction to the task of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    /// Finish the requests in progress and close.
    Drain,
    /// Respond 408, because a request head stalled, and close.
    HeadTimedOut,
    /// Respond 503, because unfinished heads use too much memory, and close.
    HeadRejected,
    /// Release buffers until the next request.
    Park,
    /// Close immediately.
    Abort,
}

/// The reason why the task of a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// It was closed by either side.
    Closed,
    /// With 408, because a request head stalled.
    HeadTimedOut,
    /// With 503, because unfinished heads use too much memory.
    HeadRejected,
    /// With `ENHANCE_YOUR_CALM`, because the caller exceeded a bound on resets, empty frames or
    /// CONTINUATION.
    Flooded,
}

/// The event a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionPhase {
    /// The eviction of another, at a limit of connections.
    Arriving,
    /// The end of the TLS handshake or the HTTP/2 preface.
    Opening,
    /// The first byte of a request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The end of at least one exchange, or of the upload that outlives it.
    Busy,
    /// The flush of the last response from hyper's buffer; nothing else may be written before.
    Flushing,
}

/// The state of one connection, shared by its task, its stream and the sweep.
pub struct Connection {
    accepted: Cell<Instant>,
    phase: Cell<ConnectionPhase>,
    /// Time at which a sweep first saw this phase.
    since: Cell<Option<Instant>>,
    /// Number of the phase change, or of the read of a handshake, in order of time over all
    /// connections of the worker.
    entered: Cell<u64>,
    /// Reads of the handshake that counted as a phase change.
    handshake_reads: Cell<u8>,
    /// The last of these numbers.
    phase_changes: Rc<Cell<u64>>,
    exchanges: Cell<usize>,
    /// Request bodies that are read; one may outlive its exchange.
    uploads: Cell<usize>,
    /// HTTP/1 only: the last response has ended, and was not flushed.
    flush_due: Cell<bool>,
    /// It has had an exchange.
    was_used: Cell<bool>,
    /// A request or login on it was admitted.
    admitted: Cell<bool>,
    /// The client host, once known.
    owner: OnceCell<Arc<Owner>>,
    http2: Cell<bool>,
    secure: Cell<bool>,
    /// Its TLS handshake has begun, or has ended.
    handshake: Cell<bool>,
    /// The last request used HTTP/1.0, so that the close may delimit its response.
    http10: Cell<bool>,
    /// Without TLS, although its listener requires it.
    plain_on_tls: Cell<bool>,
    /// A response has accepted a CONNECT request: what follows is no HTTP of this connection.
    is_tunnel: Cell<bool>,
    /// Boxed, because few callers have one.
    certificate: OnceCell<Box<CallerCertificate>>,
    head: UnfinishedHead,
    /// HTTP/2 only.
    streams: OpenStreams,
    /// Bytes that arrived over TLS since the last that were decrypted.
    undecrypted: Cell<usize>,
    write_blocked: Cell<bool>,
    /// Bytes written since the last sweep.
    written: Cell<u64>,
    /// Time of the last sweep, if writes were blocked then.
    seen_blocked: Cell<Option<Instant>>,
    rate_deficit: Cell<RateDeficit>,
    /// Exchanges that wait for the caller to send or read.
    waits: Cell<usize>,
    /// Time of the first of the sweeps in a row that saw a wait for the caller.
    waits_since: Cell<Option<Instant>>,
    /// The owner of the last permit of `limits.max_in_flight`.
    holder: RefCell<Option<Arc<Owner>>>,
    /// Its number in `all`.
    number: u64,
    turn: ReadTurn,
    /// All connections of the worker.
    all: Weak<Connections>,
    /// HTTP/1 only: not parked since the last exchange.
    may_park: Cell<bool>,
    /// Aborted because the program stops.
    stopped: Cell<bool>,
    /// Aborted to make room for another.
    evicted: Cell<bool>,
    directive: Cell<Option<Directive>>,
    /// Time of the first directive to drain.
    drained_at: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    fn new(all: Weak<Connections>, number: u64, phase_changes: Rc<Cell<u64>>) -> Self {
        let connection = Self {
            accepted: Cell::new(Instant::now()),
            phase: Cell::new(ConnectionPhase::Opening),
            since: Cell::new(None),
            entered: Cell::new(0),
            handshake_reads: Cell::new(0),
            phase_changes,
            exchanges: Cell::new(0),
            uploads: Cell::new(0),
            flush_due: Cell::new(false),
            was_used: Cell::new(false),
            admitted: Cell::new(false),
            owner: OnceCell::new(),
            http2: Cell::new(false),
            secure: Cell::new(false),
            handshake: Cell::new(false),
            http10: Cell::new(false),
            plain_on_tls: Cell::new(false),
            is_tunnel: Cell::new(false),
            certificate: OnceCell::new(),
            head: UnfinishedHead::default(),
            streams: OpenStreams::default(),
            undecrypted: Cell::new(0),
            write_blocked: Cell::new(false),
            written: Cell::new(0),
            seen_blocked: Cell::new(None),
            rate_deficit: Cell::default(),
            waits: Cell::new(0),
            waits_since: Cell::new(None),
            holder: RefCell::default(),
            number,
            turn: ReadTurn::default(),
            all,
            may_park: Cell::new(false),
            stopped: Cell::new(false),
            evicted: Cell::new(false),
            directive: Cell::new(None),
            drained_at: Cell::new(None),
            waker: RefCell::new(None),
        };
        connection.enter(ConnectionPhase::Opening);
        connection
    }

    fn enter(&self, phase: ConnectionPhase) {
        self.renumber();
        self.phase.set(phase);
        self.since.set(None);
    }

    fn renumber(&self) {
        let entered = self.phase_changes.get() + 1;
        self.phase_changes.set(entered);
        self.entered.set(entered);
    }

    /// Records that a limit of connections is reached: it is served if another can be evicted.
    pub fn begin_arrival(&self) {
        self.enter(ConnectionPhase::Arriving);
    }

    /// Records that it is served.
    pub fn end_arrival(&self) {
        if self.is_arriving() {
            self.enter(ConnectionPhase::Opening);
        }
    }

    /// Sets the client host.
    pub fn set_owner(&self, owner: Arc<Owner>) {
        // A connection has one client.
        self.owner.get_or_init(|| owner);
    }

    /// Returns the client host.
    pub fn owner(&self) -> &Arc<Owner> {
        self.owner.get_or_init(|| Owner::new(OwnerKey::Unix))
    }

    /// Records that a request or login was admitted.
    pub fn set_admitted(&self) {
        if !self.admitted.replace(true) {
            self.streams.release();
        }
    }

    /// Records the first bytes of a TLS handshake.
    pub fn handshake_began(&self) {
        self.handshake.set(true);
    }

    /// Records the end of the handshake.
    pub fn opened(&self) {
        self.handshake_ended();
        self.enter(ConnectionPhase::Idle);
    }

    /// Records that the caller uses TLS.
    pub fn set_tls(&self) {
        self.secure.set(true);
    }

    /// Returns `true` if the caller uses TLS.
    pub fn is_secure(&self) -> bool {
        self.secure.get()
    }

    /// Records that the caller sends plain HTTP to a TLS listener. Its requests must be rejected.
    pub fn set_plain_on_tls(&self) {
        self.plain_on_tls.set(true);
    }

    /// Returns `true` if the caller sends plain HTTP to a TLS listener.
    pub fn is_plain_on_tls(&self) -> bool {
        self.plain_on_tls.get()
    }

    /// Records that the response to a CONNECT request accepts it.
    pub fn set_tunnel(&self) {
        self.is_tunnel.set(true);
    }

    /// Returns `true` if what follows the last response belongs to a tunnel.
    pub(super) fn is_tunnel(&self) -> bool {
        self.is_tunnel.get()
    }

    /// Begins the handshake inside a tunnel, with the deadline of a new connection.
    pub fn begin_handshake(&self) {
        self.is_tunnel.set(false);
        self.http10.set(false);
        self.was_used.set(false);
        self.handshake.set(false);
        self.handshake_reads.set(0);
        self.may_park.set(false);
        self.accepted.set(Instant::now());
        self.enter(ConnectionPhase::Opening);
    }

    /// Begins the transfer of bytes that are not read here.
    pub fn begin_transfer(&self) {
        self.http10.set(false);
        self.may_park.set(false);
        self.enter(ConnectionPhase::Busy);
    }

    /// Records the verified client certificate.
    pub fn set_certificate(&self, certificate: CallerCertificate) {
        // A connection has one handshake.
        self.certificate.get_or_init(|| Box::new(certificate));
    }

    /// Returns the client certificate, verified against `listen.tls.client_ca`.
    pub fn certificate(&self) -> Option<&CallerCertificate> {
        self.certificate.get().map(|certificate| &**certificate)
    }

    /// Records that the caller uses HTTP/2, where received bytes are not necessarily a request
    /// head.
    pub fn set_http2(&self) {
        self.http2.set(true);
    }

    /// Records that a write would block.
    pub(super) fn write_blocked(&self) {
        self.write_blocked.set(true);
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.write_blocked.set(false);
        self.written
            .set(self.written.get().saturating_add(bytes as u64));
    }

    /// Returns the number of exchanges that share the connection, at least 1.
    pub(super) fn shares(&self) -> u64 {
        self.exchanges.get().max(1) as u64
    }

    /// Records that an exchange waits for the caller until the guard is dropped.
    pub(super) fn wait(self: &Rc<Self>) -> CallerWait {
        self.waits.set(self.waits.get() + 1);
        CallerWait(Rc::clone(self))
    }

    /// Records a completed flush.
    pub(super) fn flushed(&self) {
        if self.http2.get() {
            self.streams.flushed();
        }
        self.flush_due.set(false);
        if self.phase.get() == ConnectionPhase::Flushing {
            self.enter(ConnectionPhase::Idle);
        }
    }

    /// Returns `true` during the handshake.
    pub fn is_opening(&self) -> bool {
        self.phase.get() == ConnectionPhase::Opening
    }

    /// Returns `true` while a new connection waits for the eviction of another.
    pub fn is_arriving(&self) -> bool {
        self.phase.get() == ConnectionPhase::Arriving
    }

    /// Returns `true` if no request has begun since the last response was flushed.
    pub(super) fn is_idle(&self) -> bool {
        self.phase.get() == ConnectionPhase::Idle
    }

    /// Returns `true` if the connection was aborted because the program stops.
    pub fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Returns `true` if a request is arriving: its head has begun, or the connection is so new
    /// that the first is expected. HTTP/2 handles both by GOAWAY.
    fn is_receiving_head(&self, now: Instant) -> bool {
        match self.phase.get() {
            ConnectionPhase::Head => true,
            ConnectionPhase::Idle if !self.http2.get() && !self.was_used.get() => {
                waited(&self.since, now) < FIRST_REQUEST_TIMEOUT
            }
            _ => false,
        }
    }

    /// Returns `true` if an exchange is in progress or its response is not flushed.
    fn is_busy(&self) -> bool {
        matches!(
            self.phase.get(),
            ConnectionPhase::Busy | ConnectionPhase::Flushing
        )
    }

    /// Returns `true` if an orderly close would end an unfinished response cleanly: HTTP/1.0 has no
    /// last chunk.
    pub(super) fn must_reset(&self) -> bool {
        self.http10.get() && (self.exchanges.get() > 0 || self.flush_due.get())
    }

    /// Records a complete request head.
    pub fn exchange_began(&self, version: Version) {
        self.http10.set(version == Version::HTTP_10);
        self.exchanges.set(self.exchanges.get() + 1);
        self.was_used.set(true);
        if !self.http2.get() {
            // A buffer that has grown for the head is kept, and counted, until it is released.
            self.head.set_uncounted(0);
        }
        self.phase.set(ConnectionPhase::Busy);
    }

    /// Records the end of an exchange: its response was written or abandoned.
    pub fn exchange_ended(&self) {
        self.exchanges.set(self.exchanges.get().saturating_sub(1));
        // With HTTP/2 nothing bypasses the codec, so flushes do not matter.
        self.flush_due.set(!self.http2.get());
        self.end_busy();
    }

    /// Records that the body of a request is read until the guard is dropped.
    pub(super) fn begin_upload(self: &Rc<Self>) -> Upload {
        self.uploads.set(self.uploads.get() + 1);
        Upload(Rc::clone(self))
    }

    fn end_busy(&self) {
        if self.exchanges.get() > 0
            || self.uploads.get() > 0
            || self.phase.get() != ConnectionPhase::Busy
        {
            return;
        }
        self.enter(if self.flush_due.get() {
            ConnectionPhase::Flushing
        } else {
            ConnectionPhase::Idle
        });
        self.may_park.set(!self.http2.get());
    }

    /// Takes the pending directive, or registers the task to be woken by the next.
    pub fn poll_directive(&self, cx: &mut Context<'_>) -> Option<Directive> {
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        self.directive.take()
    }

    /// Closes the connection once the requests in progress are finished.
    pub fn drain(&self) {
        self.direct(Directive::Drain);
    }

    fn direct(&self, directive: Directive) {
        if directive == Directive::Drain && self.drained_at.get().is_none() {
            self.drained_at.set(Some(Instant::now()));
        }
        self.directive.set(Some(directive));
        self.wake();
    }

    /// Wakes the task of the connection.
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Returns how far the caller is behind the minimum transfer rate in reading.
    fn rate_deficit(&self, now: Instant) -> Duration {
        let mut rate_deficit = self.rate_deficit.get();
        let seen_blocked = self
            .seen_blocked
            .replace(self.write_blocked.get().then_some(now));
        if let Some(before) = seen_blocked {
            rate_deficit.waited(now.saturating_duration_since(before));
        }
        rate_deficit.transferred(self.written.take());
        self.rate_deficit.set(rate_deficit);
        rate_deficit.behind()
    }

    /// Returns the directive that is due at `now`.
    fn overdue(&self, limits: &Limits, now: Instant) -> Option<Directive> {
        if self.rate_deficit(now) >= limits.body_idle_timeout {
            return Some(Directive::Abort);
        }
        let waited = waited(&self.since, now);
        // The first request must arrive in time, whatever precedes it.
        let unused = if self.was_used.get() {
            Duration::ZERO
        } else {
            now.saturating_duration_since(self.accepted.get())
        };
        let head = limits.header_read_timeout;
        let idle = if self.admitted.get() || !self.was_used.get() {
            limits.keep_alive_timeout
        } else {
            limits.keep_alive_timeout.min(REJECTED_IDLE_TIMEOUT)
        };
        match self.phase.get() {
            ConnectionPhase::Opening if unused >= head => Some(Directive::Abort),
            ConnectionPhase::Idle
                if self
                    .drained_at
                    .get()
                    .is_some_and(|since| now >= since + DRAIN_ACK_TIMEOUT) =>
            {
                Some(Directive::Abort)
            }
            ConnectionPhase::Idle if waited >= idle || unused >= head => Some(Directive::Drain),
            ConnectionPhase::Idle
                if self.may_park.get()
                    && (waited >= park_after(limits) || self.head.is_counted()) =>
            {
                Some(Directive::Park)
            }
            ConnectionPhase::Head if waited.max(unused) >= head => Some(Directive::HeadTimedOut),
            _ => None,
        }
    }
}

/// Returns the time since the first sweep that called this. A deadline is therefore met up to one
/// sweep late, never early.
fn waited(since: &Cell<Option<Instant>>, now: Instant) -> Duration {
    let first = since.get().unwrap_or(now);
    since.set(Some(first));
    now.saturating_duration_since(first)
}

fn park_after(limits: &Limits) -> Duration {
    PARK_AFTER.min(limits.keep_alive_timeout / 4)
}

/// The body of a request is read while this exists.
pub(super) struct Upload(Rc<Connection>);

impl Deref for Upload {
    type Target = Rc<Connection>;

    fn deref(&self) -> &Rc<Connection> {
        &self.0
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.uploads.set(self.0.uploads.get().saturating_sub(1));
        self.0.end_busy();
    }
}

/// An exchange waits for the caller while this exists.
pub(super) struct CallerWait(Rc<Connection>);

impl Drop for CallerWait {
    fn drop(&mut self) {
        self.0.waits.set(self.0.waits.get().saturating_sub(1));
    }
}
