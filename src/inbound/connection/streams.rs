//! The HTTP/2 streams that a connection keeps open: those of requests in progress, and those whose
//! response the client has not read.
//!
//! The limit of streams bounds one connection, not all of them: clients that do not read could keep
//! a hundred responses each on thousands of connections.

use std::cell::Cell;

use super::Connection;
use super::head_bytes::{HeldBytes, MAX_HEAD_BYTES};

/// Memory of a stream, its request and its response.
const STREAM_BYTES: usize = 8 * 1024;
/// Length of a path that is part of it.
const SHORT_PATH: usize = 1024;
/// Streams at a time that are not counted, so that a client is served when others use up the limit.
const UNCOUNTED: usize = 2;
/// Bytes of the streams of all connections with an admitted request: twice those of the requests
/// that are in flight or queued with the default limits. The others share [`MAX_HEAD_BYTES`].
const MAX_STREAM_BYTES: usize = 32 * 1024 * 1024;

/// The streams of one connection.
#[derive(Default)]
pub(super) struct OpenStreams {
    /// Those whose request is in progress.
    open: Cell<usize>,
    /// Those that ended since the last flush.
    unflushed: Cell<usize>,
    /// Length of the longest path.
    longest_path: Cell<usize>,
    held: HeldBytes,
}

impl OpenStreams {
    /// Records a flush: the responses of streams that ended were written.
    pub(super) fn flushed(&self) {
        self.unflushed.set(0);
        if self.open.get() <= UNCOUNTED {
            self.release();
        }
    }

    /// Counts no bytes until the next stream.
    pub(super) fn release(&self) {
        self.longest_path.set(0);
        self.held.release();
    }
}

impl Connection {
    /// Records a request with a path of this length on another stream. Returns `false` if the stream
    /// must be refused, because too many are open.
    pub(in crate::inbound) fn stream_arrived(&self, path: usize) -> bool {
        let streams = &self.streams;
        let number = streams.open.get() + streams.unflushed.get() + 1;
        let longest = streams.longest_path.get().max(path);
        let bytes = number * (STREAM_BYTES + longest.saturating_sub(SHORT_PATH));
        let accepted = bytes <= UNCOUNTED * STREAM_BYTES || self.hold_stream_bytes(bytes);
        if accepted {
            streams.open.set(streams.open.get() + 1);
            streams.longest_path.set(longest);
        }
        accepted
    }

    /// Records the end of a request and its response.
    pub(in crate::inbound) fn stream_ended(&self) {
        let streams = &self.streams;
        streams.open.set(streams.open.get().saturating_sub(1));
        streams.unflushed.set(streams.unflushed.get() + 1);
    }

    fn hold_stream_bytes(&self, bytes: usize) -> bool {
        let Some(all) = self.all.upgrade() else {
            return true;
        };
        let (of_all, limit) = if self.admitted.get() {
            (all.streams(), MAX_STREAM_BYTES)
        } else {
            (all.heads(), MAX_HEAD_BYTES)
        };
        self.streams
            .held
            .grow_to(bytes, self.owner(), of_all, limit)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::inbound::connection::Connections;
    use crate::limit::owner::{Resource, ResourceKind};

    fn connections() -> (Rc<Connections>, Arc<Resource>, Arc<Resource>) {
        let heads = Resource::new(ResourceKind::HeadBytes);
        let streams = Resource::new(ResourceKind::StreamBytes);
        let connections = Connections::new(
            Arc::clone(&heads),
            Arc::clone(&streams),
            super::super::tests::evictions(),
        );
        (connections, heads, streams)
    }

    #[test]
    fn streams_that_the_client_does_not_read_are_counted_until_the_flush() {
        let (connections, heads, _) = connections();
        let entered = connections.register();
        let connection = entered.connection();
        connection.set_http2();
        for _ in 0..10 {
            assert!(connection.stream_arrived(10));
            connection.stream_ended();
        }
        assert_eq!(heads.in_use(), 10 * STREAM_BYTES);
        connection.flushed();
        assert_eq!(heads.in_use(), 0);
        assert!(connection.stream_arrived(10) && connection.stream_arrived(SHORT_PATH));
        assert_eq!(heads.in_use(), 0, "few streams are not counted");
        assert!(connection.stream_arrived(50_000));
        assert_eq!(heads.in_use(), 3 * (STREAM_BYTES + 50_000 - SHORT_PATH));
    }

    #[test]
    fn streams_are_bounded_apart_for_connections_with_and_without_an_admitted_request() {
        let (connections, heads, streams) = connections();
        let open = |admitted: bool| {
            let mut entered = Vec::new();
            loop {
                let connection = connections.register();
                connection.connection().set_http2();
                if admitted {
                    connection.connection().set_admitted();
                }
                if !(0..100).all(|_| connection.connection().stream_arrived(0)) {
                    break entered;
                }
                entered.push(connection);
            }
        };
        let rejected = open(false);
        assert!(rejected.len() <= MAX_HEAD_BYTES / (100 * STREAM_BYTES));
        assert!(heads.in_use() <= MAX_HEAD_BYTES && streams.in_use() == 0);
        let admitted = open(true);
        assert!(admitted.len() > rejected.len() && streams.in_use() <= MAX_STREAM_BYTES);
        drop((rejected, admitted));
        assert_eq!((heads.in_use(), streams.in_use()), (0, 0));
    }

    #[test]
    fn admitted_request_releases_what_rejected_ones_held() {
        let (connections, heads, streams) = connections();
        let entered = connections.register();
        let connection = entered.connection();
        assert!((0..10).all(|_| connection.stream_arrived(0)));
        connection.set_admitted();
        assert_eq!(heads.in_use(), 0);
        assert!(connection.stream_arrived(0));
        assert_eq!(streams.in_use(), 11 * STREAM_BYTES);
    }
}
