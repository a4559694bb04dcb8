//! The state that all workers share.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::lifecycle::Heartbeats;
use super::published::Published;
use crate::callers::login::LoginEndpoints;
use crate::fleet::Fleet;
use crate::inbound::connection::Evictions;
use crate::inbound::connection_count::ConnectionCount;
use crate::inbound::descriptor_budget::DescriptorBudget;
use crate::inbound::intercept_metrics::InterceptMetrics;
use crate::inbound::shortage::Shortage;
use crate::inbound::tls::HandshakeFailures;
use crate::limit::collapse::Groups;
use crate::limit::gate::Gates;
use crate::limit::owner::Resource;
use crate::observe::RequestLogs;
use crate::observe::metrics::Metrics;
use crate::observe::spans::Spans;
use crate::site::regions::Regions;
use crate::site::shared_regions::{KnownGateways, RegionSource};
use crate::system::clock::Clock;
use crate::token::rejections::Rejections;
use crate::upstream::connections::ConnectionTable;
use crate::upstream::share::SharedResponse;
use crate::upstream::window::WindowBytes;

/// The state that all workers share. The data path uses atomics and [`Published`]; locks are taken
/// only in the fair queue of a limited customer and after a 401 or 429.
pub struct Shared {
    /// The published state; a reload replaces it.
    pub published: ArcSwap<Published>,
    /// Metrics of all workers.
    pub metrics: Arc<Metrics>,
    /// The logs of requests.
    pub logs: RequestLogs,
    /// Permits of `limits.max_in_flight`.
    pub in_flight: Arc<Resource>,
    /// Bytes of request bodies that may be buffered.
    pub body_bytes: Arc<Resource>,
    /// Bytes of unfinished request heads.
    pub head_bytes: Arc<Resource>,
    /// Bytes of HTTP/2 streams of connections with an admitted request.
    pub stream_bytes: Arc<Resource>,
    /// Permits of `limits.max_connections`.
    pub connections: Arc<ConnectionCount>,
    /// The file descriptors, which may permit fewer connections.
    pub descriptors: DescriptorBudget,
    /// The workers' connections to Citrix.
    pub upstream_connections: ConnectionTable,
    /// Heartbeats of the workers.
    pub heartbeats: Heartbeats,
    /// Counters of what was ended for others.
    pub evictions: Evictions,
    /// Failed TLS handshakes of callers.
    pub handshake_failures: HandshakeFailures,
    /// Connections to the addresses of `[intercept]`.
    pub intercepted: InterceptMetrics,
    /// Whether connections cannot be accepted.
    pub shortage: Shortage,
    /// The scopes in which Citrix rejected tokens.
    pub rejections: Rejections,
    /// The regions that customers' data has moved to.
    pub regions: Regions,
    /// The scopes in which Citrix requested a wait.
    pub gates: Arc<Gates>,
    /// Groups of identical requests that wait for a permit.
    pub groups: Arc<Groups<SharedResponse>>,
    /// Bytes of responses that such requests share.
    pub windows: Arc<WindowBytes>,
    /// The fleet, if replicas share a store.
    pub fleet: Option<Arc<Fleet>>,
    /// State of the gateway's own token endpoints.
    pub login_endpoints: LoginEndpoints,
    /// The clock by which tokens expire.
    pub clock: Clock,
    /// The export of spans.
    pub spans: Spans,
}

impl RegionSource for Shared {
    fn regions(&self) -> &Regions {
        &self.regions
    }

    fn customers(&self) -> Vec<KnownGateways> {
        let published = self.published.load();
        let live = &published.live;
        let customers = live.credentials.iter().map(|credential| {
            let known = live.gateways.iter();
            let known = known.filter(|it| it.cloud.is_none_or(|cloud| cloud == credential.cloud));
            KnownGateways {
                customer: credential.customer_id.clone(),
                api: credential.api.url.clone(),
                others: known.map(|it| it.url.clone()).collect(),
            }
        });
        customers.collect()
    }
}
