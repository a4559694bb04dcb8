//! Connections to the addresses of `[intercept]`, counted by what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Maximum number of blind tunnels, of all workers.
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
    tunnels: Arc<AtomicUsize>,
}

/// An open tunnel, counted until this is dropped.
pub struct CountedTunnel(Arc<AtomicUsize>);

impl Drop for CountedTunnel {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
            tunnels: Arc::default(),
        })
    }

    /// Counts a tunnel; `None` at [`MAX_TUNNELS`].
    pub fn enter_tunnel(&self) -> Option<CountedTunnel> {
        let counted = CountedTunnel(Arc::clone(&self.tunnels));
        let before = self.tunnels.fetch_add(1, Ordering::Relaxed);
        (before < MAX_TUNNELS).then_some(counted)
    }
}
