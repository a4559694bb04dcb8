//! Log lines: JSON or text, to stderr, by a thread of their own, so that a slow terminal or pipe never holds a
//! worker up.

use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, callsite};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt as format};

use crate::config::{LogFormat, LogSettings};

/// Lines that may wait for the writer; more are dropped and counted.
const WAITING_LINES: usize = 32 * 1024;

/// Keeps the log going; dropped last, it writes what still waits.
pub struct Telemetry {
    _writer: WorkerGuard,
    dropped: ErrorCounter,
    levels: Levels,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("dropped", &self.dropped.dropped_lines())
            .finish()
    }
}

impl Telemetry {
    /// Starts logging for the whole process.
    ///
    /// # Errors
    /// When something else in the process logs already.
    pub fn start(log: LogSettings) -> Result<Self, TryInitError> {
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
        let levels = Levels::new(log.level);
        tracing_subscriber::registry()
            .with(lines.with_filter(levels.clone()))
            .try_init()?;
        Ok(Self {
            _writer: guard,
            dropped,
            levels,
        })
    }

    /// What the admin side may see and change.
    pub fn handle(&self) -> LogHandle {
        LogHandle {
            dropped: self.dropped.clone(),
            levels: self.levels.clone(),
        }
    }
}

/// The process's log, for who looks after it.
#[derive(Clone)]
pub struct LogHandle {
    /// How many lines were lost because the writer could not follow.
    pub dropped: ErrorCounter,
    /// Which lines are written.
    pub levels: Levels,
}

/// Which lines are written; it can be changed while the program runs. Each line that may be written asks for it, so
/// it is read without a lock that workers would share.
#[derive(Clone, Debug)]
pub struct Levels(Arc<ArcSwap<Chosen>>);

#[derive(Debug)]
struct Chosen {
    level: LevelFilter,
    targets: Targets,
}

impl Chosen {
    fn new(level: LevelFilter) -> Self {
        Self {
            level,
            targets: levels(level),
        }
    }
}

impl Levels {
    /// Lines of this level and above.
    pub fn new(level: LevelFilter) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Chosen::new(level))))
    }

    /// The least severe level that is written.
    pub fn level(&self) -> LevelFilter {
        self.0.load().level
    }

    /// Changes it, from the next line on.
    pub fn set(&self, level: LevelFilter) {
        self.0.store(Arc::new(Chosen::new(level)));
        // Who asked whether a line is written remembers the answer.
        callsite::rebuild_interest_cache();
    }
}

impl<S> Filter<S> for Levels {
    fn enabled(&self, line: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        Filter::enabled(&self.0.load().targets, line, context)
    }

    fn callsite_enabled(&self, line: &'static Metadata<'static>) -> Interest {
        Filter::<S>::callsite_enabled(&self.0.load().targets, line)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.0.load().targets)
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_changes_while_the_program_runs_and_libraries_stay_quiet() {
        let (written, levels) = (Written::default(), Levels::new(LevelFilter::INFO));
        let writer = written.clone();
        let lines = format::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(levels.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let log = |when: &str| {
                tracing::debug!("ours {when}");
                tracing::debug!(target: "hyper", "theirs {when}");
                tracing::info!(target: "access", "access {when}");
            };
            log("at first");
            levels.set(LevelFilter::DEBUG);
            log("in detail");
            levels.set(LevelFilter::WARN);
            log("in silence");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once(": ").map(|(_, rest)| rest))
            .collect();
        assert_eq!(lines.len(), 3, "{text}");
        for (line, told) in
            lines
                .iter()
                .zip(["access at first", "ours in detail", "access in detail"])
        {
            assert!(line.ends_with(told), "{text}");
        }
        assert_eq!(levels.level(), LevelFilter::WARN);
    }
}
