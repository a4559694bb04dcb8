//! The resources that the gateway uses, at intervals.

use std::time::Duration;

use tokio::time::Instant;

use crate::Fallible;
use crate::gateway::Gateway;
use crate::ledger::Totals;
use crate::series;
use crate::verdict::Category;

/// The state of the gateway and of the accounts at one time.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    /// Resident and anonymous memory, in KiB.
    pub(crate) resident: f64,
    pub(crate) anonymous: f64,
    pub(crate) descriptors: f64,
    pub(crate) threads: f64,
    pub(crate) tasks: f64,
    /// Series of `/metrics`, the number that their labels permit, and values of labels.
    pub(crate) series: f64,
    pub(crate) series_bound: f64,
    pub(crate) label_values: f64,
    pub(crate) in_flight: f64,
    pub(crate) queued: f64,
    pub(crate) connections: f64,
    pub(crate) upstream_connections: f64,
    /// Requests sent since the start.
    pub(crate) sent: f64,
    /// Requests that failed in documented ways since the start.
    pub(crate) documented: f64,
    pub(crate) violations: f64,
}

impl Sample {
    pub(crate) async fn take(gateway: &Gateway, totals: &Totals, start: Instant) -> Fallible<Self> {
        let metrics = gateway.metrics().await?;
        let series = series::count(&metrics);
        let memory = gateway.process_file("smaps_rollup")?;
        let status = gateway.process_file("status")?;
        let documented = totals.categories.iter().filter_map(|(category, count)| {
            matches!(category, Category::Documented(_)).then_some(*count)
        });
        Ok(Self {
            seconds: start.elapsed().as_secs_f64(),
            resident: line(&memory, "Rss:"),
            anonymous: line(&memory, "Anonymous:"),
            descriptors: gateway.descriptors()? as f64,
            threads: line(&status, "Threads:"),
            tasks: sum(&metrics, "proxy_tasks"),
            series: series.count as f64,
            series_bound: series.bound as f64,
            label_values: series.label_values as f64,
            in_flight: sum(&metrics, "in_flight_requests"),
            queued: sum(&metrics, "queue_depth"),
            connections: sum(&metrics, "proxy_connections"),
            upstream_connections: sum(&metrics, "upstream_connections"),
            sent: totals.sent as f64,
            documented: documented.sum::<u64>() as f64,
            violations: totals.violation_count as f64,
        })
    }
}

/// Returns the first number of a line of a file in `/proc`.
fn line(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// Adds up the series of the metric whose name ends like this.
fn sum(metrics: &str, end: &str) -> f64 {
    let values = metrics.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let name = series.split('{').next()?;
        let value: f64 = value.parse().ok()?;
        (!line.starts_with('#') && name.ends_with(end)).then_some(value)
    });
    // The sum of no number is -0.
    values.sum::<f64>() + 0.0
}

/// Growth of a quantity: the medians of the second and of the last quarter of a run.
pub(crate) fn growth(samples: &[Sample], quantity: fn(&Sample) -> f64) -> (f64, f64) {
    let quarter = samples.len() / 4;
    let median = |samples: &[Sample]| {
        let mut values: Vec<f64> = samples.iter().map(quantity).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    let second = median(&samples[quarter..(2 * quarter).max(quarter)]);
    (second, median(&samples[samples.len() - quarter..]))
}

/// Returns the interval between samples of a run: ten seconds, or less for a short one.
pub(crate) fn interval(run: Duration) -> Duration {
    (run / 40).clamp(Duration::from_secs(1), Duration::from_secs(10))
}
