//! The result: text, JSON and plots.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Fallible;
use crate::ledger::Totals;
use crate::plot::{Line, plot};
use crate::sample::{Sample, growth};
use crate::verdict::Category;
use crate::windows::Fault;

/// Everything that a run found out.
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) seconds: f64,
    pub(crate) program: Value,
    pub(crate) totals: Totals,
    /// Connections closed or refused at `limits.max_connections`, by the gateway's metrics.
    pub(crate) closures: u64,
    pub(crate) faults: BTreeMap<Fault, u64>,
    pub(crate) samples: Vec<Sample>,
    /// After all requests had ended.
    pub(crate) last: Sample,
    /// Metrics with fewer series than their labels permit, at the end: both numbers.
    pub(crate) series: BTreeMap<String, [usize; 2]>,
    pub(crate) logins: [u64; 3],
    pub(crate) certificates: usize,
    pub(crate) log: (u64, u64, BTreeMap<String, u64>),
    /// What was expected and did not hold.
    pub(crate) failed: Vec<String>,
}

impl Report {
    /// Counts the requests of the categories that this selects.
    fn count(&self, is_wanted: impl Fn(&Category) -> bool) -> u64 {
        let categories = self.totals.categories.iter();
        let wanted = categories.filter(|(category, _)| is_wanted(category));
        wanted.map(|(_, count)| count).sum()
    }

    fn documented(&self) -> BTreeMap<&'static str, u64> {
        let categories = self.totals.categories.iter();
        let documented = categories.filter_map(|(category, count)| match category {
            Category::Documented(cause) => Some((*cause, *count)),
            _ => None,
        });
        documented.collect()
    }

    fn injected(&self) -> u64 {
        let injected = self
            .faults
            .iter()
            .filter(|(fault, _)| **fault != Fault::Starvation);
        injected.map(|(_, count)| count).sum()
    }

    fn json(&self) -> Value {
        let faults: BTreeMap<String, u64> = self
            .faults
            .iter()
            .map(|(fault, count)| (format!("{fault:?}"), *count))
            .collect();
        let changes: BTreeMap<&str, (f64, f64)> = quantities()
            .into_iter()
            .map(|(name, quantity)| (name, growth(&self.samples, quantity)))
            .collect();
        json!({
            "seed": self.seed,
            "seconds": self.seconds.round(),
            "program": self.program,
            "requests": {
                "sent": self.totals.sent,
                "arrived": self.totals.hits,
                "sent_again_by_the_gateway": self.totals.repeated,
                "ok": self.count(|category| *category == Category::Ok),
                "rejected": self.count(|category| *category == Category::Rejected),
                "caller_left": self.count(|category| *category == Category::CallerLeft),
                "documented": self.documented(),
                "lost": self.count(|category| matches!(category, Category::Lost(_))),
                "duplicated": self.count(|category| matches!(category, Category::Duplicated(_))),
                "corrupted": self.count(|category| matches!(category, Category::Corrupted(_))),
                "unaccounted": self.totals.open,
                "upload_bytes": self.totals.bytes[0],
                "download_bytes": self.totals.bytes[1],
            },
            "closed_at_max_connections": {
                "seen": self.totals.closed, "counted_by_the_gateway": self.closures,
            },
            "violations": self.totals.violations,
            "faults": faults,
            "injected": self.injected(),
            "second_and_last_quarter": changes,
            "at_the_end": self.last,
            "series_and_bound": self.series,
            "token_service": {
                "logins": self.logins[0], "failed": self.logins[1], "tokens": self.logins[2],
            },
            "certificates_seen": self.certificates,
            "log": { "access": self.log.0, "audit": self.log.1, "others": self.log.2 },
            "failed": self.failed,
        })
    }

    /// Prints the result, and writes it with its plots into a folder.
    pub(crate) fn write(&self, folder: &Path) -> Fallible<()> {
        let json = serde_json::to_string_pretty(&self.json())?;
        println!("{json}");
        fs::write(folder.join("report.json"), json)?;
        fs::write(
            folder.join("samples.json"),
            serde_json::to_string(&self.samples)?,
        )?;
        for (name, svg) in self.plots() {
            fs::write(folder.join(name), svg)?;
        }
        println!("Written to {}.", folder.display());
        Ok(())
    }

    fn plots(&self) -> [(&'static str, String); 4] {
        let line = |name, value: fn(&Sample) -> f64| Line {
            name,
            points: self
                .samples
                .iter()
                .map(|sample| (sample.seconds, value(sample)))
                .collect(),
        };
        let rate = |name, total: fn(&Sample) -> f64| Line {
            name,
            points: self
                .samples
                .windows(2)
                .map(|pair| {
                    let time = (pair[1].seconds - pair[0].seconds).max(0.001);
                    let change = total(&pair[1]) - total(&pair[0]);
                    (pair[1].seconds, change / time)
                })
                .collect(),
        };
        let plots = [
            (
                "memory.svg",
                "Memory of the gateway, MiB",
                vec![
                    line("resident", |sample| sample.resident / 1024.0),
                    line("anonymous", |sample| sample.anonymous / 1024.0),
                ],
            ),
            (
                "descriptors.svg",
                "Descriptors, connections, tasks and threads",
                vec![
                    line("descriptors", |sample| sample.descriptors),
                    line("callers' connections", |sample| sample.connections),
                    line("upstream connections", |sample| sample.upstream_connections),
                    line("tasks", |sample| sample.tasks),
                    line("threads", |sample| sample.threads),
                ],
            ),
            (
                "series.svg",
                "Series in /metrics",
                vec![
                    line("series", |sample| sample.series),
                    line("bound by the labels", |sample| sample.series_bound),
                    line("values of labels", |sample| sample.label_values),
                ],
            ),
            (
                "traffic.svg",
                "Requests",
                vec![
                    rate("sent per second", |sample| sample.sent),
                    rate("documented per second", |sample| sample.documented),
                    line("in flight", |sample| sample.in_flight),
                    line("queued", |sample| sample.queued),
                ],
            ),
        ];
        plots.map(|(name, title, lines)| (name, plot(title, &lines)))
    }
}

type Quantity = fn(&Sample) -> f64;

/// The quantities that must not grow.
pub(crate) fn quantities() -> [(&'static str, Quantity); 8] {
    [
        ("resident_kib", |sample| sample.resident),
        ("anonymous_kib", |sample| sample.anonymous),
        ("descriptors", |sample| sample.descriptors),
        ("threads", |sample| sample.threads),
        ("tasks", |sample| sample.tasks),
        ("series", |sample| sample.series),
        ("label_values", |sample| sample.label_values),
        ("in_flight", |sample| sample.in_flight),
    ]
}
