//! Sums of the workers' counters for the status page.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto;
use prometheus::proto::MetricFamily;

use super::{Metrics, WorkerMetrics};

/// Counts since the start, by the names that labels use.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub(crate) routes: BTreeMap<String, RouteTotals>,
    pub(crate) callers: BTreeMap<String, Counts>,
    /// Requests that the rules of an observed caller would reject, by caller.
    pub(crate) would_deny: BTreeMap<String, u64>,
}

/// Numbers of responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub(crate) requests: u64,
    /// Responses 4xx, from Citrix or the gateway.
    pub(crate) client_errors: u64,
    /// Responses 5xx, from Citrix or the gateway.
    pub(crate) server_errors: u64,
}

impl Counts {
    /// Returns the counts of `count` responses with this status.
    fn of(code: &str, count: u64) -> Self {
        let count_if = |is_counted| if is_counted { count } else { 0 };
        Self {
            requests: count,
            client_errors: count_if(code.starts_with('4')),
            server_errors: count_if(code.starts_with('5')),
        }
    }

    /// Returns what was counted since `earlier`.
    #[must_use]
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            client_errors: self.client_errors.saturating_sub(earlier.client_errors),
            server_errors: self.server_errors.saturating_sub(earlier.server_errors),
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.client_errors += other.client_errors;
        self.server_errors += other.server_errors;
    }
}

/// Counts of one route since the start.
#[derive(Clone, Debug, Default)]
pub struct RouteTotals {
    pub(crate) codes: BTreeMap<String, u64>,
    /// Durations of whole exchanges.
    pub(crate) duration: Distribution,
    /// Durations from sending a request to the response head.
    pub(crate) upstream: Distribution,
    /// Waits in the queue.
    pub(crate) wait: Distribution,
    /// Requests in the queue.
    pub(crate) waiting: u64,
}

impl RouteTotals {
    /// Returns the numbers of responses.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (code, count) in &self.codes {
            counts += Counts::of(code, *count);
        }
        counts
    }
}

/// Values of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    pub(crate) count: u64,
    /// Sum in seconds.
    sum: f64,
    /// Finite upper bounds in seconds and cumulative counts, both ascending.
    buckets: Vec<(f64, u64)>,
}

impl Distribution {
    /// Returns the values that were added since `earlier`, a state of the same histogram.
    #[must_use]
    pub(crate) fn since(&self, earlier: &Self) -> Self {
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

    /// Returns an estimate of the quantile `share`, from 0 to 1, by linear interpolation within a
    /// bucket, as `histogram_quantile` of Prometheus does. Returns the last bound for values above
    /// it.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
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
    /// Returns the sums over all workers.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for worker in &self.workers {
            totals.add_worker(worker);
        }
        totals
    }
}

impl Totals {
    fn add_worker(&mut self, worker: &WorkerMetrics) {
        each(&worker.routes.requests, |metric| {
            let count = whole(metric.get_counter().get_value());
            let code = label(metric, "code");
            let route = self.route(label(metric, "route"));
            *route.codes.entry(code.to_owned()).or_default() += count;
            *self
                .callers
                .entry(label(metric, "caller").to_owned())
                .or_default() += Counts::of(code, count);
        });
        each(&worker.would_deny, |metric| {
            let count = whole(metric.get_counter().get_value());
            *self
                .would_deny
                .entry(label(metric, "caller").to_owned())
                .or_default() += count;
        });
        each(&worker.routes.request_duration, |metric| {
            self.route(label(metric, "route"))
                .duration
                .add(metric.get_histogram());
        });
        each(&worker.routes.upstream_duration, |metric| {
            self.route(label(metric, "route"))
                .upstream
                .add(metric.get_histogram());
        });
        each(&worker.routes.queue_wait, |metric| {
            self.route(label(metric, "route"))
                .wait
                .add(metric.get_histogram());
        });
        each(&worker.routes.queue_depth, |metric| {
            self.route(label(metric, "route")).waiting += whole(metric.get_gauge().get_value());
        });
    }

    fn route(&mut self, name: &str) -> &mut RouteTotals {
        self.routes.entry(name.to_owned()).or_default()
    }
}

fn each(collector: &impl Collector, mut visit: impl FnMut(&proto::Metric)) {
    collector
        .collect()
        .iter()
        .flat_map(MetricFamily::get_metric)
        .for_each(&mut visit);
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
    reason = "casts from floats saturate, and counts are whole numbers"
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
    fn totals_are_sums_over_workers_by_route_and_caller() {
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
        let counts = |requests, server_errors| Counts {
            requests,
            client_errors: 0,
            server_errors,
        };
        assert_eq!((route.counts(), route.waiting), (counts(4, 2), 2));
        assert_eq!((route.codes["200"], route.codes["502"]), (2, 2));
        assert_eq!(
            (totals.callers["a"], totals.callers[ANONYMOUS]),
            (counts(2, 0), counts(2, 2))
        );
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
    fn quantile_is_interpolated_within_its_bucket() {
        let spread = distribution(&[0.05, 0.05, 0.5, 0.5, 0.5, 0.5, 5.0, 5.0, 50.0, 50.0]);
        for (share, seconds) in [
            (0.1, 0.05),
            (0.2, 0.1),
            (0.4, 0.55),
            (0.8, 10.0),
            (0.99, 10.0),
        ] {
            let quantile = spread.quantile(share).unwrap().as_secs_f64();
            assert!((quantile - seconds).abs() < 1e-6, "{share}: {quantile}");
        }
        assert_eq!(distribution(&[]).quantile(0.5), None);
    }

    #[test]
    fn since_returns_the_difference_of_two_states() {
        let (earlier, now) = (
            distribution(&[0.05, 5.0]),
            distribution(&[0.05, 5.0, 0.5, 0.5]),
        );
        assert_eq!(now.since(&earlier), distribution(&[0.5, 0.5]));
        assert_eq!(now.since(&Distribution::default()), now);
    }
}
