//! Prometheus metrics. Handles are resolved before the request path; label values come from closed
//! sets.
//!
//! [`Metrics`] has the metrics of the process, [`WorkerMetrics`] those that each worker counts, and
//! [`RouteMetrics`] those of one route in a worker.

mod reloads;
mod retain;
mod route;
mod runtimes;
mod summed;
mod totals;
mod worker;

use std::sync::{Arc, OnceLock};

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Error, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::observe::recent::Recent;

pub use reloads::{ReloadOutcome, Reloads};
pub use route::{QueueMetrics, RouteMetrics};
pub(crate) use runtimes::Runtimes;
pub use totals::{Counts, Distribution, RouteTotals, Totals};
pub use worker::{LinkCounters, WorkerMetrics};

const PREFIX: &str = "citrix_auth_proxy";

/// Value of the label `caller` without `[[caller]]` blocks.
pub const ANONYMOUS: &str = "anonymous";
/// Value of the labels `route` and `caller` if the request ended before they were known.
pub const NONE: &str = "none";

/// Outcome of a 401, 429 or 503 from Citrix: the label `outcome` of `replays_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// Replayed with another token; the response was not 401.
    Accepted,
    /// Replayed; the response was 401 again.
    RefusedAgain,
    /// Not sent again: the body exceeds the replay buffer, or the response was 503 and the request
    /// is not idempotent.
    NotReplayable,
    /// Not sent again: a fresh token was rejected there less than a minute ago.
    Suppressed,
    /// Not sent again: the last forced login is too recent (`token.min_forced_interval`).
    Deferred,
    /// Not sent again: the forced login failed.
    RefreshFailed,
    /// Retried after the wait that Citrix requested; the response was another one.
    Waited,
    /// Not retried: the wait exceeds the rest of `upstream.retry_budget`, or there were too many
    /// waits.
    WaitTooLong,
    /// Not retried: `limits.max_queued` requests wait already.
    TooManyWait,
}

impl ReplayOutcome {
    /// Returns the label value.
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
    pub(crate) reloads: Reloads,
    pub(crate) recent: Recent,
    certificate_expiry: OnceLock<Gauge>,
    /// Set at each scrape.
    pub(crate) in_flight: IntGauge,
    /// Set at each scrape.
    pub(crate) connections: IntGauge,
    pub(crate) runtimes: Runtimes,
    pub(crate) connections_refused: IntCounter,
    pub(crate) proxy_protocol_errors: IntCounter,
    /// Updated at each scrape.
    pub(crate) log_lines_lost: IntCounter,
    /// Set at each scrape.
    pub(crate) audit_queue_bytes: IntGauge,
    /// Updated at each scrape.
    pub(crate) rejections_summarized: IntCounter,
    pub(crate) accept_errors: IntCounter,
}

