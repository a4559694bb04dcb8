//! Capture of log output.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::dispatcher::{DefaultGuard, Dispatch};
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::fmt::MakeWriter;

/// Log output of the test's thread, at every level, until dropped.
pub(super) struct CapturedLog {
    lines: Lines,
    _guard: DefaultGuard,
    _second: Dispatch,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl CapturedLog {
    pub(super) fn start() -> Self {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        // With a single subscriber, tracing caches the interest of the current thread's subscriber
        // in a callsite for all threads, so a concurrent test without a subscriber would disable
        // callsites for good. With two subscribers it asks all of them, and the rebuild discards
        // earlier results.
        let second = Dispatch::new(NoSubscriber::new());
        tracing::callsite::rebuild_interest_cache();
        Self {
            lines,
            _guard: guard,
            _second: second,
        }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap()
    }
}
