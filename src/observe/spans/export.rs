//! Where spans go: into a bounded queue, and from there, a batch at a time, to a collector (OTLP over HTTP).
//!
//! A thread with a runtime of its own sends them: neither a worker nor the control side waits for a collector.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prometheus::IntCounter;
use rustls::ClientConfig;
use tokio::runtime;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Recording;
use super::client::{Cause, Client};
use super::sampler::{self, Sampler};
use crate::observe::metrics::{Metrics, SpanCounters};
use crate::observe::summary::ExchangeSummary;
use crate::system::clock::Clock;
use citrix_wire::trace_context::TraceParent;

/// Where spans go, if anywhere.
#[derive(Clone, Default)]
pub struct Spans(Option<Arc<Queue>>);

/// The workers' end of the queue.
struct Queue {
    sampler: Sampler,
    clock: Clock,
    spans: mpsc::Sender<SpanData>,
    /// A batch is together.
    together: Arc<Notify>,
    batch: usize,
    lost: IntCounter,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
}

/// The thread's end.
struct Exporter {
    to: SpanExporter,
    spans: mpsc::Receiver<SpanData>,
    together: Arc<Notify>,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
    settings: Settings,
    counts: SpanCounters,
    /// Why the last request failed, if it did.
    cause: Cause,
    /// The last batch did not arrive.
    fails: bool,
}

/// `OTEL_BSP_…`, with OpenTelemetry's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    /// Spans that may wait.
    queue: usize,
    /// Spans in one request.
    batch: usize,
    /// How long a span waits for others.
    delay: Duration,
}

