//! Counters for tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::bearer_status::BearerStatus;

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    pub connections: u64,
    /// Tunnels opened to Citrix's hosts, all served by the emulator.
    pub tunnels: u64,
    /// Requests to services, without those to the token endpoints and `/_emulator`.
    pub requests: u64,
    /// Requests to the token endpoints.
    pub token_requests: u64,
    pub tokens_issued: u64,
    /// Requests by the status of their token. A foreign token also counts as valid.
    #[serde(flatten)]
    pub tokens: TokensSeen,
    /// Requests with a valid token, but without a customer or with another one.
    pub refused_customer: u64,
    /// CVAD requests without `Citrix-InstanceId` where Citrix documents one (contract §3); they are
    /// not rejected.
    pub missing_instance_id: u64,
    /// Requests to retired addresses (contract §3 and §4).
    pub retired: u64,
    /// Items of `$batch` requests rejected for their own `Authorization`.
    pub refused_batch_items: u64,
    /// Requests that met a fault of their path.
    pub faults_met: u64,
    /// Requests that Monitor OData rejected because another was in progress.
    pub monitor_rate_limited: u64,
    /// Monitor OData requests in progress.
    pub monitor_in_flight: u64,
    /// Maximum number of concurrent Monitor OData requests of one customer, rejected ones included.
    pub monitor_concurrency_peak: u64,
    pub customers: BTreeMap<String, CustomerStats>,
}

/// Counters of one customer since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CustomerStats {
    /// Logins of its clients, successful or not.
    pub token_requests: u64,
    /// Tokens issued to its clients.
    pub tokens_issued: u64,
    /// Tokens of requests that named the customer, or had its token and named no customer.
    pub tokens: TokensSeen,
    /// Requests to activate its site.
    pub site_activations: u64,
    /// Admitted requests, by service.
    pub services: BTreeMap<&'static str, ServiceStats>,
}

/// Requests by the status of their token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TokensSeen {
    pub valid: u64,
    /// No `Authorization`.
    pub missing_token: u64,
    /// `Authorization` in a form that the service does not accept.
    pub malformed_token: u64,
    pub expired_token: u64,
    pub revoked_token: u64,
    /// Token that was never issued, or no longer stored.
    pub unknown_token: u64,
    /// Valid token of another customer than the requested one.
    pub foreign_token: u64,
}

impl TokensSeen {
    pub(super) fn of(&mut self, status: BearerStatus) -> &mut u64 {
        match status {
            BearerStatus::Valid => &mut self.valid,
            BearerStatus::Missing => &mut self.missing_token,
            BearerStatus::Malformed => &mut self.malformed_token,
            BearerStatus::Expired => &mut self.expired_token,
            BearerStatus::Revoked => &mut self.revoked_token,
            BearerStatus::Unknown => &mut self.unknown_token,
        }
    }
}

/// Counters of one service for one customer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServiceStats {
    /// Admitted requests.
    pub requests: u64,
    /// Requests rejected with 429.
    pub rate_limited: u64,
    pub in_flight: u64,
    /// Maximum number of concurrent requests, rejected ones included.
    pub concurrency_peak: u64,
}

/// Atomic counters for the fields of [`Stats`] that are not per customer.
#[derive(Debug, Default)]
pub(super) struct Counters {
    connections: AtomicU64,
    pub(super) tunnels: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) token_requests: AtomicU64,
    pub(super) tokens_issued: AtomicU64,
    valid: AtomicU64,
    missing_token: AtomicU64,
    malformed_token: AtomicU64,
    expired_token: AtomicU64,
    revoked_token: AtomicU64,
    unknown_token: AtomicU64,
    pub(super) foreign_token: AtomicU64,
    pub(super) refused_customer: AtomicU64,
    pub(super) missing_instance_id: AtomicU64,
    pub(super) retired: AtomicU64,
    pub(super) refused_batch_items: AtomicU64,
    pub(super) faults_met: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Name of Monitor OData in the counters.
pub(super) const MONITOR: &str = "monitor";

impl Counters {
    pub(super) fn connection(&self) {
        count(&self.connections);
    }

    pub(super) fn status(&self, status: BearerStatus) {
        count(match status {
            BearerStatus::Valid => &self.valid,
            BearerStatus::Missing => &self.missing_token,
            BearerStatus::Malformed => &self.malformed_token,
            BearerStatus::Expired => &self.expired_token,
            BearerStatus::Revoked => &self.revoked_token,
            BearerStatus::Unknown => &self.unknown_token,
        });
    }

    pub(super) fn snapshot(&self, customers: BTreeMap<String, CustomerStats>) -> Stats {
        let monitor = |of: fn(&ServiceStats) -> u64| {
            customers
                .values()
                .filter_map(move |customer| customer.services.get(MONITOR))
                .map(of)
        };
        Stats {
            connections: self.connections.load(Relaxed),
            tunnels: self.tunnels.load(Relaxed),
            requests: self.requests.load(Relaxed),
            token_requests: self.token_requests.load(Relaxed),
            tokens_issued: self.tokens_issued.load(Relaxed),
            tokens: TokensSeen {
                valid: self.valid.load(Relaxed),
                missing_token: self.missing_token.load(Relaxed),
                malformed_token: self.malformed_token.load(Relaxed),
                expired_token: self.expired_token.load(Relaxed),
                revoked_token: self.revoked_token.load(Relaxed),
                unknown_token: self.unknown_token.load(Relaxed),
                foreign_token: self.foreign_token.load(Relaxed),
            },
            refused_customer: self.refused_customer.load(Relaxed),
            missing_instance_id: self.missing_instance_id.load(Relaxed),
            retired: self.retired.load(Relaxed),
            refused_batch_items: self.refused_batch_items.load(Relaxed),
            faults_met: self.faults_met.load(Relaxed),
            monitor_rate_limited: monitor(|stats| stats.rate_limited).sum(),
            monitor_in_flight: monitor(|stats| stats.in_flight).sum(),
            monitor_concurrency_peak: monitor(|stats| stats.concurrency_peak)
                .max()
                .unwrap_or_default(),
            customers,
        }
    }
}
