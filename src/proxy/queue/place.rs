//! What follows an answer of Citrix's holds for one place: a customer, a route and the first segment of the path.

use std::hash::{BuildHasher, RandomState};

use crate::snapshot::{Customer, Route};

/// A place, hashed: a caller may write anything into a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct Place(pub(in crate::proxy) u64);

impl Place {
    /// The place that a request to `path` of the upstream belongs to.
    pub(in crate::proxy) fn of(
        state: &RandomState,
        customer: &Customer,
        route: &Route,
        path: &str,
    ) -> Self {
        let segment = path.trim_start_matches('/').split('/').next();
        Self(state.hash_one((customer.id.as_bytes(), route.config.name(), segment)))
    }
}
