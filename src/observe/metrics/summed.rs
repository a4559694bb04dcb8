//! Metrics with one collector per worker. A scrape returns their sums.
//!
//! The cache line of a shared counter would move between cores with each request.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Metric, MetricFamily, MetricType};
use prometheus::{Error, IntCounterVec, IntGaugeVec, Registry};

use super::opts;

/// Registers metrics with one collector per worker.
pub(super) struct Shards<'a> {
    pub(super) registry: &'a Registry,
    pub(super) workers: usize,
}

impl Shards<'_> {
    /// Creates a collector for each worker, and registers their sum.
    pub(super) fn register<C: Collector + Clone + 'static>(
        &self,
        create: impl Fn() -> Result<C, Error>,
    ) -> Result<Vec<C>, Error> {
        let shards: Vec<C> = (0..self.workers.max(1))
            .map(|_| create())
            .collect::<Result<_, _>>()?;
        self.registry.register(Box::new(Summed(shards.clone())))?;
        Ok(shards)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<Vec<IntCounterVec>, Error> {
        self.register(|| IntCounterVec::new(opts(name, help), labels))
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<Vec<IntGaugeVec>, Error> {
        self.register(|| IntGaugeVec::new(opts(name, help), labels))
    }
}

/// Collects the sums of the workers' collectors, by labels.
struct Summed<C>(Vec<C>);

impl<C: Collector> Collector for Summed<C> {
    fn desc(&self) -> Vec<&Desc> {
        self.0.first().map(Collector::desc).unwrap_or_default()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut shards = self.0.iter().map(Collector::collect);
        let mut sum = shards.next().unwrap_or_default();
        for families in shards {
            for (into, from) in sum.iter_mut().zip(families) {
                add_family(into, from);
            }
        }
        sum
    }
}

fn add_family(into: &mut MetricFamily, mut from: MetricFamily) {
    let kind = into.get_field_type();
    for metric in from.take_metric() {
        let known = into
            .mut_metric()
            .iter_mut()
            .find(|known| known.get_label() == metric.get_label());
        match known {
            Some(known) => add(kind, known, &metric),
            None => into.mut_metric().push(metric),
        }
    }
}

fn add(kind: MetricType, into: &mut Metric, from: &Metric) {
    match kind {
        MetricType::COUNTER => {
            let mut sum = into.get_counter().clone();
            sum.set_value(sum.get_value() + from.get_counter().get_value());
            into.set_counter(sum);
        }
        MetricType::GAUGE => {
            let mut sum = into.get_gauge().clone();
            sum.set_value(sum.get_value() + from.get_gauge().get_value());
            into.set_gauge(sum);
        }
        MetricType::HISTOGRAM => add_histogram(into, from),
        // Not used, and without a meaningful sum.
        MetricType::SUMMARY | MetricType::UNTYPED => {}
    }
}

/// Adds bucket by bucket: a metric has the same buckets in every worker.
fn add_histogram(into: &mut Metric, from: &Metric) {
    let from = from.get_histogram();
    let mut sum = into.get_histogram().clone();
    let buckets = sum
        .get_bucket()
        .iter()
        .zip(from.get_bucket())
        .map(|(one, other)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(one.upper_bound());
            bucket.set_cumulative_count(one.cumulative_count() + other.cumulative_count());
            bucket
        });
    let buckets = buckets.collect();
    sum.set_sample_count(sum.get_sample_count() + from.get_sample_count());
    sum.set_sample_sum(sum.get_sample_sum() + from.get_sample_sum());
    sum.set_bucket(buckets);
    into.set_histogram(sum);
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, HistogramOpts, HistogramVec, Opts, TextEncoder};

    use super::*;

    #[test]
    fn scrape_returns_the_sums_of_workers_by_labels() {
        let registry = Registry::new();
        let shards = Shards {
            registry: &registry,
            workers: 2,
        };
        let counters = shards
            .register(|| IntCounterVec::new(Opts::new("c", "c"), &["l"]))
            .unwrap();
        counters[0].with_label_values(&["both"]).inc_by(2);
        counters[1].with_label_values(&["both"]).inc_by(3);
        counters[1].with_label_values(&["one"]).inc();
        let options = || HistogramOpts::new("h", "h").buckets(vec![1.0, 10.0]);
        let histograms = shards
            .register(|| HistogramVec::new(options(), &["l"]))
            .unwrap();
        histograms[0].with_label_values(&["a"]).observe(0.5);
        histograms[1].with_label_values(&["a"]).observe(5.0);
        histograms[1].with_label_values(&["a"]).observe(50.0);

        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&registry.gather(), &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "c{l=\"both\"} 5",
            "c{l=\"one\"} 1",
            "h_bucket{l=\"a\",le=\"1\"} 1",
            "h_bucket{l=\"a\",le=\"10\"} 2",
            "h_bucket{l=\"a\",le=\"+Inf\"} 3",
            "h_sum{l=\"a\"} 55.5",
            "h_count{l=\"a\"} 3",
        ] {
            assert!(text.contains(line), "{line} missing in\n{text}");
        }
    }
}
