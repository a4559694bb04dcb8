//! The requests that one rejection by Citrix applies to: those of a customer, a route and the first
//! path segment.

use std::hash::{BuildHasher, RandomState};

use citrix_wire::path_readings::PathReadings;
use fleet_protocol::Name;

use super::owner::OwnerKey;

/// A scope as a keyed hash: a caller chooses the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope(pub(crate) u128);

/// Replicas that share gates have the same names for them.
impl From<Name> for Scope {
    fn from(name: Name) -> Self {
        Self(u128::from_be_bytes(name.0))
    }
}

impl From<Scope> for Name {
    fn from(scope: Scope) -> Self {
        Self(scope.0.to_be_bytes())
    }
}

/// Returns the first segment of a path. Every spelling has the same.
pub fn first_segment(path: &str) -> Option<String> {
    // A request whose path has too many readings is not sent.
    let readings = PathReadings::of(path).unwrap_or_default();
    // The last reading is decoded completely, and not split at backslashes.
    let path = readings.normalized().last().unwrap_or(path);
    let segment = path.trim_start_matches('/').split(['/', '\\']).next();
    segment.map(str::to_ascii_lowercase)
}

impl Scope {
    /// Returns the scope of a request to `path` at the upstream. Every spelling of the first segment
    /// has the same.
    pub fn new(state: &RandomState, customer: &[u8], route: &str, path: &str) -> Self {
        let segment = first_segment(path);
        Self(state.hash_one((customer, route, segment)).into())
    }

    /// Returns the part of the scope that belongs to one party.
    pub fn of(self, state: &RandomState, party: OwnerKey) -> Self {
        Self(state.hash_one((self.0, party)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_segment_has_the_same_scope() {
        let state = RandomState::new();
        let scope = |path| Scope::new(&state, b"acme", "/", path);
        for path in [
            "/cvad",
            "/cvad/other",
            "/CVAD/x",
            "/%63vad/x",
            "/%2563vad/x",
            "//cvad/x",
            "/./cvad/x",
            "/y/../cvad/x",
            "/cvad;y/x",
            "/cvad%20/x",
            "/cvad%2Fx",
            "/cvad\\x",
            "/cvad%3Fx",
        ] {
            assert_eq!(scope(path), scope("/cvad/x"), "{path}");
        }
        assert_ne!(scope("/systemlog/x"), scope("/cvad/x"));
    }
}
