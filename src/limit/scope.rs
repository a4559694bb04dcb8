//! The requests that one rejection by Citrix applies to: those of a customer, a route and the first
//! path segment.

use std::hash::{BuildHasher, RandomState};

use super::owner::OwnerKey;

/// A scope as a keyed hash: a caller chooses the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope(pub(crate) u64);

impl Scope {
    /// Returns the scope of a request to `path` at the upstream.
    pub fn new(state: &RandomState, customer: &[u8], route: &str, path: &str) -> Self {
        let segment = path.trim_start_matches('/').split('/').next();
        Self(state.hash_one((customer, route, segment)))
    }
    /// Returns the part of the scope that belongs to one party.
    pub fn of(self, state: &RandomState, party: OwnerKey) -> Self {
        Self(state.hash_one((self.0, party)))
    }
}
