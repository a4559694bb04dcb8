//! The thread `fleet`, which owns the link to the store: the control plane makes logins and serves
//! probes, and each worker would need a connection of its own.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fleet_protocol::Event;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::contention;
use super::handle::{Fleet, Source};
use super::link::Link;
use super::metrics::FleetMetrics;

/// Name lookups and reads of files at the same time.
const MAX_BLOCKING_THREADS: usize = 4;
/// Time to wait for them when the thread ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);
/// Time for passing on what this replica holds.
const BYE_TIMEOUT: Duration = Duration::from_millis(500);

/// The thread of a fleet.
pub struct FleetThread {
    fleet: Arc<Fleet>,
    /// Completes when the thread ends, which it does only after [`FleetThread::end`].
    pub done: oneshot::Receiver<()>,
}

impl FleetThread {
    /// Starts the thread of a fleet. It connects in the background.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be created, or a key is too short.
    pub fn start(source: Source<'_>, metrics: FleetMetrics) -> io::Result<Self> {
        let (fleet, link, events) = Fleet::new(source, metrics).map_err(io::Error::other)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_BLOCKING_THREADS)
            .build()?;
        let (finished, done) = oneshot::channel();
        let handle = Arc::clone(&fleet);
        thread::Builder::new()
            .name("fleet".to_owned())
            .spawn(move || {
                runtime.block_on(run(link, events, handle));
                runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
                let _ = finished.send(());
            })?;
        Ok(Self { fleet, done })
    }

    /// Returns the handle.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Passes on what this replica holds, and ends the thread.
    pub async fn end(self) {
        let Self { fleet, done } = self;
        let ending = async {
            fleet.bye().await;
            let _ = done.await;
        };
        // A store that does not respond finds out when the lease is over.
        let _ = timeout(BYE_TIMEOUT, ending).await;
    }
}

/// Runs the link of a fleet to its end.
pub(super) async fn run(link: Link, events: mpsc::Receiver<Event>, fleet: Arc<Fleet>) {
    tokio::select! {
        biased;
        () = link.run(events, |output| fleet.publish(output)) => {}
        never = contention::follow(&fleet) => match never {},
    }
}
