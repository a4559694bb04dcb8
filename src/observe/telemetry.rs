//! The log: JSON or text on stderr, written by a separate thread so that a slow reader never blocks
//! a worker. Audit lines have a queue of their own, which the thread serves first.

mod lines;
mod writer;

use std::fmt;
use std::io;

use crossbeam_channel::bounded;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt as format};

use super::RequestLogs;
use super::access_log::AccessLog;
use super::audit::AuditLog;
use super::line_queue::LostLines;
use super::log_levels::LogLevels;
use crate::config::{LogFormat, LogSettings};
use writer::LogThread;

/// Owner of the log. Writes the queued lines when dropped.
pub struct Telemetry {
    _thread: LogThread,
    handle: LogHandle,
}

/// The log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The thread that writes it.
    #[error(transparent)]
    Thread(#[from] io::Error),
    /// The process already has a log.
    #[error(transparent)]
    Installed(#[from] TryInitError),
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("lost", &self.handle.lost.count())
            .finish()
    }
}

impl Telemetry {
    /// Installs the log of the process.
    ///
    /// # Errors
    /// If the process already has one, or if no thread can be started.
    pub fn start(log: LogSettings) -> Result<Self, TelemetryError> {
        let line_format = log.format.unwrap_or_else(LogFormat::of_stderr);
        let (wake, woken) = bounded(1);
        let audit = AuditLog::new(line_format, wake.clone());
        let lost = LostLines::default();
        let (thread, queue) = LogThread::start(audit.clone(), (wake, woken), lost.clone())?;
        let levels = LogLevels::new(log.level);
        let access = AccessLog::new(line_format, levels.clone(), queue.clone());
        let lines = match line_format {
            LogFormat::Json => format::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_writer(queue)
                .boxed(),
            LogFormat::Text => format::layer().with_ansi(false).with_writer(queue).boxed(),
        };
        tracing_subscriber::registry()
            .with(lines.with_filter(levels.clone()))
            .try_init()?;
        Ok(Self {
            _thread: thread,
            handle: LogHandle {
                requests: RequestLogs { audit, access },
                lost,
                levels,
            },
        })
    }

    /// Returns the part of the log that the gateway uses.
    pub fn handle(&self) -> LogHandle {
        self.handle.clone()
    }
}

/// The logs of requests; number of lost lines, and level of all but audit lines.
#[derive(Clone)]
pub struct LogHandle {
    pub(crate) requests: RequestLogs,
    pub(crate) lost: LostLines,
    pub(crate) levels: LogLevels,
}
