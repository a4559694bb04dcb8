//! The life of callers' connections: what each is waiting for, since when, and who ends it.
//!
//! A request moves its connection between phases by storing into cells. No timer is set on the way and no clock
//! read: one task a worker looks at all connections now and then and orders those that waited too long to close. hyper's own
//! header timer runs while a connection idles, too, and would close keep-alive connections after
//! `header_read_timeout`; this one tells the two waits apart.

mod all;
#[cfg(test)]
mod tests;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;
use crate::inbound::tls::CallerCertificate;
use crate::inbound::transfer_rate::RateDeficit;

pub use all::{Connections, RegisteredConnection, sweep_interval};

/// How long a connection idles before it is told to rest, where it may idle for four times as long. Who asks again
/// sooner finds everything in place.
const REST_AFTER: Duration = Duration::from_secs(2);
/// How long a caller may keep an exchange waiting, and move nothing on the others, before it makes room when all places
/// in flight are taken; a quarter of `limits.body_idle_timeout` if that is less.
const STUCK_AFTER: Duration = Duration::from_secs(2);
/// How long a caller that was let in may take to begin its first request when the program stops: a round trip, and some.
pub const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// What a connection is told to do by those who watch over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    /// Finish what is under way and close.
    Drain,
    /// A request head stalled: say so (408) and close.
    HeadTimedOut,
    /// Nothing happens: let go of what is not needed to wait.
    Park,
    /// Close at once.
    Abort,
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionPhase {
    /// The TLS handshake or HTTP/2's preface.
    Opening,
    /// The first byte of a request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The end of at least one exchange.
    Busy,
    /// The last answer's way out of hyper's buffer; until then nothing else may be written.
    Flushing,
}

