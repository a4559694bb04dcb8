//! What was counted so far, read back for the status page: over all workers, by route.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto;
use prometheus::proto::MetricFamily;

use super::{Metrics, WorkerMetrics};

/// What was counted since the start.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// By the names of routes in metrics.
    pub routes: BTreeMap<String, RouteTotals>,
    /// Requests by the names of callers in metrics.
    pub callers: BTreeMap<String, u64>,
    /// Requests of callers in observe mode that their rules would refuse, by their names.
    pub would_deny: BTreeMap<String, u64>,
}

/// What was counted of one route.
#[derive(Clone, Debug, Default)]
pub struct RouteTotals {
    /// By status.
    pub codes: BTreeMap<String, u64>,
    /// Whole exchanges.
    pub duration: Distribution,
    /// Citrix's part of them.
    pub upstream: Distribution,
    /// How long those waited that had to.
    pub wait: Distribution,
    /// How many wait now.
    pub waiting: u64,
}

impl RouteTotals {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.codes.values().sum()
    }

    /// Answers 5xx, whoever gave them.
    pub fn server_errors(&self) -> u64 {
        self.codes
            .iter()
            .filter(|(code, _)| code.starts_with('5'))
            .map(|(_, count)| count)
            .sum()
    }
}

/// A histogram: how many values were up to each bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// How many values.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum: f64,
    /// Upper bounds in seconds and how many values are not above, both ascending; without the infinite one.
    buckets: Vec<(f64, u64)>,
}

impl Distribution {
    /// What came since `earlier`, which is of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.buckets.is_empty() {
            return self.clone();
        }
        let buckets = self.buckets.iter().zip(&earlier.buckets);
        Self {
            count: self.count.saturating_sub(earlier.count),
            sum: (self.sum - earlier.sum).max(0.0),
            buckets: buckets
                .map(|(now, then)| (now.0, now.1.saturating_sub(then.1)))
                .collect(),
        }
    }

    /// The value that a share of all (0 to 1) is not above, as exactly as the buckets tell: within one, values are
    /// taken to be spread evenly, as Prometheus' `histogram_quantile` does. Beyond the last bound it is that bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let precise = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
        let rank = share * precise(self.count);
        let (mut lower, mut below) = (0.0, 0);
        for &(upper, count) in &self.buckets {
            if precise(count) >= rank && count > below {
                let part = (rank - precise(below)) / precise(count - below);
                return Some(Duration::from_secs_f64(
                    lower + (upper - lower) * part.clamp(0.0, 1.0),
                ));
            }
            (lower, below) = (upper, count);
        }
        Some(Duration::from_secs_f64(lower))
    }

    fn add(&mut self, histogram: &proto::Histogram) {
        self.count += histogram.get_sample_count();
        self.sum += histogram.get_sample_sum();
        let buckets = histogram
            .get_bucket()
            .iter()
            .filter(|bucket| bucket.upper_bound().is_finite());
        let counts = buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
        if self.buckets.is_empty() {
            return self.buckets.extend(counts);
        }
        for (sum, (_, count)) in self.buckets.iter_mut().zip(counts) {
            sum.1 += count;
        }
    }
}

impl Metrics {
    /// What all workers counted so far.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for worker in &self.workers {
            totals.add_worker(worker);
        }
        totals
    }
}

impl Totals {
    fn add_worker(&mut self, worker: &WorkerMetrics) {
        each(&worker.requests, |metric| {
            // A count is a whole number, which the format holds as a float.
            let count = whole(metric.get_counter().get_value());
            let route = self.route(label(metric, "route"));
            *route
                .codes
                .entry(label(metric, "code").to_owned())
                .or_default() += count;
            *self
                .callers
                .entry(label(metric, "caller").to_owned())
                .or_default() += count;
        });
        each(&worker.would_deny, |metric| {
            let count = whole(metric.get_counter().get_value());
            *self
                .would_deny
                .entry(label(metric, "caller").to_owned())
                .or_default() += count;
        });
        each(&worker.request_duration, |metric| {
            self.route(label(metric, "route"))
                .duration
                .add(metric.get_histogram());
        });
        each(&worker.upstream_duration, |metric| {
            self.route(label(metric, "route"))
                .upstream
                .add(metric.get_histogram());
        });
        each(&worker.queue_wait, |metric| {
            self.route(label(metric, "route"))
                .wait
                .add(metric.get_histogram());
        });
        each(&worker.queue_depth, |metric| {
            self.route(label(metric, "route")).waiting += whole(metric.get_gauge().get_value());
        });
    }

    fn route(&mut self, name: &str) -> &mut RouteTotals {
        self.routes.entry(name.to_owned()).or_default()
    }
}

fn each(collector: &impl Collector, mut with: impl FnMut(&proto::Metric)) {
    collector
        .collect()
        .iter()
        .flat_map(MetricFamily::get_metric)
        .for_each(&mut with);
}

fn label<'m>(metric: &'m proto::Metric, name: &str) -> &'m str {
    metric
        .get_label()
        .iter()
        .find(|pair| pair.name() == name)
        .map_or("", proto::LabelPair::value)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts from floats saturate, and counts are no fractions"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use http::{Method, StatusCode};

    use super::*;
    use crate::observe::metrics::ANONYMOUS;

    #[test]
    fn what_workers_counted_is_read_back_by_route_and_caller() {
        let metrics = Metrics::new(2).unwrap();
        let callers = Rc::from(["a".to_owned()]);
        for worker in 0..2 {
            let route = metrics.worker(worker).route("/x", ANONYMOUS, &callers);
            route.count(Some(0), &Method::GET, StatusCode::OK);
            route.count(None, &Method::POST, StatusCode::BAD_GATEWAY);
            route.duration().observe(0.2);
            route.queue().depth.inc();
        }
        let totals = metrics.totals();
        let route = &totals.routes["/x"];
        assert_eq!(
            (route.requests(), route.server_errors(), route.waiting),
            (4, 2, 2)
        );
        assert_eq!((route.codes["200"], route.codes["502"]), (2, 2));
        assert_eq!((totals.callers["a"], totals.callers[ANONYMOUS]), (2, 2));
        assert_eq!((route.duration.count, route.upstream.count), (2, 0));
    }

    fn distribution(values: &[f64]) -> Distribution {
        let bounds = [0.1, 1.0, 10.0];
        let counted = |bound: f64| values.iter().filter(|value| **value <= bound).count() as u64;
        Distribution {
            count: values.len() as u64,
            sum: values.iter().sum(),
            buckets: bounds.map(|bound| (bound, counted(bound))).to_vec(),
        }
    }

    #[test]
    fn quantiles_lie_in_their_buckets() {
        let spread = distribution(&[0.05, 0.05, 0.5, 0.5, 0.5, 0.5, 5.0, 5.0, 50.0, 50.0]);
        for (share, seconds) in [
            (0.1, 0.05),
            (0.2, 0.1),
            (0.4, 0.55),
            (0.8, 10.0),
            (0.99, 10.0),
        ] {
            let told = spread.quantile(share).unwrap().as_secs_f64();
            assert!((told - seconds).abs() < 1e-6, "{share}: {told}");
        }
        assert_eq!(distribution(&[]).quantile(0.5), None);
    }

    #[test]
    fn what_came_between_two_looks_is_their_difference() {
        let (earlier, now) = (
            distribution(&[0.05, 5.0]),
            distribution(&[0.05, 5.0, 0.5, 0.5]),
        );
        assert_eq!(now.since(&earlier), distribution(&[0.5, 0.5]));
        assert_eq!(now.since(&Distribution::default()), now);
    }
}
