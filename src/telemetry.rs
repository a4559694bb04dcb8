//! Log lines: JSON or text, to stderr, by a thread of their own, so that a slow terminal or pipe never holds a
//! worker up.

use std::fmt;
use std::io;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt as format};

use crate::config::{Log, LogFormat};

/// Lines that may wait for the writer; more are dropped and counted.
const WAITING_LINES: usize = 32 * 1024;

/// Keeps the log going; dropped last, it writes what still waits.
pub struct Telemetry {
    _writer: WorkerGuard,
    dropped: ErrorCounter,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("dropped", &self.dropped.dropped_lines()).finish()
    }
}

impl Telemetry {
    /// Starts logging for the whole process.
    ///
    /// # Errors
    /// When something else in the process logs already.
    pub fn start(log: Log) -> Result<Self, TryInitError> {
        // Lossy: when the writer cannot follow, lines are lost rather than requests delayed.
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(WAITING_LINES)
            .lossy(true)
            .thread_name("log-writer")
            .finish(io::stderr());
        let dropped = writer.error_counter();
        let lines = match log.format {
            LogFormat::Json => format::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_writer(writer)
                .boxed(),
            LogFormat::Text => format::layer().with_ansi(false).with_writer(writer).boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(levels(log.level))).try_init()?;
        Ok(Self { _writer: guard, dropped })
    }

    /// How many lines were lost because the writer could not follow.
    pub fn dropped_lines(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

/// The wanted level for the program; libraries are quieter, for at `trace` they print header values.
fn levels(wanted: LevelFilter) -> Targets {
    Targets::new()
        .with_default(wanted.min(LevelFilter::INFO))
        .with_target("citrix_auth_proxy", wanted)
        .with_target("access", wanted)
        .with_target("audit", wanted)
}
