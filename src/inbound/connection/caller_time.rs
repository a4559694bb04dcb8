//! The time that exchanges with a queue permit wait for their callers while others queue for it.
//!
//! The total is bounded, not the rate: a caller that sends or reads a few bytes now and then must
//! not keep a permit that others wait for.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fleet_protocol::spacing::Spacing;
use tokio::time::Instant;

use super::{Connection, Directive};
use crate::config::Limits;
use crate::limit::{QueuePermit, QueueWatch};

/// Maximum time that the holder of a permit waits for its caller while others queue; at most a
/// quarter of `limits.body_idle_timeout`.
const MAX_CALLER_TIME: Duration = Duration::from_secs(5);

/// A queue permit, and the waits of its exchange for the caller.
pub struct HeldPermit {
    time: Rc<CallerTime>,
    /// `None` once it was taken.
    permit: Option<QueuePermit>,
}

/// The waits of an exchange that holds a queue permit.
pub struct CallerTime {
    queue: QueueWatch,
    /// The sides that wait.
    waiting: [Cell<bool>; 2],
    /// Start of the wait, or the last sweep during it.
    since: Cell<Instant>,
    /// Waits since the last sweep.
    waited: Cell<Duration>,
    /// Waits while others queued.
    total: Cell<Duration>,
    state: Cell<HoldState>,
    /// The task that waits for the request body, and the one that writes an HTTP/2 response.
    wakers: RefCell<[Option<Waker>; 2]>,
    /// HTTP/1: the connection, which is aborted when the response is not read.
    http1: RefCell<Option<Rc<Connection>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HoldState {
    Held,
    /// The exchange must end.
    Revoked,
    Released,
}

/// The side of an exchange that waits for the caller.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Request,
    Response,
}

/// A response body whose exchange may hold a queue permit.
pub trait KeepsPermit {
    /// Returns the waits of the exchange while it holds a permit.
    fn caller_time(&self) -> Option<&Rc<CallerTime>>;
}

/// A wait for the caller until it is dropped.
pub struct TimedWait {
    time: Rc<CallerTime>,
    side: Side,
}

impl HeldPermit {
    /// Keeps `permit` for an exchange on `connection`.
    pub fn new(permit: QueuePermit, connection: &Rc<Connection>) -> Self {
        let time = Rc::new(CallerTime {
            queue: permit.watch(),
            waiting: Default::default(),
            since: Cell::new(Instant::now()),
            waited: Cell::new(Duration::ZERO),
            total: Cell::new(Duration::ZERO),
            state: Cell::new(HoldState::Held),
            wakers: RefCell::default(),
            http1: RefCell::new((!connection.http2.get()).then(|| Rc::clone(connection))),
        });
        if let Some(all) = connection.all.upgrade() {
            all.watch(&time);
        }
        Self {
            time,
            permit: Some(permit),
        }
    }

    /// Records that a use of the permit begins. With a `spacing` it rests after it.
    pub fn begin_use(&mut self, spacing: Option<Spacing>) {
        if let Some(permit) = &mut self.permit {
            permit.begin_use(spacing);
        }
    }

    /// Returns the permit. From here on, waits for the caller are not counted.
    pub fn into_permit(mut self) -> Option<QueuePermit> {
        self.permit.take()
    }

    /// Returns the waits of the exchange.
    pub fn time(&self) -> &Rc<CallerTime> {
        &self.time
    }
}

impl Drop for HeldPermit {
    fn drop(&mut self) {
        self.time.state.set(HoldState::Released);
        // Otherwise the body of the request would keep the connection.
        self.time.http1.take();
    }
}