/// One connection, as its own task, its stream and its watcher see it.
pub struct Connection {
    phase: Cell<ConnectionPhase>,
    /// When the watcher first saw this phase; no clock is read on the way.
    since: Cell<Option<Instant>>,
    exchanges: Cell<usize>,
    /// There was an exchange.
    was_used: Cell<bool>,
    http2: Cell<bool>,
    /// TLS is spoken.
    secure: Cell<bool>,
    /// Boxed: few callers have one.
    certificate: OnceCell<Box<CallerCertificate>>,
    write_blocked: Cell<bool>,
    /// Bytes the caller took since the watcher last looked.
    written: Cell<u64>,
    /// When the watcher last looked and found the caller not reading.
    seen_blocked: Cell<Option<Instant>>,
    rate_deficit: Cell<RateDeficit>,
    /// Exchanges that wait for the caller to send or to read.
    waits: Cell<usize>,
    /// Bytes of bodies that moved, either way, since the watcher last looked.
    moved: Cell<u64>,
    /// When the watcher first saw that the caller is waited for and moves nothing.
    stuck_since: Cell<Option<Instant>>,
    /// Its worker's.
    all: Weak<Connections>,
    /// Since its last exchange it was not told to rest; of HTTP/1 alone.
    may_rest: Cell<bool>,
    /// The program stops.
    stopped: Cell<bool>,
    order: Cell<Option<Directive>>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    fn new(all: Weak<Connections>) -> Self {
        Self {
            phase: Cell::new(ConnectionPhase::Opening),
            since: Cell::new(None),
            exchanges: Cell::new(0),
            was_used: Cell::new(false),
            http2: Cell::new(false),
            secure: Cell::new(false),
            certificate: OnceCell::new(),
            write_blocked: Cell::new(false),
            written: Cell::new(0),
            seen_blocked: Cell::new(None),
            rate_deficit: Cell::default(),
            waits: Cell::new(0),
            moved: Cell::new(0),
            stuck_since: Cell::new(None),
            all,
            may_rest: Cell::new(false),
            stopped: Cell::new(false),
            order: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    fn enter(&self, phase: ConnectionPhase) {
        self.phase.set(phase);
        self.since.set(None);
    }

    /// The handshake is done; the first request may come.
    pub fn opened(&self) {
        self.enter(ConnectionPhase::Idle);
    }

    /// TLS is spoken.
    pub fn set_tls(&self) {
        self.secure.set(true);
    }

    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.secure.get()
    }

    /// The caller set_certificate a certificate, and it was verified.
    pub fn set_certificate(&self, certificate: CallerCertificate) {
        // A connection has one handshake, so there is none yet.
        self.certificate.get_or_init(|| Box::new(certificate));
    }

    /// The certificate the caller set_certificate, verified against `listen.tls.client_ca`.
    pub fn certificate(&self) -> Option<&CallerCertificate> {
        self.certificate.get().map(|certificate| &**certificate)
    }

    /// HTTP/2 is spoken: bytes are frames (pings, settings), not the beginning of a head.
    pub fn set_http2(&self) {
        self.http2.set(true);
    }

    /// Bytes came from the caller.
    pub(super) fn bytes_arrived(&self) {
        if self.phase.get() == ConnectionPhase::Idle && !self.http2.get() {
            self.enter(ConnectionPhase::Head);
        }
    }

    /// The caller does not read.
    pub(super) fn write_blocked(&self) {
        self.write_blocked.set(true);
    }

    /// The caller took so many bytes.
    pub(super) fn wrote(&self, bytes: usize) {
        self.write_blocked.set(false);
        self.written
            .set(self.written.get().saturating_add(bytes as u64));
    }

    /// How many exchanges share it.
    pub(super) fn shares(&self) -> u64 {
        self.exchanges.get().max(1) as u64
    }

    /// An exchange waits for the caller, as long as the guard lives.
    pub(super) fn wait(self: &Rc<Self>) -> CallerWait {
        self.waits.set(self.waits.get() + 1);
        CallerWait(Rc::clone(self))
    }

    /// So many bytes of a body moved.
    pub(super) fn moved(&self, bytes: u64) {
        self.moved.set(self.moved.get().saturating_add(bytes));
    }

    /// Everything written so far is out.
    pub(super) fn flushed(&self) {
        if self.phase.get() == ConnectionPhase::Flushing {
            self.enter(ConnectionPhase::Idle);
        }
    }

    /// Whether the handshake is still under way.
    pub fn is_opening(&self) -> bool {
        self.phase.get() == ConnectionPhase::Opening
    }

    /// Whether nothing was asked since the last answer went out.
    pub(super) fn is_idle(&self) -> bool {
        self.phase.get() == ConnectionPhase::Idle
    }

    /// Whether it is cut off because the program stops.
    pub fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Whether a request is on its way in: its head has begun, or the connection is so new that its first is to be
    /// expected. HTTP/2 has GOAWAY for both.
    fn is_asking(&self, now: Instant) -> bool {
        match self.phase.get() {
            ConnectionPhase::Head => true,
            ConnectionPhase::Idle if !self.http2.get() && !self.was_used.get() => {
                waited(&self.since, now) < FIRST_REQUEST
            }
            _ => false,
        }
    }

    /// Whether a request is being answered, or its answer is still on its way out.
    fn is_busy(&self) -> bool {
        matches!(
            self.phase.get(),
            ConnectionPhase::Busy | ConnectionPhase::Flushing
        )
    }

    /// A request's head is complete.
    pub fn exchange_began(&self) {
        self.exchanges.set(self.exchanges.get() + 1);
        self.was_used.set(true);
        self.phase.set(ConnectionPhase::Busy);
    }

    /// An answer's last byte was handed to the connection, or the exchange was given up.
    pub fn exchange_ended(&self) {
        let left = self.exchanges.get().saturating_sub(1);
        self.exchanges.set(left);
        if left == 0 {
            // Of HTTP/2 nothing is written around the codec, so its flushes need not be watched.
            self.enter(if self.http2.get() {
                ConnectionPhase::Idle
            } else {
                ConnectionPhase::Flushing
            });
            self.may_rest.set(!self.http2.get());
        }
    }

    /// The order that waits for this connection, if any; otherwise the task is woken when one comes.
    pub fn poll_directive(&self, cx: &mut Context<'_>) -> Option<Directive> {
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        self.order.take()
    }

    fn give(&self, order: Directive) {
        self.order.set(Some(order));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// How far the caller is behind with reading.
    fn rate_deficit(&self, now: Instant) -> Duration {
        let mut rate_deficit = self.rate_deficit.get();
        let seen_blocked = self
            .seen_blocked
            .replace(self.write_blocked.get().then_some(now));
        if let Some(before) = seen_blocked {
            rate_deficit.waited(now.saturating_duration_since(before));
        }
        rate_deficit.moved(self.written.take());
        self.rate_deficit.set(rate_deficit);
        rate_deficit.behind()
    }

    /// Whether the caller has been waited for, for a while, and moved nothing on any of his exchanges.
    fn is_stuck(&self, limits: &Limits, now: Instant) -> bool {
        // Of HTTP/2 any frame is written, answers to pings as well.
        let written = if self.http2.get() {
            0
        } else {
            self.written.get()
        };
        let is_waited_for = self.waits.get() > 0 || self.write_blocked.get();
        if self.moved.take() > 0 || written > 0 || !is_waited_for {
            self.stuck_since.set(None);
            return false;
        }
        waited(&self.stuck_since, now) >= STUCK_AFTER.min(limits.body_idle_timeout / 4)
    }

    /// Ends a connection of this worker whose caller is waited for and moves nothing, to make room; `false` when there
    /// is none.
    pub fn evict_stalled(&self) -> bool {
        self.all.upgrade().is_some_and(|all| all.evict_stalled())
    }

    /// What has become due at `now`.
    fn overdue(&self, limits: &Limits, now: Instant) -> Option<Directive> {
        if self.rate_deficit(now) >= limits.body_idle_timeout {
            return Some(Directive::Abort);
        }
        let waited = waited(&self.since, now);
        match self.phase.get() {
            ConnectionPhase::Opening if waited >= limits.header_read_timeout => {
                Some(Directive::Abort)
            }
            // HTTP/2 asks the caller to agree; one that is gone never does.
            ConnectionPhase::Idle
                if waited >= limits.keep_alive_timeout + limits.header_read_timeout =>
            {
                Some(Directive::Abort)
            }
            ConnectionPhase::Idle if waited >= limits.keep_alive_timeout => Some(Directive::Drain),
            ConnectionPhase::Idle if self.may_rest.get() && waited >= rest_after(limits) => {
                Some(Directive::Park)
            }
            ConnectionPhase::Head if waited >= limits.header_read_timeout => {
                Some(Directive::HeadTimedOut)
            }
            _ => None,
        }
    }
}

/// How long it is since the watcher first looked. A deadline is therefore met late by up to one sweep, never
/// early.
fn waited(since: &Cell<Option<Instant>>, now: Instant) -> Duration {
    let first = since.get().unwrap_or(now);
    since.set(Some(first));
    now.saturating_duration_since(first)
}

fn rest_after(limits: &Limits) -> Duration {
    REST_AFTER.min(limits.keep_alive_timeout / 4)
}

/// An exchange that waits for its caller.
pub(super) struct CallerWait(Rc<Connection>);

impl Drop for CallerWait {
    fn drop(&mut self) {
        self.0.waits.set(self.0.waits.get().saturating_sub(1));
    }
}
