//! Metrics of requests that Citrix rejects.

use std::time::SystemTime;

use http::StatusCode;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, Registry};

use super::{opts, unix};

/// The statuses of a rejection.
const CODES: [StatusCode; 2] = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];

#[derive(Clone, Debug)]
pub(super) struct RejectionFamilies {
    responses: IntCounterVec,
    since: GaugeVec,
}

impl RejectionFamilies {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let responses = opts(
            "upstream_rejections_total",
            "Responses 401 and 403 of Citrix that callers got.",
        );
        let since = opts(
            "upstream_rejected_since_timestamp_seconds",
            "Time since which Citrix rejects all requests of the customer, in Unix time; else 0.",
        );
        let families = Self {
            responses: IntCounterVec::new(responses, &["customer", "code"])?,
            since: GaugeVec::new(since, &["customer"])?,
        };
        registry.register(Box::new(families.responses.clone()))?;
        registry.register(Box::new(families.since.clone()))?;
        Ok(families)
    }

    pub(super) fn customer(&self, customer: &str) -> RejectionMetrics {
        RejectionMetrics {
            responses: CODES
                .map(|code| self.responses.with_label_values(&[customer, code.as_str()])),
            since: self.since.with_label_values(&[customer]),
        }
    }

    pub(super) fn forget(&self, customer: &str) {
        // An error means that the series does not exist.
        let _ = self.since.remove_label_values(&[customer]);
        for code in CODES {
            let _ = self
                .responses
                .remove_label_values(&[customer, code.as_str()]);
        }
    }
}

/// One customer's metric handles.
#[derive(Clone, Debug)]
pub struct RejectionMetrics {
    /// In the order of [`CODES`].
    responses: [IntCounter; CODES.len()],
    since: Gauge,
}

impl RejectionMetrics {
    /// Counts a response 401 or 403.
    pub(in crate::token) fn count(&self, code: StatusCode) {
        for (counted, counter) in CODES.iter().zip(&self.responses) {
            if code == *counted {
                counter.inc();
            }
        }
    }

    /// Sets the time since which all requests are rejected.
    pub(in crate::token) fn set_since(&self, since: Option<SystemTime>) {
        self.since.set(since.map_or(0.0, unix));
    }
}
