//! All connections of a worker, and the sweep that ends those that waited too long.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, Directive};
use crate::config::Limits;

/// How many connections are told to rest in one sweep: a crowd that falls idle at once shall not hold up the others.
const MAX_RESTS: usize = 500;

/// All connections of one worker.
#[derive(Default)]
pub struct Connections {
    all: RefCell<HashMap<u64, Rc<Connection>>>,
    /// Those that were stuck at the last sweep.
    stuck: RefCell<Vec<Weak<Connection>>>,
    next: Cell<u64>,
}

impl Connections {
    /// Enters a new connection; it is taken out when the guard is dropped.
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
        self.all
            .borrow()
            .values()
            .filter(|connection| connection.is_busy())
            .count()
    }

    /// Tells every connection to finish what is under way and close, but those on which a request is on its way in: they
    /// are told when it is there. To be called again and again.
    pub fn finish_all(&self) {
        let now = Instant::now();
        let all = self.all.borrow();
        for connection in all.values().filter(|connection| !connection.is_asking(now)) {
            connection.give(Directive::Drain);
        }
    }

    /// Tells every connection to close at once, as the program stops.
    pub fn abort_all(&self) {
        for connection in self.all.borrow().values() {
            connection.stopped.set(true);
            connection.give(Directive::Abort);
        }
    }

    /// Ends the connections that waited too long.
    pub fn sweep(&self, limits: &Limits) {
        let now = Instant::now();
        let mut rests = 0;
        let mut stuck = self.stuck.borrow_mut();
        stuck.clear();
        for connection in self.all.borrow().values() {
            if connection.is_stuck(limits, now) {
                stuck.push(Rc::downgrade(connection));
            }
            match connection.overdue(limits, now) {
                Some(Directive::Park) if rests >= MAX_RESTS => {}
                Some(Directive::Park) => {
                    rests += 1;
                    connection.may_rest.set(false);
                    connection.give(Directive::Park);
                }
                Some(order) => connection.give(order),
                None => {}
            }
        }
    }

    /// Ends one that is stuck; `false` when none is.
    pub(super) fn evict_stalled(&self) -> bool {
        while let Some(stuck) = self.stuck.borrow_mut().pop() {
            // It may have moved since.
            let stuck = stuck
                .upgrade()
                .filter(|connection| connection.moved.get() == 0);
            if let Some(connection) = stuck {
                connection.give(Directive::Abort);
                return true;
            }
        }
        false
    }
}

/// How often [`Connections::sweep`] is due: often enough that a deadline is met within a tenth of it.
pub fn sweep_interval(limits: &Limits) -> Duration {
    let shortest = limits
        .header_read_timeout
        .min(limits.keep_alive_timeout)
        .min(limits.body_idle_timeout);
    (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

/// A connection that is on its worker's list.
pub struct RegisteredConnection {
    connection: Rc<Connection>,
    id: u64,
    all: Weak<Connections>,
}

impl RegisteredConnection {
    /// The connection.
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
