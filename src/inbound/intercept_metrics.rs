//! Connections to the addresses of `[intercept]`, counted by what became of them.

use std::sync::Arc;

use crate::limit::owner::{Exceeded, OwnedPermit, Owner, Resource, ResourceKind};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Maximum number of blind tunnels of all workers, which their owners share.
pub const MAX_TUNNELS: usize = 256;

/// Counters of `intercepted_connections_total`, one per value of the label `outcome`, and the number
/// of open tunnels.
pub struct InterceptMetrics {
    /// TLS in place of a known host.
    pub intercepted: IntCounter,
    /// Blind tunnels to hosts of `intercept.tunnel`.
    pub tunnelled: IntCounter,
    /// CONNECT requests with another target, or whose tunnel could not be opened.
    pub refused: IntCounter,
    /// CONNECT requests without a caller.
    pub unauthenticated: IntCounter,
    /// Failed TLS handshakes, those for unknown hosts included.
    pub handshake_failed: IntCounter,
    tunnels: Arc<Resource>,
}

impl InterceptMetrics {
    /// Registers the counters.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Connections to the addresses of [intercept] by outcome.";
        let options = Opts::new("citrix_auth_proxy_intercepted_connections_total", help);
        let connections = IntCounterVec::new(options, &["outcome"])?;
        registry.register(Box::new(connections.clone()))?;
        let outcome = |name| connections.with_label_values(&[name]);
        Ok(Self {
            intercepted: outcome("intercepted"),
            tunnelled: outcome("tunnelled"),
            refused: outcome("refused"),
            unauthenticated: outcome("unauthenticated"),
            handshake_failed: outcome("handshake_failed"),
            tunnels: Resource::new(ResourceKind::Tunnels),
        })
    }

    /// Counts a tunnel until the permit is dropped.
    ///
    /// # Errors
    /// If [`MAX_TUNNELS`] are open, or the owner holds the largest share of them.
    pub fn enter_tunnel(&self, owner: &Arc<Owner>) -> Result<OwnedPermit, Exceeded> {
        self.tunnels.acquire(owner, 1, MAX_TUNNELS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::owner::OwnerKey;

    #[test]
    fn tunnels_of_one_owner_leave_some_for_others() {
        let metrics = InterceptMetrics::register(&Registry::new()).unwrap();
        let [greedy, other] = [OwnerKey::new_caller(), OwnerKey::new_caller()].map(Owner::new);
        let held: Vec<_> = std::iter::from_fn(|| metrics.enter_tunnel(&greedy).ok()).collect();
        assert_eq!(held.len(), 232);
        assert_eq!(
            metrics.enter_tunnel(&greedy).unwrap_err(),
            Exceeded::Share(232)
        );
        assert!(metrics.enter_tunnel(&other).is_ok());
        drop(held);
        assert!(metrics.enter_tunnel(&greedy).is_ok());
    }
}