/// Why no spans can be exported.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error(
        "{0} holds a name or password; they go into OTEL_EXPORTER_OTLP_HEADERS, as authorization"
    )]
    Password(&'static str),
    #[error("no thread for it: {0}")]
    Thread(#[from] std::io::Error),
}

impl Spans {
    /// Exports spans, if the environment says where to. What is wrong with that is logged and changes nothing else:
    /// the gateway works as well without.
    ///
    /// # Errors
    /// When a metric is registered twice: a mistake of ours.
    pub fn start(
        metrics: &Metrics,
        tls: &Arc<ClientConfig>,
        clock: Clock,
    ) -> Result<Self, prometheus::Error> {
        if !super::asked_for(super::variable) {
            return Ok(Self::default());
        }
        match Queue::start(metrics.spans()?, tls, clock) {
            Ok(queue) => Ok(Self(Some(Arc::new(queue)))),
            Err(error) => {
                let error = without_endpoints(error.to_string());
                tracing::error!(error, "no spans are exported");
                Ok(Self::default())
            }
        }
    }

    /// Begins to record an exchange, if its spans are to be exported. `caller` is what its request said.
    pub fn record(&self, caller: Option<TraceParent>) -> Option<Box<Recording>> {
        let trace = self.0.as_ref()?.sampler.sample(caller)?;
        Some(Box::new(Recording::new(self.clone(), trace, caller)))
    }

    /// Makes spans of what was recorded of an exchange. Never waits: what finds no room is lost, and counted.
    pub(super) fn export(&self, recording: &Recording, summary: &ExchangeSummary<'_>) {
        let Some(queue) = &self.0 else { return };
        for span in super::span::of(recording, summary, queue.clock.now()) {
            if queue.spans.try_send(span).is_err() {
                queue.lost.inc();
            }
        }
        // Waking the thread for each of them would cost more than making it.
        if queue.spans.max_capacity() - queue.spans.capacity() >= queue.batch {
            queue.together.notify_one();
        }
    }

    /// Sends what still waits, for so long at most.
    pub async fn flush(&self, limit: Duration) {
        let Some(queue) = &self.0 else { return };
        let (done, sent) = oneshot::channel();
        let flushed = async {
            if queue.flushes.send(done).await.is_ok() {
                // An error says that the thread is gone, and with it what waited.
                let _ = sent.await;
            }
        };
        if timeout(limit, flushed).await.is_err() {
            tracing::warn!("spans are lost: the collector took too long to accept the last ones");
        }
    }
}

impl Queue {
    fn start(
        counts: SpanCounters,
        tls: &Arc<ClientConfig>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let password = |name: &&str| super::variable(name).is_some_and(|url| url.contains('@'));
        if let Some(name) = super::ENDPOINTS.into_iter().find(password) {
            return Err(StartError::Password(name));
        }
        let client = Client::new(tls);
        let cause = client.cause();
        let mut to = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .build()?;
        to.set_resource(&resource());
        let name = super::variable("OTEL_TRACES_SAMPLER");
        let argument = super::variable("OTEL_TRACES_SAMPLER_ARG");
        if let Some(problem) = sampler::problem(name.as_deref(), argument.as_deref()) {
            tracing::warn!("{problem}");
        }
        tell_unheeded();
        let settings = Settings::of(super::variable);
        let (spans, waiting) = mpsc::channel(settings.queue);
        let (flushes, asked) = mpsc::channel(1);
        let together = Arc::new(Notify::new());
        let lost = counts.lost.clone();
        let exporter = Exporter {
            to,
            spans: waiting,
            together: Arc::clone(&together),
            flushes: asked,
            settings,
            counts,
            cause,
            fails: false,
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // It ends when nobody is left who could send, and at the program's end.
        thread::Builder::new()
            .name("span-exporter".to_owned())
            .spawn(move || runtime.block_on(exporter.run()))?;
        Ok(Self {
            sampler: Sampler::from_env(),
            clock,
            spans,
            together,
            batch: settings.batch,
            lost,
            flushes,
        })
    }
}

impl Exporter {
    async fn run(mut self) {
        loop {
            let flush = tokio::select! {
                () = sleep(self.settings.delay) => None,
                () = self.together.notified() => None,
                asked = self.flushes.recv() => match asked {
                    Some(done) => Some(done),
                    None => return,
                },
            };
            self.send_all().await;
            if let Some(done) = flush {
                // Nobody listens any more when the deadline has passed.
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
            match self.to.export(batch).await {
                Ok(()) => {
                    self.counts.exported.inc_by(count);
                    if std::mem::take(&mut self.fails) {
                        tracing::info!("spans are accepted by the collector again");
                    }
                }
                Err(error) => {
                    self.counts.failed.inc_by(count);
                    if !std::mem::replace(&mut self.fails, true) {
                        let cause = self.cause.take();
                        tracing::warn!(%error, cause, "spans are lost: the collector does not accept them");
                    }
                }
            }
        }
    }
}

impl Settings {
    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str, default: usize, most: usize| {
            let Some(value) = variable(name) else {
                return default;
            };
            match value.trim().parse() {
                Ok(number) if (1..=most).contains(&number) => number,
                _ => {
                    tracing::warn!(
                        "{name}: {value} is no number from 1 to {most}; {default} is used"
                    );
                    default
                }
            }
        };
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

/// Libraries quote an address that they cannot use, which may hold a password.
fn without_endpoints(error: String) -> String {
    let known = super::ENDPOINTS
        .iter()
        .filter_map(|&name| Some((name, super::variable(name)?)));
    known.fold(error, |error, (name, value)| {
        error.replace(value.trim(), name)
    })
}

/// Tells of what is asked for and not heeded.
fn tell_unheeded() {
    for (what, only) in [("PROTOCOL", "http/protobuf"), ("COMPRESSION", "none")] {
        let names = [
            format!("OTEL_EXPORTER_OTLP_TRACES_{what}"),
            format!("OTEL_EXPORTER_OTLP_{what}"),
        ];
        let asked = names
            .into_iter()
            .find_map(|name| Some((super::variable(&name)?, name)));
        if let Some((value, name)) =
            asked.filter(|(value, _)| !value.trim().eq_ignore_ascii_case(only))
        {
            tracing::warn!("{name}: {value} is not built in; {only} is used");
        }
    }
}

/// Who sends the spans: what the environment says (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`) and our version.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let named = Resource::builder().build();
    let name = named.get(&"service.name".into());
    // What the library makes up where nobody says anything begins so.
    let ours = name.is_none_or(|name| name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder().with_attribute(version);
    if ours {
        builder.with_service_name("citrix-auth-proxy").build()
    } else {
        builder.build()
    }
}
