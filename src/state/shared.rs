//! What all workers share.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::lifecycle::Heartbeats;
use super::published::Published;
use crate::callers::login::LoginEndpoints;
use crate::inbound::connection_count::ConnectionCount;
use crate::inbound::shortage::Shortage;
use crate::limit::gate::Gates;
use crate::limit::permits::PermitCounter;
use crate::observe::metrics::Metrics;
use crate::observe::spans::Spans;
use crate::site::regions::Regions;
use crate::system::clock::Clock;
use crate::token::rejections::Rejections;

/// What all workers share: atomics and what is published; locks only where a customer may have few requests at
/// once, and for what follows a 401 or 429.
pub struct Shared {
    /// What requests look up.
    pub published: ArcSwap<Published>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Requests being answered.
    pub in_flight: Arc<PermitCounter>,
    /// Bytes of batches that were read and may be sent again.
    pub batches: Arc<PermitCounter>,
    /// Connections of callers.
    pub connections: Arc<ConnectionCount>,
    /// Whether the workers are at work.
    pub beats: Heartbeats,
    /// Whether connections cannot be accepted.
    pub shortage: Shortage,
    /// Where tokens were refused lately.
    pub rejections: Rejections,
    /// Which customers' data is in another region.
    pub regions: Regions,
    /// Where Citrix asked to wait.
    pub gates: Gates,
    /// What the gateway's own token endpoints need.
    pub login_endpoints: LoginEndpoints,
    /// Whether tokens have expired.
    pub clock: Clock,
    /// Whether a tracing system is told of exchanges.
    pub spans: Spans,
}
