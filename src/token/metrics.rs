//! Metrics of tokens and logins (interface §5).

mod rejections;

use std::time::{Duration, SystemTime};

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};

use self::rejections::RejectionFamilies;
use super::outcome::Outcome;
use super::status::Skew;
use crate::system::clock::since_epoch;

pub use self::rejections::RejectionMetrics;

/// The metric families, one set per process.
#[derive(Clone, Debug)]
pub struct TokenMetrics {
    expiry: GaugeVec,
    next_refresh: GaugeVec,
    refreshes: IntCounterVec,
    duration: Histogram,
    consecutive_failures: IntGaugeVec,
    generation: IntGaugeVec,
    clock_skew: GaugeVec,
    rejections: RejectionFamilies,
}

/// In seconds, up to the default of `token.request_timeout`.
const DURATION_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];

impl TokenMetrics {
    /// Registers the families.
    ///
    /// # Errors
    /// If the registry already has a family of the same name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let customer = &["customer"];
        let metrics = Self {
            expiry: GaugeVec::new(
                opts(
                    "token_expiry_timestamp_seconds",
                    "Expiry of the token at Citrix, in Unix time; 0 before the first.",
                ),
                customer,
            )?,
            next_refresh: GaugeVec::new(
                opts(
                    "token_next_refresh_timestamp_seconds",
                    "Scheduled time of the next login, in Unix time.",
                ),
                customer,
            )?,
            refreshes: IntCounterVec::new(
                opts("token_refreshes_total", "Logins by outcome."),
                &["customer", "outcome"],
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::from(opts(
                    "token_refresh_duration_seconds",
                    "Duration of token requests.",
                ))
                .buckets(DURATION_BUCKETS.to_vec()),
            )?,
            consecutive_failures: IntGaugeVec::new(
                opts(
                    "token_consecutive_failures",
                    "Failed logins since the last success.",
                ),
                customer,
            )?,
            generation: IntGaugeVec::new(
                opts(
                    "token_generation",
                    "Number of the newest token, counted from 1.",
                ),
                customer,
            )?,
            clock_skew: GaugeVec::new(
                opts(
                    "token_clock_skew_seconds",
                    "Local clock minus Citrix's clock, measured at the last login.",
                ),
                customer,
            )?,
            rejections: RejectionFamilies::register(registry)?,
        };
        registry.register(Box::new(metrics.expiry.clone()))?;
        registry.register(Box::new(metrics.next_refresh.clone()))?;
        registry.register(Box::new(metrics.refreshes.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.consecutive_failures.clone()))?;
        registry.register(Box::new(metrics.generation.clone()))?;
        registry.register(Box::new(metrics.clock_skew.clone()))?;
        Ok(metrics)
    }

    /// Returns one customer's handles and creates all its series, at 0.
    pub fn customer(&self, customer: &str) -> CustomerMetrics {
        let label = &[customer];
        CustomerMetrics {
            expiry: self.expiry.with_label_values(label),
            next_refresh: self.next_refresh.with_label_values(label),
            refreshes: Outcome::ALL.map(|outcome| {
                (
                    outcome,
                    self.refreshes
                        .with_label_values(&[customer, outcome.label()]),
                )
            }),
            duration: self.duration.clone(),
            consecutive_failures: self.consecutive_failures.with_label_values(label),
            generation: self.generation.with_label_values(label),
            clock_skew: self.clock_skew.with_label_values(label),
        }
    }

    /// Returns one customer's handles for rejected requests and creates their series, at 0.
    pub fn rejections(&self, customer: &str) -> RejectionMetrics {
        self.rejections.customer(customer)
    }

    /// Removes the series of a customer that a reload removed, so that its alerts stop.
    pub fn forget(&self, customer: &str) {
        let label = &[customer];
        // An error means that the series does not exist.
        let _ = self.expiry.remove_label_values(label);
        let _ = self.next_refresh.remove_label_values(label);
        let _ = self.consecutive_failures.remove_label_values(label);
        let _ = self.generation.remove_label_values(label);
        let _ = self.clock_skew.remove_label_values(label);
        self.rejections.forget(customer);
        for outcome in Outcome::ALL {
            let _ = self
                .refreshes
                .remove_label_values(&[customer, outcome.label()]);
        }
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("citrix_auth_proxy_{name}"), help)
}

/// One customer's metric handles.
#[derive(Clone, Debug)]
pub struct CustomerMetrics {
    expiry: Gauge,
    next_refresh: Gauge,
    refreshes: [(Outcome, IntCounter); Outcome::ALL.len()],
    duration: Histogram,
    consecutive_failures: IntGauge,
    generation: IntGauge,
    clock_skew: Gauge,
}

impl CustomerMetrics {
    /// Counts a login; `duration` is `None` if no request was sent.
    pub(super) fn record_login(&self, outcome: Outcome, duration: Option<Duration>) {
        if let Some((_, counter)) = self.refreshes.iter().find(|(which, _)| *which == outcome) {
            counter.inc();
        }
        if let Some(duration) = duration {
            self.duration.observe(duration.as_secs_f64());
        }
    }

    pub(super) fn set_token(&self, generation: u64, expires_at: SystemTime) {
        self.generation
            .set(generation.try_into().unwrap_or(i64::MAX));
        self.expiry.set(unix(expires_at));
    }

    pub(super) fn set_schedule(&self, next: SystemTime, consecutive_failures: u32) {
        self.next_refresh.set(unix(next));
        self.consecutive_failures.set(consecutive_failures.into());
    }

    pub(super) fn set_skew(&self, skew: Skew) {
        self.clock_skew.set(skew.seconds());
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
    fn all_series_exist_from_the_start_until_forgotten() {
        let registry = Registry::new();
        let metrics = TokenMetrics::register(&registry).unwrap();
        let _acme = metrics.customer("acme");
        let _rejections = metrics.rejections("acme");
        let page = text(&registry);
        for outcome in Outcome::ALL {
            let line = format!(
                "citrix_auth_proxy_token_refreshes_total{{customer=\"acme\",outcome=\"{}\"}} 0\n",
                outcome.label()
            );
            assert!(page.contains(&line), "{line}");
        }
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
