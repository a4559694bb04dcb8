//! What Prometheus scrapes. Handles are resolved ahead of the request path; label values come from closed sets.

mod reloads;
mod retain;
mod route;
mod summed;
mod totals;

use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Error, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::error::Reason;
use crate::observe::recent::{Recent, WorkerRecent};
use crate::system::files::ReadFailures;
use citrix_wire::citrix::legacy;
use citrix_wire::link_rewrite::LinkCounts;
use summed::Summed;

pub use reloads::{ReloadOutcome, Reloads};
pub use route::{QueueMetrics, RouteMetrics};
pub use totals::{Distribution, RouteTotals, Totals};

const PREFIX: &str = "citrix_auth_proxy";

/// Seconds a whole exchange takes: Citrix is slow, some calls run for minutes.
const EXCHANGE_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 100.0, 300.0,
];
/// Seconds of our own work on an exchange: tens of microseconds when all is well.
const OVERHEAD_BUCKETS: &[f64] = &[
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25,
];

/// The value of the label `caller` for who needs to show nothing.
pub const ANONYMOUS: &str = "anonymous";
/// The value of a label that was not determined: no route was picked, nobody was admitted.
pub const NONE: &str = "none";

/// What came of a 401, 429 or 503 of Citrix: the values of the label `outcome` of `replays_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// The request was sent again with another token and got another answer.
    Accepted,
    /// It was sent again and got a 401 again.
    RefusedAgain,
    /// Its body was not kept whole, so that it could not be sent again; or it is not idempotent and met a 503.
    NotReplayable,
    /// A token that was fresh was refused there less than a minute ago.
    Suppressed,
    /// The last login that a 401 asked for is too recent (`token.min_forced_interval`).
    Deferred,
    /// The login that it asked for failed.
    RefreshFailed,
    /// The wait that Citrix asked for was made, and there was another answer.
    Waited,
    /// It is longer than what is left of `upstream.retry_budget`, or was asked for too often.
    WaitTooLong,
    /// `limits.max_queued` requests wait there already.
    TooManyWait,
}

impl ReplayOutcome {
    /// Every outcome.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::RefusedAgain,
        Self::NotReplayable,
        Self::Suppressed,
        Self::Deferred,
        Self::RefreshFailed,
        Self::Waited,
        Self::WaitTooLong,
        Self::TooManyWait,
    ];

    /// The value of the label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::RefusedAgain => "refused_again",
            Self::NotReplayable => "not_replayable",
            Self::Suppressed => "suppressed",
            Self::Deferred => "deferred",
            Self::RefreshFailed => "refresh_failed",
            Self::Waited => "waited",
            Self::WaitTooLong => "wait_too_long",
            Self::TooManyWait => "too_many_wait",
        }
    }
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    workers: Vec<WorkerMetrics>,
    replays: IntCounterVec,
    /// Reloads of the configuration.
    pub reloads: Reloads,
    /// What happened lately.
    pub recent: Recent,
    certificate_expiry: OnceLock<Gauge>,
    /// Requests being answered.
    pub in_flight: IntGauge,
    /// Connections of callers.
    pub connections: IntGauge,
    /// Connections refused because of `limits.max_connections` or `limits.max_connections_per_address`.
    pub connections_refused: IntCounter,
    /// Connections closed because their PROXY protocol header was missing or wrong.
    pub proxy_protocol_errors: IntCounter,
    /// Lines the log lost because its writer could not follow.
    pub log_lines_lost: IntCounter,
    /// Failed reads of watched files.
    pub file_read_failures: ReadFailures,
    /// Times that accepting a connection failed (file descriptors, usually).
    pub accept_errors: IntCounter,
}

/// The metrics that one worker counts for itself.
#[derive(Clone)]
pub struct WorkerMetrics {
    requests: IntCounterVec,
    request_duration: HistogramVec,
    upstream_duration: HistogramVec,
    queue_depth: IntGaugeVec,
    queue_wait: HistogramVec,
    errors: Vec<IntCounter>,
    retired: Vec<IntCounter>,
    would_deny: IntCounterVec,
    /// Links in answers.
    pub links: LinkCounters,
    /// What happened lately.
    pub recent: Arc<WorkerRecent>,
    /// Time of ours alone, for exchanges that Citrix answered.
    pub overhead: Histogram,
    /// Connections to upstreams in use by a request.
    pub upstream_active: IntGauge,
    /// Connections to upstreams waiting for a request.
    pub upstream_idle: IntGauge,
}

