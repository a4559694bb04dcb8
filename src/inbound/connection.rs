//! The life of callers' connections: what each is waiting for, since when, and who ends it.
//!
//! A request moves its connection between phases by storing into cells. No timer is set on the way and no clock
//! read: one task a worker looks at all connections now and then and orders those that waited too long to close. hyper's own
//! header timer runs while a connection idles, too, and would close keep-alive connections after
//! `header_read_timeout`; this one tells the two waits apart.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;
use crate::tls::CallerCertificate;

/// What a connection is told to do by those who watch over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Finish what is under way and close.
    Finish,
    /// A request head stalled: say so (408) and close.
    HeadStalled,
    /// Close at once.
    Abort,
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
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
    phase: Cell<Phase>,
    /// When the watcher first saw this phase; no clock is read on the way.
    since: Cell<Option<Instant>>,
    exchanges: Cell<usize>,
    http2: Cell<bool>,
    /// TLS is spoken.
    secure: Cell<bool>,
    /// Boxed: few callers have one.
    certificate: OnceCell<Box<CallerCertificate>>,
    write_blocked: Cell<bool>,
    write_blocked_since: Cell<Option<Instant>>,
    /// The program stops.
    stopped: Cell<bool>,
    order: Cell<Option<Order>>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Opening),
            since: Cell::new(None),
            exchanges: Cell::new(0),
            http2: Cell::new(false),
            secure: Cell::new(false),
            certificate: OnceCell::new(),
            write_blocked: Cell::new(false),
            write_blocked_since: Cell::new(None),
            stopped: Cell::new(false),
            order: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(None);
    }

    /// The handshake is done; the first request may come.
    pub fn opened(&self) {
        self.enter(Phase::Idle);
    }

    /// TLS is spoken.
    pub fn speaks_tls(&self) {
        self.secure.set(true);
    }

    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.secure.get()
    }

    /// The caller showed a certificate, and it was verified.
    pub fn showed(&self, certificate: CallerCertificate) {
        // A connection has one handshake, so there is none yet.
        self.certificate.get_or_init(|| Box::new(certificate));
    }

    /// The certificate the caller showed, verified against `listen.tls.client_ca`.
    pub fn certificate(&self) -> Option<&CallerCertificate> {
        self.certificate.get().map(|certificate| &**certificate)
    }

    /// HTTP/2 is spoken: bytes are frames (pings, settings), not the beginning of a head.
    pub fn speaks_http2(&self) {
        self.http2.set(true);
    }

    /// Bytes came from the caller.
    pub(super) fn bytes_arrived(&self) {
        if self.phase.get() == Phase::Idle && !self.http2.get() {
            self.enter(Phase::Head);
        }
    }

    /// The caller does not read, or reads again.
    pub(super) fn write_blocked(&self, blocked: bool) {
        self.write_blocked.set(blocked);
        if !blocked {
            self.write_blocked_since.set(None);
        }
    }

    /// Everything written so far is out.
    pub(super) fn flushed(&self) {
        if self.phase.get() == Phase::Flushing {
            self.enter(Phase::Idle);
        }
    }

    /// Whether the handshake is still under way.
    pub fn is_opening(&self) -> bool {
        self.phase.get() == Phase::Opening
    }

    /// Whether it is cut off because the program stops.
    pub fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Whether a request is being answered, or its answer is still on its way out.
    fn is_busy(&self) -> bool {
        matches!(self.phase.get(), Phase::Busy | Phase::Flushing)
    }

    /// A request's head is complete.
    pub fn exchange_began(&self) {
        self.exchanges.set(self.exchanges.get() + 1);
        self.phase.set(Phase::Busy);
    }

    /// An answer's last byte was handed to the connection, or the exchange was given up.
    pub fn exchange_ended(&self) {
        let left = self.exchanges.get().saturating_sub(1);
        self.exchanges.set(left);
        if left == 0 {
            // Of HTTP/2 nothing is written around the codec, so its flushes need not be watched.
            self.enter(if self.http2.get() { Phase::Idle } else { Phase::Flushing });
        }
    }

    /// The order that waits for this connection, if any; otherwise the task is woken when one comes.
    pub fn poll_order(&self, cx: &mut Context<'_>) -> Option<Order> {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.order.take()
    }

    fn give(&self, order: Order) {
        self.order.set(Some(order));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// What has become due at `now`.
    fn overdue(&self, limits: &Limits, now: Instant) -> Option<Order> {
        if self.write_blocked.get() && waited(&self.write_blocked_since, now) >= limits.body_idle_timeout {
            return Some(Order::Abort);
        }
        let waited = waited(&self.since, now);
        match self.phase.get() {
            Phase::Opening if waited >= limits.header_read_timeout => Some(Order::Abort),
            // HTTP/2 asks the caller to agree; one that is gone never does.
            Phase::Idle if waited >= limits.keep_alive_timeout + limits.header_read_timeout => {
                Some(Order::Abort)
            }
            Phase::Idle if waited >= limits.keep_alive_timeout => Some(Order::Finish),
            Phase::Head if waited >= limits.header_read_timeout => Some(Order::HeadStalled),
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

/// All connections of one worker.
#[derive(Default)]
pub struct Connections {
    all: RefCell<HashMap<u64, Rc<Connection>>>,
    next: Cell<u64>,
}

impl Connections {
    /// Enters a new connection; it is taken out when the guard is dropped.
    pub fn enter(self: &Rc<Self>) -> Entered {
        let id = self.next.get();
        self.next.set(id + 1);
        let connection = Rc::new(Connection::new());
        self.all.borrow_mut().insert(id, Rc::clone(&connection));
        Entered { connection, id, all: Rc::downgrade(self) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// How many have a request in flight.
    pub fn busy(&self) -> usize {
        self.all.borrow().values().filter(|connection| connection.is_busy()).count()
    }

    /// Tells every connection to finish what is under way and close.
    pub fn finish_all(&self) {
        self.give_all(Order::Finish);
    }

    /// Tells every connection to close at once, as the program stops.
    pub fn abort_all(&self) {
        for connection in self.all.borrow().values() {
            connection.stopped.set(true);
        }
        self.give_all(Order::Abort);
    }

    fn give_all(&self, order: Order) {
        for connection in self.all.borrow().values() {
            connection.give(order);
        }
    }

    /// Ends the connections that waited too long.
    pub fn sweep(&self, limits: &Limits) {
        let now = Instant::now();
        for connection in self.all.borrow().values() {
            if let Some(order) = connection.overdue(limits, now) {
                connection.give(order);
            }
        }
    }
}

/// How often [`Connections::sweep`] is due: often enough that a deadline is met within a tenth of it.
pub fn sweep_interval(limits: &Limits) -> Duration {
    let shortest = limits.header_read_timeout.min(limits.keep_alive_timeout).min(limits.body_idle_timeout);
    (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

/// A connection that is on its worker's list.
pub struct Entered {
    connection: Rc<Connection>,
    id: u64,
    all: Weak<Connections>,
}

impl Entered {
    /// The connection.
    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(all) = self.all.upgrade() {
            all.all.borrow_mut().remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            max_connections: 1,
            max_connections_per_address: 0,
            max_in_flight: 1,
            max_queued: 1,
            header_read_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(60),
            keep_alive_timeout: Duration::from_secs(600),
            max_header_bytes: 65536,
            max_body_bytes: 1,
            replay_buffer_bytes: 1,
        }
    }

    /// What is due some seconds after the watcher first saw the connection as it is.
    async fn after(seconds: u64, connection: &Connection) -> Option<Order> {
        connection.overdue(&limits(), Instant::now());
        tokio::time::advance(Duration::from_secs(seconds)).await;
        connection.overdue(&limits(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_deadline() {
        let connection = Connection::new();
        assert_eq!(after(9, &connection).await, None);
        assert_eq!(after(1, &connection).await, Some(Order::Abort), "a handshake that stalls");

        connection.opened();
        assert_eq!(after(599, &connection).await, None);
        connection.bytes_arrived();
        assert_eq!(after(9, &connection).await, None);
        connection.bytes_arrived();
        assert_eq!(
            after(1, &connection).await,
            Some(Order::HeadStalled),
            "the clock runs from the first byte"
        );

        connection.exchange_began();
        assert_eq!(after(100_000, &connection).await, None, "the exchange has deadlines of its own");
        connection.exchange_ended();
        connection.bytes_arrived();
        assert_eq!(after(599, &connection).await, None, "bytes before the answer is out begin no head");
        connection.flushed();
        assert_eq!(after(599, &connection).await, None);
        assert_eq!(after(1, &connection).await, Some(Order::Finish), "idle for too long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_does_not_read_is_given_up() {
        let connection = Connection::new();
        connection.exchange_began();
        connection.write_blocked(true);
        assert_eq!(after(59, &connection).await, None);
        connection.write_blocked(false);
        connection.write_blocked(true);
        assert_eq!(after(59, &connection).await, None);
        assert_eq!(after(1, &connection).await, Some(Order::Abort));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_on_an_idle_http2_connection_start_no_head() {
        let connection = Connection::new();
        connection.opened();
        connection.speaks_http2();
        connection.bytes_arrived();
        assert_eq!(after(100, &connection).await, None);
    }

    #[test]
    fn a_connection_leaves_the_list_when_it_ends() {
        let connections = Rc::new(Connections::default());
        let entered = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(async { connections.enter() });
        assert_eq!(connections.len(), 1);
        drop(entered);
        assert!(connections.is_empty());
    }
}
