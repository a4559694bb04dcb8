//! Export of spans: a bounded queue, and a thread that sends batches to a collector (OTLP over
//! HTTP).
//!
//! The thread has its own runtime, so that neither a worker nor the control plane waits for a
//! collector.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prometheus::IntCounter;
use tokio::runtime;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Recording;
use super::client::{Cause, CollectorClient};
use super::sampler::{self, Sampler};
use crate::observe::metrics::{Metrics, SpanCounters};
use crate::observe::summary::ExchangeSummary;
use crate::system::clock::Clock;
use crate::upstream::tls::ClientConfigs;
use citrix_wire::trace_context::TraceParent;

/// The export of spans, if it is enabled.
#[derive(Clone, Default)]
pub struct Spans(Option<Arc<SpanQueue>>);

/// The workers' end of the queue.
struct SpanQueue {
    sampler: Sampler,
    clock: Clock,
    spans: mpsc::Sender<SpanData>,
    /// Notified when the queue holds a full batch.
    batch_full: Arc<Notify>,
    batch: usize,
    dropped: IntCounter,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
}

/// The thread's end of the queue.
struct Exporter {
    otlp: SpanExporter,
    spans: mpsc::Receiver<SpanData>,
    batch_full: Arc<Notify>,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
    settings: BatchSettings,
    counts: SpanCounters,
    cause: Cause,
    /// The last batch failed.
    is_failing: bool,
}

/// Values of `OTEL_BSP_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BatchSettings {
    /// Queue length in spans.
    queue: usize,
    /// Maximum number of spans in one request.
    batch: usize,
    /// Maximum time between two requests while spans are queued.
    delay: Duration,
}

#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("{0} contains credentials; use OTEL_EXPORTER_OTLP_HEADERS instead")]
    Credentials(&'static str),
    #[error("failed to start the export thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Spans {
    /// Starts the export if the environment names a collector. Logs invalid variables, which never
    /// prevent the start of the gateway.
    ///
    /// # Errors
    /// If a metric is already registered, which is a bug.
    pub fn start(
        metrics: &Metrics,
        tls: &ClientConfigs,
        clock: Clock,
    ) -> Result<Self, prometheus::Error> {
        if !super::is_enabled(super::variable) {
            return Ok(Self::default());
        }
        match SpanQueue::start(metrics.spans()?, tls, clock) {
            Ok(queue) => Ok(Self(Some(Arc::new(queue)))),
            Err(error) => {
                let error = redact_endpoints(error.to_string());
                tracing::error!(
                    error,
                    "failed to start the export of spans; none are exported"
                );
                Ok(Self::default())
            }
        }
    }

    /// Starts to record an exchange if it is sampled. `caller` is the trace context of its request.
    pub fn record(&self, caller: Option<TraceParent>) -> Option<Box<Recording>> {
        let trace = self.0.as_ref()?.sampler.sample(caller)?;
        Some(Box::new(Recording::new(trace, caller)))
    }

    /// Queues the spans of an exchange that has ended. Never waits: drops and counts spans if the
    /// queue is full.
    pub(crate) fn export(&self, recording: &Recording, summary: &ExchangeSummary<'_>) {
        let Some(queue) = &self.0 else { return };
        for span in super::span::of(recording, summary, queue.clock.now()) {
            if queue.spans.try_send(span).is_err() {
                queue.dropped.inc();
            }
        }
        // Waking the thread costs more than creating a span.
        if queue.spans.max_capacity() - queue.spans.capacity() >= queue.batch {
            queue.batch_full.notify_one();
        }
    }

    /// Sends the queued spans, for at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        let Some(queue) = &self.0 else { return };
        let (done, sent) = oneshot::channel();
        let flushed = async {
            if queue.flushes.send(done).await.is_ok() {
                // Fails if the thread has ended, and its queue with it.
                let _ = sent.await;
            }
        };
        if timeout(limit, flushed).await.is_err() {
            tracing::warn!("timed out flushing spans; the rest is lost");
        }
    }
}

