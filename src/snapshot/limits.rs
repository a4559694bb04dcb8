//! The limits of all customers: one per customer and service that Citrix limits.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Allows, Live, Route};
use crate::limit::Limit;

/// What all workers share of limits.
pub(super) struct Limits {
    /// What a name allows. Routes with the same name that allow the same share a limit.
    kinds: Vec<(String, Allows)>,
    /// In the order of the credentials; each has the kinds in their order.
    pub(super) by_customer: Vec<Arc<[Limit]>>,
}

/// A route's limit: which of a customer's, and how long a request may wait for it.
#[derive(Clone, Copy)]
pub(super) struct Limited {
    pub(super) kind: usize,
    pub(super) queue_timeout: Duration,
}

impl Limits {
    pub(super) fn new(live: &Live) -> Self {
        let mut kinds: Vec<(String, Allows)> = Vec::new();
        for limit in live.routes.iter().filter_map(|route| route.limit.as_ref()) {
            if !kinds.iter().any(|(name, allows)| *name == limit.shared_as && *allows == limit.allows) {
                kinds.push((limit.shared_as.clone(), limit.allows));
            }
        }
        let limits = || kinds.iter().map(|(_, allows)| Limit::new(*allows)).collect();
        let by_customer = live.credentials.iter().map(|_| limits()).collect();
        Self { kinds, by_customer }
    }

    pub(super) fn of(&self, route: &Route) -> Option<Limited> {
        let limit = route.limit.as_ref()?;
        let is = |(name, allows): &(String, Allows)| *name == limit.shared_as && *allows == limit.allows;
        let kind = self.kinds.iter().position(is)?;
        Some(Limited { kind, queue_timeout: limit.queue_timeout })
    }
}
