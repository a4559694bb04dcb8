//! Turns to read, for connections on which every request was rejected.
//!
//! The runtime polls all connections that are ready, one after the other: a flood of requests without
//! credentials on thousands of connections delayed those of callers by seconds. Such a connection
//! therefore reads its next request only at its turn. Between two turns the runtime runs what is
//! ready and polls sockets, those of callers too. What is not read stays in the kernel.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use tokio::sync::Notify;
use tokio::task::yield_now;

use super::{Connection, Connections};

/// The turn of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    None,
    Waiting,
    /// Until bytes arrive.
    Granted,
}

/// The turn of one connection.
#[derive(Debug, Default)]
pub(super) struct ReadTurn(Cell<Turn>);

/// The connections of a worker that wait for their turn, by their number.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: RefCell<VecDeque<u64>>,
    arrived: Notify,
}

impl Connection {
    /// Returns `true` if the connection may read. Otherwise its task is woken at its turn.
    pub(in crate::inbound) fn may_read(&self) -> bool {
        // The body of a login is read at once.
        let reads_body = !self.http2.get() && self.exchanges.get() > 0;
        self.admitted.get() || !self.was_used.get() || reads_body || self.is_at_its_turn()
    }

    fn is_at_its_turn(&self) -> bool {
        let turn = &self.turn.0;
        let Some(all) = self.all.upgrade() else {
            return true;
        };
        if turn.get() == Turn::None {
            turn.set(Turn::Waiting);
            all.turns.waiting.borrow_mut().push_back(self.number);
            all.turns.arrived.notify_one();
        }
        turn.get() == Turn::Granted
    }

    /// Ends the turn: bytes arrived.
    pub(super) fn end_turn(&self) {
        if self.turn.0.get() == Turn::Granted {
            self.turn.0.set(Turn::None);
        }
    }
}

impl Connections {
    /// Grants turns, one at a time, as long as the worker runs.
    pub async fn grant_turns(&self) {
        loop {
            self.turns.arrived.notified().await;
            while self.grant_turn() {
                // Completes after all that is ready has run and sockets were polled.
                yield_now().await;
            }
        }
    }

    /// Grants the next turn. Returns `false` if no connection waits.
    fn grant_turn(&self) -> bool {
        let Some(next) = self.turns.waiting.borrow_mut().pop_front() else {
            return false;
        };
        // It may have closed.
        if let Some(connection) = self.all.borrow().get(&next) {
            connection.turn.0.set(Turn::Granted);
            connection.wake();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::super::tests::connections;
    use crate::inbound::connection::RegisteredConnection;

    #[test]
    fn connections_without_an_admitted_request_read_one_at_a_time() {
        let connections = connections();
        let all = [(); 4].map(|()| connections.register());
        let [first, second, admitted, unused] =
            all.each_ref().map(RegisteredConnection::connection);
        for connection in [first, second, admitted] {
            connection.exchange_began(Version::HTTP_11);
            assert!(connection.may_read(), "the body of a login");
            connection.exchange_ended();
        }
        admitted.set_admitted();
        let may_read = || [first, second, admitted, unused].map(|connection| connection.may_read());
        assert_eq!(may_read(), [false, false, true, true]);
        assert!(connections.grant_turn());
        for _ in 0..2 {
            assert_eq!(may_read(), [true, false, true, true], "until bytes arrive");
        }
        first.bytes_arrived();
        assert_eq!(may_read(), [false, false, true, true]);
        assert!(connections.grant_turn());
        second.set_admitted();
        assert_eq!(may_read(), [false, true, true, true]);
        assert!(connections.grant_turn() && !connections.grant_turn());
        assert_eq!(may_read(), [true; 4]);
    }

    #[test]
    fn turn_of_a_closed_connection_passes() {
        let connections = connections();
        let closed = connections.register();
        closed.connection().exchange_began(Version::HTTP_11);
        closed.connection().exchange_ended();
        assert!(!closed.connection().may_read());
        drop(closed);
        assert!(connections.grant_turn() && !connections.grant_turn());
    }
}