impl Metrics {
    /// Registers everything in a registry of its own, for `workers` workers.
    ///
    /// # Errors
    /// When two metrics have one name: a mistake of ours that any test finds.
    pub fn new(workers: usize) -> Result<Arc<Self>, Error> {
        let registry = Registry::new();
        let gauge =
            |name: &str, help: &str| registered(&registry, IntGauge::with_opts(opts(name, help))?);
        let counter = |name: &str, help: &str| {
            registered(&registry, IntCounter::with_opts(opts(name, help))?)
        };
        let labels = ["version", "commit"];
        let build = IntGaugeVec::new(
            opts("build_info", "Always 1; the labels tell the build."),
            &labels,
        )?;
        registered(&registry, build)?
            .with_label_values(&[env!("CARGO_PKG_VERSION"), commit()])
            .set(1);
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let replays = IntCounterVec::new(
            opts(
                "replays_total",
                "Answers 401, 429 and 503 of Citrix, by what came of them.",
            ),
            &["route", "outcome"],
        )?;
        let recent = Recent::new(workers);
        Ok(Arc::new(Self {
            replays: registered(&registry, replays)?,
            workers: WorkerMetrics::register(&registry, workers, &recent)?,
            recent,
            certificate_expiry: OnceLock::new(),
            reloads: Reloads::register(&registry)?,
            in_flight: gauge("in_flight_requests", "Requests being answered.")?,
            connections: gauge("connections", "Connections of callers.")?,
            connections_refused: counter(
                "connections_refused_total",
                "Connections refused because of limits.max_connections or limits.max_connections_per_address.",
            )?,
            proxy_protocol_errors: counter(
                "proxy_protocol_errors_total",
                "Connections of listen.proxy_protocol that did not begin with a PROXY v2 header.",
            )?,
            log_lines_lost: counter(
                "log_lines_lost_total",
                "Log lines lost because the writer could not follow.",
            )?,
            file_read_failures: ReadFailures::register(&registry)?,
            accept_errors: counter("accept_errors_total", "Failures to accept a connection.")?,
            registry,
        }))
    }

    /// Counts what came of a 401.
    pub fn count_replay(&self, route: &str, outcome: ReplayOutcome) {
        self.replays
            .with_label_values(&[route, outcome.label()])
            .inc();
    }

    /// When the certificate that callers are shown ends. Registered where there is one only: 0 would look expired.
    ///
    /// # Errors
    /// When it is registered already.
    pub fn certificate_expiry(&self) -> Result<Gauge, Error> {
        let help = "When the certificate of the listeners ends, in Unix time.";
        let gauge = registered(
            &self.registry,
            Gauge::with_opts(opts("certificate_expiry_timestamp_seconds", help))?,
        )?;
        Ok(self.certificate_expiry.get_or_init(|| gauge).clone())
    }

    /// What that gauge shows, in Unix time; `None` where callers are shown none, or it cannot be read.
    pub fn certificate_expires_at(&self) -> Option<f64> {
        self.certificate_expiry
            .get()
            .map(Gauge::get)
            .filter(|end| *end > 0.0)
    }

    /// What became of spans. Registered where they are exported only.
    ///
    /// # Errors
    /// When it is registered already.
    pub fn spans(&self) -> Result<SpanCounters, Error> {
        let help = "Spans, by what became of them.";
        let spans = registered(
            &self.registry,
            IntCounterVec::new(opts("spans_total", help), &["outcome"])?,
        )?;
        let counter = |outcome| spans.with_label_values(&[outcome]);
        Ok(SpanCounters {
            exported: counter("exported"),
            failed: counter("failed"),
            lost: counter("queue_full"),
        })
    }

    /// The registry, for modules that bring metrics of their own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How many workers count.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// One worker's metrics.
    pub fn worker(&self, index: usize) -> WorkerMetrics {
        self.workers[index % self.workers.len()].clone()
    }

    /// The text that Prometheus reads (text format 0.0.4).
    ///
    /// # Errors
    /// When a collector yields an inconsistent family.
    pub fn render(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl WorkerMetrics {
    fn register(registry: &Registry, workers: usize, recent: &Recent) -> Result<Vec<Self>, Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            Summed::register(registry, workers, || {
                IntCounterVec::new(opts(name, help), labels)
            })
        };
        let histograms = |name: &str, help: &str| {
            let options =
                || HistogramOpts::from(opts(name, help)).buckets(EXCHANGE_BUCKETS.to_vec());
            Summed::register(registry, workers, || {
                HistogramVec::new(options(), &["route"])
            })
        };
        let requests = counters(
            "requests_total",
            "Requests, counted when their answer ends.",
            &["route", "method", "code", "caller"],
        )?;
        let request_duration = histograms(
            "request_duration_seconds",
            "From the request's head to the answer's last byte.",
        )?;
        let upstream_duration = histograms(
            "upstream_duration_seconds",
            "From sending a request to the head of Citrix's answer.",
        )?;
        let queue_depth = Summed::register(registry, workers, || {
            let help = "Requests waiting because of what Citrix allows a customer.";
            IntGaugeVec::new(opts("queue_depth", help), &["route"])
        })?;
        let queue_wait = histograms("queue_wait_seconds", "How long those waited that had to.")?;
        let errors = counters(
            "errors_total",
            "Answers the proxy made itself.",
            &["reason"],
        )?;
        let help = "Requests to retired addresses, which were translated.";
        let retired = counters("retired_addresses_total", help, &["route"])?;
        let help = "What callers in observe mode were let do though their rules or limits do not allow it.";
        let would_deny = counters("policy_would_deny_total", help, &["caller"])?;
        let links = counters(
            "links_total",
            "Links in answers, by what became of them.",
            &["outcome"],
        )?;
        let overhead = Summed::register(registry, workers, || {
            let help = "Time of the proxy alone, on exchanges that Citrix answered.";
            let options = HistogramOpts::from(opts("overhead_seconds", help));
            Histogram::with_opts(options.buckets(OVERHEAD_BUCKETS.to_vec()))
        })?;
        let connections = Summed::register(registry, workers, || {
            IntGaugeVec::new(
                opts("upstream_connections", "Connections to Citrix."),
                &["state"],
            )
        })?;
        Ok((0..requests.len())
            .map(|worker| Self {
                requests: requests[worker].clone(),
                request_duration: request_duration[worker].clone(),
                upstream_duration: upstream_duration[worker].clone(),
                queue_depth: queue_depth[worker].clone(),
                queue_wait: queue_wait[worker].clone(),
                errors: Reason::ALL
                    .map(|each| errors[worker].with_label_values(&[each.as_str()]))
                    .to_vec(),
                retired: legacy::FAMILIES
                    .map(|each| retired[worker].with_label_values(&[each]))
                    .to_vec(),
                would_deny: would_deny[worker].clone(),
                links: LinkCounters {
                    rewritten: links[worker].with_label_values(&["rewritten"]),
                    unknown: links[worker].with_label_values(&["unknown"]),
                },
                recent: recent.worker(worker),
                overhead: overhead[worker].clone(),
                upstream_active: connections[worker].with_label_values(&["active"]),
                upstream_idle: connections[worker].with_label_values(&["idle"]),
            })
            .collect())
    }

