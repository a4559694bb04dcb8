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
        let mut own = 0;
        for (_, connection) in self.0.iter_mut().filter(|(key, _)| *key == owner) {
            if connection.has_capacity() {
                return Some(connection.stream());
            }
            own += 1;
        }
        if owner::check(MAX_CONNECTIONS, self.0.len() + 1, own + 1).is_ok() {
            return None;
        }
        let least_used = self
            .0
            .iter_mut()
            .min_by_key(|(key, connection)| (*key != owner, connection.streams()));
        least_used.map(|(_, connection)| connection.stream())
    }
}
