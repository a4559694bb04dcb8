//! The connections of a worker, and the sweep that closes overdue ones.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::caller_time::CallerTime;
use super::{Connection, Directive};
use crate::config::Limits;

/// Connections parked per sweep, so that many that fall idle at once do not delay the others.
const MAX_PARKED: usize = 500;

/// All connections of one worker.
#[derive(Default)]
pub struct Connections {
    all: RefCell<HashMap<u64, Rc<Connection>>>,
    /// Those that were stalled at the last sweep.
    stalled: RefCell<Vec<Weak<Connection>>>,
    /// The waits of exchanges that hold queue permits.
    held: RefCell<Vec<Weak<CallerTime>>>,
    next: Cell<u64>,
}

impl Connections {
    /// Adds a new connection until the guard is dropped.
    pub fn register(self: &Rc<Self>) -> RegisteredConnection {
        let id = self.next.get();
        self.next.set(id + 1);
        let connection = Rc::new(Connection::new(Rc::downgrade(self)));
        self.all.borrow_mut().insert(id, Rc::clone(&connection));
        RegisteredConnection {
            connection,
            id,
            all: Rc::downgrade(self),
        }
    }

    /// Returns the number of connections.
    pub fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Returns `true` without connections.
    pub fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Returns the number of connections with a request in progress.
    pub fn busy(&self) -> usize {
        self.all
            .borrow()
            .values()
            .filter(|connection| connection.is_busy())
            .count()
    }

    /// Drains all connections on which no request is arriving. Called repeatedly, until those have
    /// been drained too.
    pub fn drain_all(&self) {
        let now = Instant::now();
        let all = self.all.borrow();
        for connection in all
            .values()
            .filter(|connection| !connection.is_receiving_head(now))
        {
            connection.direct(Directive::Drain);
        }
    }

    /// Closes all connections, because the program stops.
    pub fn abort_all(&self) {
        for connection in self.all.borrow().values() {
            connection.stopped.set(true);
            connection.direct(Directive::Abort);
        }
    }

    /// Bounds the waits of an exchange that holds a queue permit.
    pub(super) fn watch(&self, time: &Rc<CallerTime>) {
        self.held.borrow_mut().push(Rc::downgrade(time));
    }

    /// Closes or parks overdue connections, and ends exchanges that keep others waiting.
    pub fn sweep(&self, limits: &Limits) {
        let now = Instant::now();
        self.held
            .borrow_mut()
            .retain(|time| time.upgrade().is_some_and(|time| time.sweep(limits, now)));
        let mut parked = 0;
        let mut stalled = self.stalled.borrow_mut();
        stalled.clear();
        for connection in self.all.borrow().values() {
            if connection.is_stalled(limits, now) {
                stalled.push(Rc::downgrade(connection));
            }
            match connection.overdue(limits, now) {
                Some(Directive::Park) if parked >= MAX_PARKED => {}
                Some(Directive::Park) => {
                    parked += 1;
                    connection.may_park.set(false);
                    connection.direct(Directive::Park);
                }
                Some(directive) => connection.direct(directive),
                None => {}
            }
        }
    }

    /// Aborts a stalled connection. Returns `false` if there is none.
    pub(super) fn evict_stalled(&self) -> bool {
        while let Some(stalled) = self.stalled.borrow_mut().pop() {
            // It may have transferred bytes since the sweep.
            let stalled = stalled
                .upgrade()
                .filter(|connection| connection.transferred.get() == 0);
            if let Some(connection) = stalled {
                connection.direct(Directive::Abort);
                return true;
            }
        }
        false
    }
}

/// Returns the time between two calls of [`Connections::sweep`]: a tenth of the shortest timeout.
pub fn sweep_interval(limits: &Limits) -> Duration {
    let shortest = limits
        .header_read_timeout
        .min(limits.keep_alive_timeout)
        .min(limits.body_idle_timeout);
    (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

/// A connection in [`Connections`].
pub struct RegisteredConnection {
    connection: Rc<Connection>,
    id: u64,
    all: Weak<Connections>,
}

impl RegisteredConnection {
    /// Returns the state of the connection.
    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }
}

impl Drop for RegisteredConnection {
    fn drop(&mut self) {
        if let Some(all) = self.all.upgrade() {
            all.all.borrow_mut().remove(&self.id);
        }
    }
}