    /// Counts an answer of our own making.
    pub fn count_error(&self, reason: Reason) {
        let index = Reason::ALL.iter().position(|&each| each == reason);
        if let Some(counter) = index.and_then(|index| self.errors.get(index)) {
            counter.inc();
        }
    }

    /// Counts a request to a retired address of one of [`legacy::FAMILIES`].
    pub fn count_retired_address(&self, family: &str) {
        let index = legacy::FAMILIES.iter().position(|&each| each == family);
        if let Some(counter) = index.and_then(|index| self.retired.get(index)) {
            counter.inc();
        }
    }

    /// The counter of what a caller in observe mode was let do.
    pub fn would_deny(&self, caller: &str) -> IntCounter {
        self.would_deny.with_label_values(&[caller])
    }

    /// The handles of one route, for requests of `callers`; `nobody` is said of a request that is of none of them.
    pub fn route(&self, route: &str, nobody: &'static str, callers: &Rc<[String]>) -> RouteMetrics {
        RouteMetrics::new(self, route, nobody, callers)
    }
}

/// What became of spans.
#[derive(Clone)]
pub struct SpanCounters {
    /// The collector accepted them.
    pub exported: IntCounter,
    /// It did not, however often it was tried.
    pub failed: IntCounter,
    /// There was no room for them in the queue.
    pub lost: IntCounter,
}

/// A worker's handles for what became of links.
#[derive(Clone)]
pub struct LinkCounters {
    rewritten: IntCounter,
    unknown: IntCounter,
}

impl LinkCounters {
    /// Counts the links of a head or a body.
    pub fn add(&self, counts: LinkCounts) {
        self.rewritten.inc_by(counts.rewritten);
        self.unknown.inc_by(counts.unknown);
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("{PREFIX}_{name}"), help)
}

fn registered<C>(registry: &Registry, collector: C) -> Result<C, Error>
where
    C: prometheus::core::Collector + Clone + 'static,
{
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// The commit the build was made from, when the build said so.
pub(crate) fn commit() -> &'static str {
    option_env!("CITRIX_AUTH_PROXY_COMMIT").unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::*;

    #[test]
    fn counts_are_told_apart_by_route_method_code_and_caller_and_odd_methods_are_other() {
        let metrics = Metrics::new(2).unwrap();
        let worker = metrics.worker(1);
        let route = worker.route("/", ANONYMOUS, &Rc::from(["a".to_owned(), "b".to_owned()]));
        route.count(None, &Method::GET, StatusCode::OK);
        route.count(None, &Method::GET, StatusCode::OK);
        route.count(Some(1), &Method::GET, StatusCode::OK);
        route.count(
            None,
            &Method::from_bytes(b"BREW").unwrap(),
            StatusCode::from_u16(530).unwrap(),
        );
        route.count(None, &Method::GET, StatusCode::from_u16(999).unwrap());
        worker.count_error(Reason::Overloaded);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        let line = r#"citrix_auth_proxy_requests_total{caller="anonymous",code="200",method="GET",route="/"} 2"#;
        assert!(text.contains(line), "{text}");
        let line =
            r#"citrix_auth_proxy_requests_total{caller="b",code="200",method="GET",route="/"} 1"#;
        assert!(
            text.contains(line) && !text.contains(r#"caller="a""#),
            "{text}"
        );
        assert!(text.contains(r#"code="530",method="OTHER""#), "{text}");
        assert!(
            text.contains(r#"citrix_auth_proxy_errors_total{reason="overloaded"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"citrix_auth_proxy_errors_total{reason="no_route"} 0"#),
            "{text}"
        );
        assert!(text.contains("citrix_auth_proxy_build_info{"), "{text}");
    }
}
