//! Metrics with the label `route`: the families of one worker, and its handles for one route.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use http::{Method, StatusCode};
use prometheus::{
    Error, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use super::opts;
use super::summed::Shards;

/// Values of the label `method`.
const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "OTHER",
];

/// Histogram buckets in seconds. Some Citrix calls take minutes.
const EXCHANGE_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 100.0, 300.0,
];

/// Metric families of one worker with the label `route`.
#[derive(Clone)]
pub(super) struct RouteFamilies {
    pub(super) requests: IntCounterVec,
    pub(super) request_duration: HistogramVec,
    pub(super) upstream_duration: HistogramVec,
    pub(super) queue_depth: IntGaugeVec,
    pub(super) queue_wait: HistogramVec,
    pub(super) fleet_turns: IntCounterVec,
    pub(super) collapsed: IntCounterVec,
}

impl RouteFamilies {
    /// Returns one value for each worker.
    pub(super) fn register(shards: &Shards<'_>) -> Result<Vec<Self>, Error> {
        let histograms = |name: &str, help: &str| {
            shards.register(|| {
                let options = HistogramOpts::from(opts(name, help));
                HistogramVec::new(options.buckets(EXCHANGE_BUCKETS.to_vec()), &["route"])
            })
        };
        let requests = shards.counters(
            "requests_total",
            "Requests, counted when the response ends.",
            &["route", "method", "code", "caller"],
        )?;
        let request_duration = histograms(
            "request_duration_seconds",
            "Time from the request head to the last byte of the response.",
        )?;
        let upstream_duration = histograms(
            "upstream_duration_seconds",
            "Time from sending a request to the head of Citrix's response.",
        )?;
        let help = "Requests that wait because of Citrix's limits.";
        let queue_depth = shards.gauges("queue_depth", help, &["route"])?;
        let queue_wait = histograms(
            "queue_wait_seconds",
            "Wait of each request that had to wait because of Citrix's limits.",
        )?;
        let help = "Permits of routes that Citrix limits, by what granted them.";
        let fleet_turns = shards.counters("fleet_turns_total", help, &["route", "by"])?;
        let help = "Requests whose response is that of an identical request.";
        let collapsed = shards.counters("collapsed_total", help, &["route"])?;
        let workers = requests.into_iter().enumerate();
        let workers = workers.map(|(worker, requests)| Self {
            requests,
            request_duration: request_duration[worker].clone(),
            upstream_duration: upstream_duration[worker].clone(),
            queue_depth: queue_depth[worker].clone(),
            queue_wait: queue_wait[worker].clone(),
            fleet_turns: fleet_turns[worker].clone(),
            collapsed: collapsed[worker].clone(),
        });
        Ok(workers.collect())
    }
}

/// Metrics of one route in one worker. Each handle is created at its first use: a gateway uses few
/// of the built-in routes, and a scrape lists no others.
pub struct RouteMetrics {
    families: RouteFamilies,
    duration: OnceCell<Histogram>,
    upstream: OnceCell<Histogram>,
    queue: OnceCell<QueueMetrics>,
    fleet_permits_alone: OnceCell<IntCounter>,
    fleet_permits_of_store: OnceCell<IntCounter>,
    collapsed: OnceCell<IntCounter>,
    route: String,
    /// Value of the label `caller` for requests without a configured caller.
    unnamed: &'static str,
    callers: Rc<[String]>,
    /// Requests without a configured caller first.
    by_caller: Box<[OnceCell<CallerCounters>]>,
}

/// Counters of one caller: for each method the few statuses that occurred.
type CallerCounters = Box<[RefCell<Vec<(StatusCode, IntCounter)>>; METHODS.len()]>;

/// Metrics of one route's queue in one worker.
#[derive(Clone)]
pub struct QueueMetrics {
    pub(crate) depth: IntGauge,
    pub(crate) wait: Histogram,
}

impl RouteMetrics {
    pub(super) fn new(
        families: &RouteFamilies,
        route: &str,
        unnamed: &'static str,
        callers: &Rc<[String]>,
    ) -> Self {
        Self {
            families: families.clone(),
            duration: OnceCell::new(),
            upstream: OnceCell::new(),
            queue: OnceCell::new(),
            fleet_permits_alone: OnceCell::new(),
            fleet_permits_of_store: OnceCell::new(),
            collapsed: OnceCell::new(),
            route: route.to_owned(),
            unnamed,
            callers: Rc::clone(callers),
            by_caller: (0..=callers.len()).map(|_| OnceCell::new()).collect(),
        }
    }

    pub(crate) fn queue(&self) -> &QueueMetrics {
        self.queue.get_or_init(|| QueueMetrics {
            depth: self.families.queue_depth.with_label_values(&[&self.route]),
            wait: self.families.queue_wait.with_label_values(&[&self.route]),
        })
    }

    /// Returns the counter of permits that this replica granted without asking others.
    pub(crate) fn fleet_permits_alone(&self) -> &IntCounter {
        self.fleet_permits_alone.get_or_init(|| {
            let family = &self.families.fleet_turns;
            family.with_label_values(&[&self.route, "alone"])
        })
    }

    /// Returns the counter of permits that the fleet's store granted.
    pub fn fleet_permits_of_store(&self) -> &IntCounter {
        self.fleet_permits_of_store.get_or_init(|| {
            let family = &self.families.fleet_turns;
            family.with_label_values(&[&self.route, "store"])
        })
    }

    /// Returns the counter of requests whose response is that of an identical request.
    pub fn collapsed(&self) -> &IntCounter {
        self.collapsed
            .get_or_init(|| self.families.collapsed.with_label_values(&[&self.route]))
    }

    /// Returns the durations of whole exchanges.
    pub fn duration(&self) -> &Histogram {
        self.duration.get_or_init(|| {
            let family = &self.families.request_duration;
            family.with_label_values(&[&self.route])
        })
    }

    /// Returns the durations from sending a request to the response head.
    pub fn upstream(&self) -> &Histogram {
        self.upstream.get_or_init(|| {
            let family = &self.families.upstream_duration;
            family.with_label_values(&[&self.route])
        })
    }

    /// Returns the name of a caller in metrics and logs.
    pub fn caller(&self, caller: Option<usize>) -> &str {
        caller
            .and_then(|number| self.callers.get(number))
            .map_or(self.unnamed, String::as_str)
    }

    /// Counts a response to a caller, which is given by its index in the configuration.
    pub fn count(&self, caller: Option<usize>, method: &Method, status: StatusCode) {
        let Some(counters) = self.by_caller.get(caller.map_or(0, |number| number + 1)) else {
            return;
        };
        let index = METHODS
            .iter()
            .position(|name| *name == method.as_str())
            .unwrap_or(METHODS.len() - 1);
        let mut by_status = counters.get_or_init(CallerCounters::default)[index].borrow_mut();
        if let Some((_, counter)) = by_status.iter().find(|(known, _)| *known == status) {
            return counter.inc();
        }
        let labels = [
            self.route.as_str(),
            METHODS[index],
            status.as_str(),
            self.caller(caller),
        ];
        let counter = self.families.requests.with_label_values(&labels);
        counter.inc();
        by_status.push((status, counter));
    }
}
