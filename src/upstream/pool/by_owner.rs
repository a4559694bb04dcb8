//! The HTTP/2 connections to one origin.
//!
//! Owners do not share them. A connection has one flow-control window, which responses that a caller
//! does not read use up, and one end: an upstream that counts reset streams closes it for all.

use std::rc::Rc;

use crate::limit::owner::{self, OwnerKey};
use crate::upstream::http2::{Http2, Http2Stream, Traffic};

/// Maximum number of connections of all owners. An owner beyond its share, and any owner if none is
/// left, uses those that exist: requests above the stream limit of the upstream wait on them, within
/// `upstream.response_timeout`.
const MAX_CONNECTIONS: usize = 256;

/// Number of connections of an owner up to which another is opened because responses on them are
/// not read. Each may buffer a window.
const MAX_FOR_UNREAD: usize = 4;

/// The connections, the oldest first.
#[derive(Default)]
pub(super) struct Http2Connections(Vec<(OwnerKey, Http2)>);

impl Http2Connections {
    /// Adds a connection for the requests of `owner`.
    pub(super) fn push(&mut self, owner: OwnerKey, connection: Http2) {
        self.0.push((owner, connection));
    }

    /// Returns the number of connections.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Removes those that are not to be kept; each closes after its last stream.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut Http2) -> bool) {
        self.0.retain_mut(|(_, connection)| keep(connection));
    }

    /// Removes one connection.
    pub(super) fn retire(&mut self, connection: &Rc<Traffic>) {
        self.0.retain(|(_, pooled)| !pooled.carries(connection));
    }

    /// Returns a stream of the owner's first connection with capacity, so that its others become
    /// idle. `None` if another connection is to be opened.
    pub(super) fn stream(&mut self, owner: OwnerKey) -> Option<Http2Stream> {
        let is_own = |(key, _): &&mut (OwnerKey, Http2)| *key == owner;
        let (mut own, mut unread) = (0, None);
        for (_, connection) in self.0.iter_mut().filter(is_own) {
            if connection.has_capacity() {
                if !connection.is_unread() {
                    return Some(connection.stream());
                }
                unread.get_or_insert(own);
            }
            own += 1;
        }
        let may_open = owner::check(MAX_CONNECTIONS, self.0.len() + 1, own + 1).is_ok();
        match unread {
            Some(_) if may_open && own < MAX_FOR_UNREAD => None,
            Some(index) => {
                let (_, connection) = self.0.iter_mut().filter(is_own).nth(index)?;
                Some(connection.stream())
            }
            None if may_open => None,
            None => {
                let order =
                    |pooled: &&mut (OwnerKey, Http2)| (pooled.0 != owner, pooled.1.streams());
                let least_used = self.0.iter_mut().min_by_key(order);
                least_used.map(|(_, connection)| connection.stream())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::uri::Authority;
    use testkit::http2::{Http2Wire, MAX_CONCURRENT_STREAMS};
    use tokio::io::duplex;
    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_of_all_owners_are_bounded_and_shared() {
        let test = async {
            let (near, far) = duplex(1024 * 1024);
            let upstream = Authority::from_static("upstream.example");
            let (connection, _wire) = tokio::join!(
                Http2::open(near, &upstream),
                Http2Wire::accept(far, &[(MAX_CONCURRENT_STREAMS, 1)])
            );
            let mut connection = connection.unwrap();
            let mut streams = vec![connection.stream()];
            let mut all = Http2Connections::default();
            let [greedy, modest, last] = [(); 3].map(|()| OwnerKey::new_caller());
            let mut open = |owner| {
                while all.len() <= MAX_CONNECTIONS {
                    match all.stream(owner) {
                        // A handle of the same connection, whose only stream is in use.
                        None => all.push(owner, connection.clone()),
                        Some(waiting) => {
                            streams.push(waiting);
                            break;
                        }
                    }
                }
                all.len()
            };
            assert_eq!(open(greedy), 232, "its share");
            assert!((250..MAX_CONNECTIONS).contains(&open(modest)));
            assert!(open(last) < MAX_CONNECTIONS);
            assert_eq!(streams.len(), 4, "each waits for a stream");
        };
        LocalSet::new().run_until(test).await;
    }
}
