//! The levels of log lines that are written.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, callsite};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Filter};

/// Filter of log lines, which can be changed at run time. Each line reads it, so it has no lock
/// that workers share.
#[derive(Clone, Debug)]
pub struct LogLevels(Arc<ArcSwap<LevelTargets>>);

#[derive(Debug)]
struct LevelTargets {
    level: LevelFilter,
    targets: Targets,
}

impl LevelTargets {
    /// Limits libraries to `INFO`, since at `TRACE` they log header values.
    fn new(level: LevelFilter) -> Self {
        let targets = Targets::new()
            .with_default(level.min(LevelFilter::INFO))
            .with_target("citrix_auth_proxy", level)
            .with_target("access", level);
        Self { level, targets }
    }
}

impl LogLevels {
    pub(super) fn new(level: LevelFilter) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(LevelTargets::new(level))))
    }

    /// Returns the least severe level that is written.
    pub fn level(&self) -> LevelFilter {
        self.0.load().level
    }

    /// Sets the level for lines that follow.
    pub fn set(&self, level: LevelFilter) {
        self.0.store(Arc::new(LevelTargets::new(level)));
        // Call sites cache whether they are enabled.
        callsite::rebuild_interest_cache();
    }
}

impl<S> Filter<S> for LogLevels {
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use tracing_subscriber::Layer as _;
    use tracing_subscriber::fmt as format;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn level_change_applies_to_following_lines_but_not_to_libraries() {
        let (written, levels) = (LogBuffer::default(), LogLevels::new(LevelFilter::INFO));
        let writer = written.clone();
        let lines = format::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(levels.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let log = |when: &str| {
                tracing::debug!("gateway {when}");
                tracing::debug!(target: "hyper", "library {when}");
                tracing::info!(target: "access", "access {when}");
            };
            log("at info");
            levels.set(LevelFilter::DEBUG);
            log("at debug");
            levels.set(LevelFilter::WARN);
            log("at warn");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once(": ").map(|(_, rest)| rest))
            .collect();
        assert_eq!(lines.len(), 3, "{text}");
        let expected = ["access at info", "gateway at debug", "access at debug"];
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.ends_with(expected), "{text}");
        }
        assert_eq!(levels.level(), LevelFilter::WARN);
    }
}