impl SpanQueue {
    fn start(counts: SpanCounters, tls: &ClientConfigs, clock: Clock) -> Result<Self, ExportError> {
        let has_credentials =
            |name: &&str| super::variable(name).is_some_and(|url| url.contains('@'));
        if let Some(name) = super::ENDPOINTS.into_iter().find(has_credentials) {
            return Err(ExportError::Credentials(name));
        }
        let client = CollectorClient::new(tls);
        let cause = client.cause();
        let mut otlp = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .build()?;
        otlp.set_resource(&resource());
        let name = super::variable("OTEL_TRACES_SAMPLER");
        let argument = super::variable("OTEL_TRACES_SAMPLER_ARG");
        sampler::log_replaced(name.as_deref(), argument.as_deref());
        log_unsupported();
        let settings = BatchSettings::from_variables(super::variable);
        let (spans, queued_spans) = mpsc::channel(settings.queue);
        let (flushes, requested_flushes) = mpsc::channel(1);
        let batch_full = Arc::new(Notify::new());
        let dropped = counts.dropped.clone();
        let exporter = Exporter {
            otlp,
            spans: queued_spans,
            batch_full: Arc::clone(&batch_full),
            flushes: requested_flushes,
            settings,
            counts,
            cause,
            is_failing: false,
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Ends when all senders are dropped.
        thread::Builder::new()
            .name("span-exporter".to_owned())
            .spawn(move || runtime.block_on(exporter.run()))?;
        Ok(Self {
            sampler: Sampler::from_env(),
            clock,
            spans,
            batch_full,
            batch: settings.batch,
            dropped,
            flushes,
        })
    }
}

impl Exporter {
    async fn run(mut self) {
        loop {
            let flush = tokio::select! {
                () = sleep(self.settings.delay) => None,
                () = self.batch_full.notified() => None,
                requested = self.flushes.recv() => match requested {
                    Some(done) => Some(done),
                    None => return,
                },
            };
            self.send_all().await;
            if let Some(done) = flush {
                // Fails if the flush timed out.
                let _ = done.send(());
            }
        }
    }

    async fn send_all(&mut self) {
        loop {
            let mut batch = Vec::new();
            while batch.len() < self.settings.batch {
                let Ok(span) = self.spans.try_recv() else {
                    break;
                };
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            let count = batch.len() as u64;
            match self.otlp.export(batch).await {
                Ok(()) => {
                    self.counts.exported.inc_by(count);
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("export of spans recovered");
                    }
                }
                Err(error) => {
                    self.counts.failed.inc_by(count);
                    if !std::mem::replace(&mut self.is_failing, true) {
                        let cause = self.cause.take();
                        tracing::warn!(%error, cause, "failed to export spans; they are lost");
                    }
                }
            }
        }
    }
}

impl BatchSettings {
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name, default, max| number_in(name, variable(name), default, max);
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1 << 20);
        let batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1 << 16).min(queue);
        let delay = number("OTEL_BSP_SCHEDULE_DELAY", 5000, 3_600_000);
        Self {
            queue,
            batch,
            delay: Duration::from_millis(delay as u64),
        }
    }
}

/// Parses the value of the variable `name`; an invalid value is logged and the default used.
fn number_in(name: &str, value: Option<String>, default: usize, max: usize) -> usize {
    let Some(value) = value else {
        return default;
    };
    match value.trim().parse() {
        Ok(number) if (1..=max).contains(&number) => number,
        _ => {
            tracing::warn!(
                variable = name,
                value,
                max,
                default,
                "environment variable out of range; using the default"
            );
            default
        }
    }
}

/// Replaces endpoints, which may contain a password, by the names of their variables.
fn redact_endpoints(error: String) -> String {
    let known = super::ENDPOINTS
        .iter()
        .filter_map(|&name| Some((name, super::variable(name)?)));
    known.fold(error, |error, (name, value)| {
        error.replace(value.trim(), name)
    })
}

/// Logs variables with a value that is not supported.
fn log_unsupported() {
    for (setting, supported) in [("PROTOCOL", "http/protobuf"), ("COMPRESSION", "none")] {
        let names = [
            format!("OTEL_EXPORTER_OTLP_TRACES_{setting}"),
            format!("OTEL_EXPORTER_OTLP_{setting}"),
        ];
        let set = names
            .into_iter()
            .find_map(|name| Some((super::variable(&name)?, name)));
        if let Some((value, variable)) =
            set.filter(|(value, _)| !value.trim().eq_ignore_ascii_case(supported))
        {
            tracing::warn!(
                variable,
                value,
                default = supported,
                "environment variable not supported; using the default"
            );
        }
    }
}

/// Returns the resource of the environment (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`) with
/// the program's version.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let from_env = Resource::builder().build();
    let name = from_env.get(&"service.name".into());
    // The SDK's name for an unnamed service.
    let is_unnamed = name.is_none_or(|name| name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder().with_attribute(version);
    if is_unnamed {
        builder.with_service_name("citrix-auth-proxy").build()
    } else {
        builder.build()
    }
}
