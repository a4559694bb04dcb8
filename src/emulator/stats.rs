//! Counters for tests and for the curious.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::access::Standing;

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Requests to the services; those to the token endpoints and to `/_emulator` are not counted.
    pub requests: u64,
    /// Requests to the token endpoints.
    pub token_requests: u64,
    /// Tokens handed out.
    pub tokens_issued: u64,
    /// Requests with a usable token.
    pub valid: u64,
    /// Requests without `Authorization`.
    pub missing_token: u64,
    /// Requests whose `Authorization` has not the form that the service reads.
    pub malformed_token: u64,
    /// Requests with a token past its time.
    pub expired_token: u64,
    /// Requests with a revoked token.
    pub revoked_token: u64,
    /// Requests with a token that was never issued, or so long ago that it is forgotten.
    pub unknown_token: u64,
    /// Requests with a usable token, but no customer or another one.
    pub refused_customer: u64,
    /// CVAD requests without `Citrix-InstanceId` where Citrix documents one (contract 3); they are answered.
    pub missing_instance_id: u64,
    /// Requests that Monitor OData refused because it was busy with another.
    pub monitor_rate_limited: u64,
    /// Monitor OData requests being answered now.
    pub monitor_in_flight: u64,
    /// The most Monitor OData requests that ever met, those refused included.
    pub monitor_concurrency_peak: u64,
}

/// The live side of [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    connections: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) token_requests: AtomicU64,
    pub(super) tokens_issued: AtomicU64,
    valid: AtomicU64,
    missing_token: AtomicU64,
    malformed_token: AtomicU64,
    expired_token: AtomicU64,
    revoked_token: AtomicU64,
    unknown_token: AtomicU64,
    pub(super) refused_customer: AtomicU64,
    pub(super) missing_instance_id: AtomicU64,
    pub(super) monitor_rate_limited: AtomicU64,
    pub(super) monitor_in_flight: AtomicU64,
    pub(super) monitor_concurrency_peak: AtomicU64,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counters {
    pub(super) fn connection(&self) {
        count(&self.connections);
    }

    pub(super) fn standing(&self, standing: Standing) {
        count(match standing {
            Standing::Valid => &self.valid,
            Standing::Missing => &self.missing_token,
            Standing::Malformed => &self.malformed_token,
            Standing::Expired => &self.expired_token,
            Standing::Revoked => &self.revoked_token,
            Standing::Unknown => &self.unknown_token,
        });
    }

    pub(super) fn snapshot(&self) -> Stats {
        Stats {
            connections: self.connections.load(Relaxed),
            requests: self.requests.load(Relaxed),
            token_requests: self.token_requests.load(Relaxed),
            tokens_issued: self.tokens_issued.load(Relaxed),
            valid: self.valid.load(Relaxed),
            missing_token: self.missing_token.load(Relaxed),
            malformed_token: self.malformed_token.load(Relaxed),
            expired_token: self.expired_token.load(Relaxed),
            revoked_token: self.revoked_token.load(Relaxed),
            unknown_token: self.unknown_token.load(Relaxed),
            refused_customer: self.refused_customer.load(Relaxed),
            missing_instance_id: self.missing_instance_id.load(Relaxed),
            monitor_rate_limited: self.monitor_rate_limited.load(Relaxed),
            monitor_in_flight: self.monitor_in_flight.load(Relaxed),
            monitor_concurrency_peak: self.monitor_concurrency_peak.load(Relaxed),
        }
    }
}