impl Metrics {
    /// Registers all metrics in a new registry, for `workers` workers.
    ///
    /// # Errors
    /// If two metrics have the same name, which is a bug.
    pub fn new(workers: usize) -> Result<Arc<Self>, Error> {
        let registry = Registry::new();
        let gauge =
            |name: &str, help: &str| registered(&registry, IntGauge::with_opts(opts(name, help))?);
        let counter = |name: &str, help: &str| {
            registered(&registry, IntCounter::with_opts(opts(name, help))?)
        };
        let build = opts("build_info", "Always 1; version and commit are labels.");
        let build = IntGaugeVec::new(build, &["version", "commit"])?;
        registered(&registry, build)?
            .with_label_values(&[env!("CARGO_PKG_VERSION"), commit()])
            .set(1);
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let help = "Responses 401, 429, 502, 503 and 504 from Citrix, by outcome.";
        let replays = IntCounterVec::new(opts("replays_total", help), &["route", "outcome"])?;
        let recent = Recent::new(workers);
        Ok(Arc::new(Self {
            replays: registered(&registry, replays)?,
            workers: WorkerMetrics::register(&registry, workers, &recent)?,
            recent,
            certificate_expiry: OnceLock::new(),
            reloads: Reloads::register(&registry)?,
            in_flight: gauge(
                "in_flight_requests",
                "Requests in progress, except those in a queue.",
            )?,
            connections: gauge("connections", "Connections of callers.")?,
            runtimes: Runtimes::new(gauge(
                "tasks",
                "Tasks of the control plane and the workers.",
            )?),
            connections_refused: counter(
                "connections_refused_total",
                "Connections rejected because of limits.max_connections, the limit of open files or limits.max_connections_per_address.",
            )?,
            proxy_protocol_errors: counter(
                "proxy_protocol_errors_total",
                "Connections closed because the PROXY header was missing, late or invalid.",
            )?,
            log_lines_lost: counter(
                "log_lines_lost_total",
                "Log lines that stderr did not accept, or dropped because its reader is slow.",
            )?,
            audit_queue_bytes: gauge(
                "audit_queue_bytes",
                "Audit lines that wait for the reader of the log, in bytes.",
            )?,
            rejections_summarized: counter(
                "rejections_summarized_total",
                "Rejections without an audit line of their own, in the count of another line.",
            )?,
            accept_errors: counter("accept_errors_total", "Failures to accept a connection.")?,
            registry,
        }))
    }

    /// Counts the outcome of a 401, 429 or 503 from Citrix.
    pub fn count_replay(&self, route: &str, outcome: ReplayOutcome) {
        self.replays
            .with_label_values(&[route, outcome.label()])
            .inc();
    }

    /// Registers the expiry of the certificate for callers. Not registered without one: 0 would
    /// look expired.
    ///
    /// # Errors
    /// If it is already registered.
    pub fn certificate_expiry(&self) -> Result<Gauge, Error> {
        let help = "Expiry of the certificate for callers, in Unix time.";
        let gauge = registered(
            &self.registry,
            Gauge::with_opts(opts("certificate_expiry_timestamp_seconds", help))?,
        )?;
        Ok(self.certificate_expiry.get_or_init(|| gauge).clone())
    }

    /// Returns the expiry of the certificate for callers in Unix time, if there is one and its
    /// expiry is known.
    pub fn certificate_expires_at(&self) -> Option<f64> {
        self.certificate_expiry
            .get()
            .map(Gauge::get)
            .filter(|end| *end > 0.0)
    }

    /// Registers the counters of spans. Called only if spans are exported.
    ///
    /// # Errors
    /// If they are already registered.
    pub fn spans(&self) -> Result<SpanCounters, Error> {
        let spans = IntCounterVec::new(opts("spans_total", "Spans, by outcome."), &["outcome"])?;
        let spans = registered(&self.registry, spans)?;
        let counter = |outcome| spans.with_label_values(&[outcome]);
        Ok(SpanCounters {
            exported: counter("exported"),
            failed: counter("failed"),
            dropped: counter("queue_full"),
        })
    }

    /// Returns the registry, for modules that register their own metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the number of connections to Citrix that are in use by a request.
    pub fn upstream_active(&self) -> i64 {
        let workers = self.workers.iter();
        workers.map(|worker| worker.upstream_active.get()).sum()
    }

    /// Returns the number of workers.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Returns the metrics of one worker.
    pub fn worker(&self, index: usize) -> WorkerMetrics {
        self.workers[index % self.workers.len()].clone()
    }

    /// Returns the Prometheus text format, version 0.0.4.
    ///
    /// # Errors
    /// If a collector yields an inconsistent family.
    pub fn render(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Counters of spans by outcome.
#[derive(Clone)]
pub struct SpanCounters {
    /// Accepted by the collector.
    pub(crate) exported: IntCounter,
    /// Not accepted within the export timeout.
    pub(crate) failed: IntCounter,
    /// Dropped because the queue was full.
    pub(crate) dropped: IntCounter,
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

/// Returns the commit of the build, or `unknown` outside a clone if the build did not name one.
pub(crate) fn commit() -> &'static str {
    env!("BUILD_COMMIT")
}
