//! The series of `/metrics`, and the number that their labels permit.

use std::collections::{BTreeMap, BTreeSet};

/// The series of a metric, and the values of each of its labels.
#[derive(Default)]
struct Metric<'m> {
    series: usize,
    labels: BTreeMap<&'m str, BTreeSet<&'m str>>,
}

impl Metric<'_> {
    /// Returns the product of the numbers of values of its labels.
    fn bound(&self) -> usize {
        self.labels.values().map(BTreeSet::len).product()
    }
}

/// Numbers of series.
pub(crate) struct Series {
    pub(crate) count: usize,
    /// The sum of the bounds of all metrics.
    pub(crate) bound: usize,
    /// Distinct values of labels of each metric.
    pub(crate) label_values: usize,
    /// Metrics without a series for each combination of the values of their labels: the number of
    /// series, and the bound.
    pub(crate) incomplete: BTreeMap<String, [usize; 2]>,
}

/// Counts the series of `/metrics`.
pub(crate) fn count(metrics: &str) -> Series {
    let mut by_name: BTreeMap<&str, Metric<'_>> = BTreeMap::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let metric = by_name.entry(name).or_default();
        metric.series += 1;
        for label in labels.trim_end_matches("\"}").split("\",") {
            if let Some((label, value)) = label.split_once("=\"") {
                metric.labels.entry(label).or_default().insert(value);
            }
        }
    }
    let incomplete = by_name
        .iter()
        .filter(|(_, metric)| metric.series < metric.bound());
    let incomplete =
        incomplete.map(|(name, metric)| ((*name).to_owned(), [metric.series, metric.bound()]));
    let metrics = || by_name.values();
    Series {
        count: metrics().map(|metric| metric.series).sum(),
        bound: metrics().map(Metric::bound).sum(),
        label_values: metrics()
            .flat_map(|metric| metric.labels.values())
            .map(BTreeSet::len)
            .sum(),
        incomplete: incomplete.collect(),
    }
}

/// Returns the value of the counter whose name and labels end like this.
pub(crate) fn counter(metrics: &str, end: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| line.rsplit_once(' '));
    let mut named = values.filter(|(series, _)| !series.starts_with('#') && series.ends_with(end));
    let count = named.next().and_then(|(_, count)| count.parse().ok());
    count.unwrap_or(0)
}