impl CallerTime {
    /// Begins a wait for the caller to send or read. An HTTP/1 caller whose time is over is
    /// disconnected; elsewhere the waiting task calls [`CallerTime::poll_revoked`].
    pub fn wait(self: &Rc<Self>, side: Side) -> TimedWait {
        if !self.is_waiting() {
            self.since.set(Instant::now());
        }
        self.waiting[side as usize].set(true);
        if self.is_revoked() {
            self.abort_unread_response();
        }
        TimedWait {
            time: Rc::clone(self),
            side,
        }
    }

    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(Cell::get)
    }

    /// Returns `true` if the exchange must end because others waited for its caller for too long.
    pub fn is_revoked(&self) -> bool {
        self.state.get() == HoldState::Revoked
    }

    /// Completes when the exchange must end.
    pub fn poll_revoked(&self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_revoked() {
            return Poll::Ready(());
        }
        let waker = &mut self.wakers.borrow_mut()[side as usize];
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Ends an exchange whose time is over. Returns `false` once the permit is released.
    pub(super) fn sweep(&self, limits: &Limits, now: Instant) -> bool {
        if self.state.get() == HoldState::Released {
            return false;
        }
        let mut waited = self.waited.take();
        if self.is_waiting() {
            waited += now.saturating_duration_since(self.since.replace(now));
        }
        if waited.is_zero() || !self.queue.is_contended() {
            return true;
        }
        self.total.set(self.total.get() + waited);
        if self.total.get() >= max_caller_time(limits) {
            self.revoke();
        }
        true
    }

    fn revoke(&self) {
        self.state.set(HoldState::Revoked);
        for waker in self.wakers.take().into_iter().flatten() {
            waker.wake();
        }
        self.abort_unread_response();
    }

    fn abort_unread_response(&self) {
        let unread = self.waiting[Side::Response as usize].get();
        if let Some(connection) = self.http1.borrow().as_ref().filter(|_| unread) {
            connection.direct(Directive::Abort);
        }
    }
}

impl fmt::Debug for CallerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerTime")
            .field("total", &self.total.get())
            .field("state", &self.state.get())
            .finish_non_exhaustive()
    }
}

impl Drop for TimedWait {
    fn drop(&mut self) {
        let time = &self.time;
        time.waiting[self.side as usize].set(false);
        if !time.is_waiting() {
            let waited = time.waited.get() + time.since.get().elapsed();
            time.waited.set(waited);
        }
    }
}

/// Returns the time that readers of a response may make others wait.
pub fn max_caller_time(limits: &Limits) -> Duration {
    MAX_CALLER_TIME.min(limits.body_idle_timeout / 4)
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroUsize};
    use std::rc::Weak;

    use super::*;
    use crate::config::Quota;
    use crate::limit::owner::OwnerKey;
    use crate::limit::{Admission, Limit};

    fn acquire(limit: &Limit) -> Admission<'_> {
        limit.acquire(OwnerKey::Unix, 10, NonZeroU32::MIN).unwrap()
    }

    /// Waits for the caller for `seconds`, and sweeps each second as the worker does.
    async fn wait(time: &Rc<CallerTime>, seconds: u64) {
        let limits = super::super::tests::limits();
        let waiting = time.wait(Side::Response);
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            time.sweep(&limits, Instant::now());
        }
        drop(waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_count_in_total_while_others_queue() {
        let limit = Limit::new(Quota::AtOnce(NonZeroUsize::MIN));
        let Admission::Immediate(admitted) = acquire(&limit) else {
            panic!("no permit");
        };
        let permit = admitted.permit.unwrap();
        let connection = Rc::new(Connection::new(Weak::new(), 0, Rc::default()));
        let held = HeldPermit::new(permit, &connection);
        wait(held.time(), 3600).await;
        assert!(!held.time().is_revoked(), "no other request is queued");
        let queued = acquire(&limit);
        for _ in 0..4 {
            wait(held.time(), 1).await;
            // Time in which the exchange waits for Citrix.
            tokio::time::advance(Duration::from_secs(100)).await;
        }
        assert!(!held.time().is_revoked());
        wait(held.time(), 1).await;
        assert!(held.time().is_revoked());
        assert_eq!(connection.directive.get(), Some(Directive::Abort));
        drop(held);
        drop(queued);
    }
}
