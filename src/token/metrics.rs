//! Metrics of tokens and logins (interface §5).

mod customers;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use prometheus::{Histogram, HistogramOpts, Opts, Registry};

use self::customers::{CustomerValues, Customers};
use super::outcome::Outcome;
use super::status::Skew;
use crate::system::clock::since_epoch;

/// The metric families, one set per process.
#[derive(Clone, Debug)]
pub struct TokenMetrics {
    customers: Customers,
    duration: Histogram,
}

/// In seconds, up to the default of `token.request_timeout`.
const DURATION_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];

impl TokenMetrics {
    /// Registers the families.
    ///
    /// # Errors
    /// If the registry already has a family of the same name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let duration = HistogramOpts::from(opts(
            "token_refresh_duration_seconds",
            "Duration of token requests.",
        ));
        let duration = Histogram::with_opts(duration.buckets(DURATION_BUCKETS.to_vec()))?;
        registry.register(Box::new(duration.clone()))?;
        Ok(Self {
            customers: Customers::register(registry)?,
            duration,
        })
    }

    /// Returns one customer's handles. Its series exist from now on, at 0.
    pub fn customer(&self, customer: &str) -> CustomerMetrics {
        CustomerMetrics {
            values: self.customers.values(customer),
            duration: self.duration.clone(),
        }
    }

    /// Returns one customer's handles for rejected requests.
    pub fn rejections(&self, customer: &str) -> RejectionMetrics {
        RejectionMetrics(self.customers.values(customer))
    }

    /// Removes the series of a customer that a reload removed, so that its alerts stop.
    pub fn forget(&self, customer: &str) {
        self.customers.forget(customer);
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("citrix_auth_proxy_{name}"), help)
}

/// One customer's metrics of tokens and logins.
#[derive(Clone, Debug)]
pub struct CustomerMetrics {
    values: Arc<CustomerValues>,
    duration: Histogram,
}

impl CustomerMetrics {
    /// Counts a login; `duration` is `None` if no request was sent.
    pub(super) fn record_login(&self, outcome: Outcome, duration: Option<Duration>) {
        self.values.logins.count(outcome);
        if let Some(duration) = duration {
            self.duration.observe(duration.as_secs_f64());
        }
    }

    pub(super) fn set_token(&self, generation: u64, expires_at: SystemTime) {
        // Exact up to 2^53 logins.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        self.values.generation.set(generation as f64);
        self.values.expiry.set(unix(expires_at));
    }

    pub(super) fn set_schedule(&self, next: SystemTime, consecutive_failures: u32) {
        self.values.next_refresh.set(unix(next));
        let failures = &self.values.consecutive_failures;
        failures.set(consecutive_failures.into());
    }

    pub(super) fn set_skew(&self, skew: Skew) {
        self.values.clock_skew.set(skew.seconds());
    }
}

/// One customer's metrics of requests that Citrix rejects.
#[derive(Clone, Debug)]
pub struct RejectionMetrics(Arc<CustomerValues>);

impl RejectionMetrics {
    /// Counts a response 401 or 403.
    pub(super) fn count(&self, code: StatusCode) {
        self.0.rejections.count(code);
    }

    /// Sets the time since which all requests are rejected.
    pub(super) fn set_since(&self, since: Option<SystemTime>) {
        self.0.rejected_since.set(since.map_or(0.0, unix));
    }
}

fn unix(at: SystemTime) -> f64 {
    since_epoch(at).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn text(registry: &Registry) -> String {
        TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn series_that_alerts_use_exist_from_the_start_until_forgotten() {
        let registry = Registry::new();
        let metrics = TokenMetrics::register(&registry).unwrap();
        let _acme = metrics.customer("acme");
        let _rejections = metrics.rejections("acme");
        let page = text(&registry);
        for outcome in ["ok", "invalid_client", "unauthorized", "secret_unreadable"] {
            let line = format!(
                "citrix_auth_proxy_token_refreshes_total{{customer=\"acme\",outcome=\"{outcome}\"}} 0\n"
            );
            assert!(page.contains(&line), "{line}");
        }
        assert_eq!(page.matches("token_refreshes_total{").count(), 4);
        for name in [
            "expiry_timestamp_seconds",
            "next_refresh_timestamp_seconds",
            "consecutive_failures",
            "generation",
            "clock_skew_seconds",
        ] {
            assert!(
                page.contains(&format!(
                    "citrix_auth_proxy_token_{name}{{customer=\"acme\"}} 0\n"
                )),
                "{name}"
            );
        }
        for series in [
            "rejections_total{code=\"401\",customer=\"acme\"}",
            "rejections_total{code=\"403\",customer=\"acme\"}",
            "rejected_since_timestamp_seconds{customer=\"acme\"}",
        ] {
            let line = format!("citrix_auth_proxy_upstream_{series} 0\n");
            assert!(page.contains(&line), "{line} in {page}");
        }
        assert!(page.contains("citrix_auth_proxy_token_refresh_duration_seconds_count 0\n"));
        metrics.forget("acme");
        assert!(!text(&registry).contains("acme"));
    }

    #[test]
    fn events_update_the_series() {
        let registry = Registry::new();
        let acme = TokenMetrics::register(&registry).unwrap().customer("acme");
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        acme.record_login(Outcome::Tls, Some(Duration::from_millis(300)));
        acme.record_login(Outcome::SecretUnreadable, None);
        acme.set_token(7, at(3600));
        acme.set_schedule(at(2700), 2);
        acme.set_skew(Skew::measure(at(60), at(0), Duration::ZERO));
        let page = text(&registry);
        for line in [
            "token_refreshes_total{customer=\"acme\",outcome=\"tls\"} 1",
            "token_refreshes_total{customer=\"acme\",outcome=\"secret_unreadable\"} 1",
            "token_refresh_duration_seconds_count 1",
            "token_generation{customer=\"acme\"} 7",
            "token_expiry_timestamp_seconds{customer=\"acme\"} 3600",
            "token_next_refresh_timestamp_seconds{customer=\"acme\"} 2700",
            "token_consecutive_failures{customer=\"acme\"} 2",
            "token_clock_skew_seconds{customer=\"acme\"} -60",
        ] {
            assert!(
                page.contains(&format!("citrix_auth_proxy_{line}\n")),
                "{line}"
            );
        }
    }

    #[test]
    fn second_registration_fails() {
        let registry = Registry::new();
        assert!(TokenMetrics::register(&registry).is_ok());
        assert!(TokenMetrics::register(&registry).is_err());
    }
}
