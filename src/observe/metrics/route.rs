//! A worker's handles of one route.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use http::{Method, StatusCode};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::WorkerMetrics;

/// The values of the label `method`.
const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "OTHER",
];

/// A worker's handles of one route, each filled when first used: of the many built-in routes a gateway uses few, and
/// a scrape shall not list the rest.
pub struct RouteMetrics {
    durations: [HistogramVec; 2],
    duration: OnceCell<Histogram>,
    upstream: OnceCell<Histogram>,
    queue_vecs: (IntGaugeVec, HistogramVec),
    queue: OnceCell<QueueMetrics>,
    requests: IntCounterVec,
    route: String,
    nobody: &'static str,
    callers: Rc<[String]>,
    /// By caller, nobody in particular first.
    by_caller: Box<[OnceCell<Counters>]>,
}

/// One caller's counters: by method, and then the few statuses that came, each with its counter.
type Counters = Box<[RefCell<Vec<(StatusCode, IntCounter)>>; METHODS.len()]>;

/// A worker's handles of one route's waiting requests.
#[derive(Clone)]
pub struct QueueMetrics {
    /// How many wait now.
    pub depth: IntGauge,
    /// How long they waited.
    pub wait: Histogram,
}

impl RouteMetrics {
    pub(super) fn new(
        worker: &WorkerMetrics,
        route: &str,
        nobody: &'static str,
        callers: &Rc<[String]>,
    ) -> Self {
        Self {
            durations: [
                worker.request_duration.clone(),
                worker.upstream_duration.clone(),
            ],
            duration: OnceCell::new(),
            upstream: OnceCell::new(),
            queue_vecs: (worker.queue_depth.clone(), worker.queue_wait.clone()),
            queue: OnceCell::new(),
            requests: worker.requests.clone(),
            route: route.to_owned(),
            nobody,
            callers: Rc::clone(callers),
            by_caller: (0..=callers.len()).map(|_| OnceCell::new()).collect(),
        }
    }

    /// What waits there.
    pub fn queue(&self) -> &QueueMetrics {
        self.queue.get_or_init(|| {
            let (depth, wait) = &self.queue_vecs;
            let route = [&self.route];
            QueueMetrics {
                depth: depth.with_label_values(&route),
                wait: wait.with_label_values(&route),
            }
        })
    }

    /// Whole exchanges.
    pub fn duration(&self) -> &Histogram {
        self.duration
            .get_or_init(|| self.durations[0].with_label_values(&[&self.route]))
    }

    /// Citrix's part of them.
    pub fn upstream(&self) -> &Histogram {
        self.upstream
            .get_or_init(|| self.durations[1].with_label_values(&[&self.route]))
    }

    /// The value of the label `caller`, also in the log.
    pub fn caller(&self, caller: Option<usize>) -> &str {
        caller
            .and_then(|number| self.callers.get(number))
            .map_or(self.nobody, String::as_str)
    }

    /// Counts one answer to a request of a caller, by its place in the configuration.
    pub fn count(&self, caller: Option<usize>, method: &Method, status: StatusCode) {
        let Some(counters) = self.by_caller.get(caller.map_or(0, |number| number + 1)) else {
            return;
        };
        let index = METHODS
            .iter()
            .position(|name| *name == method.as_str())
            .unwrap_or(METHODS.len() - 1);
        let mut by_status = counters.get_or_init(Counters::default)[index].borrow_mut();
        if let Some((_, counter)) = by_status.iter().find(|(known, _)| *known == status) {
            return counter.inc();
        }
        let labels = [
            self.route.as_str(),
            METHODS[index],
            status.as_str(),
            self.caller(caller),
        ];
        let counter = self.requests.with_label_values(&labels);
        counter.inc();
        by_status.push((status, counter));
    }
}
