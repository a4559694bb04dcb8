//! The metrics of each customer, kept as plain numbers. A scrape builds their series: one of the
//! metrics library takes 800 bytes, and a gateway may have a thousand customers.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Error, Registry};

use crate::token::outcome::Outcome;

/// The outcomes whose series exist before the first such login: alerts compare them with an earlier
/// value.
const OUTCOMES_FROM_START: [Outcome; 4] = [
    Outcome::Ok,
    Outcome::InvalidClient,
    Outcome::Unauthorized,
    Outcome::SecretUnreadable,
];
/// The statuses of a rejection.
const CODES: [StatusCode; 2] = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];

/// The values of one customer.
#[derive(Debug, Default)]
pub(super) struct CustomerValues {
    pub(super) expiry: GaugeValue,
    pub(super) next_refresh: GaugeValue,
    pub(super) consecutive_failures: GaugeValue,
    pub(super) generation: GaugeValue,
    pub(super) clock_skew: GaugeValue,
    pub(super) rejected_since: GaugeValue,
    pub(super) logins: LoginCounts,
    pub(super) rejections: RejectionCounts,
}

/// A number that a single task writes.
#[derive(Debug, Default)]
pub(super) struct GaugeValue(AtomicU64);

impl GaugeValue {
    pub(super) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Logins by outcome, in the order of [`Outcome::ALL`].
#[derive(Debug, Default)]
pub(super) struct LoginCounts([AtomicU32; Outcome::ALL.len()]);

impl LoginCounts {
    pub(super) fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the label and the value of each series.
    fn series(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let counts = Outcome::ALL.iter().zip(&self.0).map(|(outcome, count)| {
            let count = count.load(Ordering::Relaxed);
            let is_shown = count > 0 || OUTCOMES_FROM_START.contains(outcome);
            is_shown.then(|| (outcome.label(), f64::from(count)))
        });
        counts.flatten()
    }
}

/// Rejected requests, in the order of [`CODES`].
#[derive(Debug, Default)]
pub(super) struct RejectionCounts([AtomicU64; CODES.len()]);

impl RejectionCounts {
    pub(super) fn count(&self, code: StatusCode) {
        for (counted, count) in CODES.iter().zip(&self.0) {
            if code == *counted {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn series(&self) -> impl Iterator<Item = (&'static str, f64)> {
        CODES.iter().zip(&self.0).map(|(code, count)| {
            // Exact up to 2^53.
            #[expect(clippy::cast_precision_loss, reason = "see above")]
            let count = count.load(Ordering::Relaxed) as f64;
            (label(*code), count)
        })
    }
}

const fn label(code: StatusCode) -> &'static str {
    match code {
        StatusCode::UNAUTHORIZED => "401",
        _ => "403",
    }
}

/// A gauge per customer.
struct GaugeFamily {
    name: &'static str,
    help: &'static str,
    value: fn(&CustomerValues) -> &GaugeValue,
}

const GAUGES: [GaugeFamily; 6] = [
    GaugeFamily {
        name: "token_expiry_timestamp_seconds",
        help: "Expiry of the token at Citrix, in Unix time; 0 before the first.",
        value: |customer| &customer.expiry,
    },
    GaugeFamily {
        name: "token_next_refresh_timestamp_seconds",
        help: "Scheduled time of the next login, in Unix time.",
        value: |customer| &customer.next_refresh,
    },
    GaugeFamily {
        name: "token_consecutive_failures",
        help: "Failed logins since the last success.",
        value: |customer| &customer.consecutive_failures,
    },
    GaugeFamily {
        name: "token_generation",
        help: "Number of the newest token, counted from 1.",
        value: |customer| &customer.generation,
    },
    GaugeFamily {
        name: "token_clock_skew_seconds",
        help: "Local clock minus Citrix's clock, measured at the last login.",
        value: |customer| &customer.clock_skew,
    },
    GaugeFamily {
        name: "upstream_rejected_since_timestamp_seconds",
        help: "Time since which Citrix rejects all requests of the customer, in Unix time; else 0.",
        value: |customer| &customer.rejected_since,
    },
];
const LOGINS: (&str, &str) = ("token_refreshes_total", "Logins by outcome.");
const REJECTIONS: (&str, &str) = (
    "upstream_rejections_total",
    "Responses 401 and 403 of Citrix that callers got.",
);

/// The values of all customers by id. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Customers {
    all: Arc<Mutex<BTreeMap<String, Arc<CustomerValues>>>>,
    /// Of [`GAUGES`], [`LOGINS`] and [`REJECTIONS`], in this order.
    descs: Arc<[Desc]>,
}

impl Customers {
    pub(super) fn register(registry: &Registry) -> Result<Self, Error> {
        let gauges = GAUGES
            .iter()
            .map(|family| desc((family.name, family.help), &["customer"]));
        let counters = [
            desc(LOGINS, &["customer", "outcome"]),
            desc(REJECTIONS, &["code", "customer"]),
        ];
        let customers = Self {
            all: Arc::default(),
            descs: gauges.chain(counters).collect::<Result<_, _>>()?,
        };
        registry.register(Box::new(customers.clone()))?;
        Ok(customers)
    }

    /// Returns the values of a customer, at 0 if it is a new one.
    pub(super) fn values(&self, customer: &str) -> Arc<CustomerValues> {
        let mut all = self.lock();
        if let Some(known) = all.get(customer) {
            return Arc::clone(known);
        }
        let values = Arc::default();
        all.insert(customer.to_owned(), Arc::clone(&values));
        values
    }

    pub(super) fn forget(&self, customer: &str) {
        self.lock().remove(customer);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<CustomerValues>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Customers {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let all = self.lock();
        let gauges = GAUGES.iter().map(|family| {
            let metrics = all.iter().map(|(id, values)| {
                let mut gauge = Gauge::default();
                gauge.set_value((family.value)(values).get());
                let mut metric = Metric::from_label(vec![pair("customer", id)]);
                metric.set_gauge(gauge);
                metric
            });
            self::family(
                (family.name, family.help),
                MetricType::GAUGE,
                metrics.collect(),
            )
        });
        let logins = all.iter().flat_map(|(id, values)| {
            let series = values.logins.series();
            series.map(move |(label, count)| {
                counter(vec![pair("customer", id), pair("outcome", label)], count)
            })
        });
        let rejections = all.iter().flat_map(|(id, values)| {
            let series = values.rejections.series();
            series.map(move |(label, count)| {
                counter(vec![pair("code", label), pair("customer", id)], count)
            })
        });
        let counters = [
            family(LOGINS, MetricType::COUNTER, logins.collect()),
            family(REJECTIONS, MetricType::COUNTER, rejections.collect()),
        ];
        gauges.chain(counters).collect()
    }
}

fn full_name(name: &str) -> String {
    format!("citrix_auth_proxy_{name}")
}

fn desc((name, help): (&str, &str), labels: &[&str]) -> Result<Desc, Error> {
    let labels = labels.iter().map(|&label| label.to_owned()).collect();
    Desc::new(full_name(name), help.to_owned(), labels, HashMap::new())
}

fn family((name, help): (&str, &str), kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(full_name(name));
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn counter(labels: Vec<LabelPair>, count: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(count);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customer_takes_at_most_200_bytes_between_scrapes() {
        let size = size_of::<CustomerValues>();
        assert!(size <= 200, "{size} bytes");
    }

    #[test]
    fn outcomes_are_numbered_in_the_order_of_their_list() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }
}
