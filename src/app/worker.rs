//! A worker: one thread with a single-threaded runtime, and its own connections to callers and
//! upstreams.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{self, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::inbound::connection::{Connections, sweep_interval};
use crate::inbound::listener::{ListenerHandle, ListenerMode};
use crate::observe::metrics::WorkerMetrics;
use crate::proxy::Proxy;
use crate::proxy::accept::{Acceptor, TransferredConnection};
use crate::state::Shared;
use crate::state::lifecycle::{Phase, PhaseWatch};
use crate::system::memory;
use crate::upstream::pool::Pool;

/// Time between two evictions of idle upstream connections.
const EVICTION_INTERVAL: Duration = Duration::from_secs(1);
/// Phase changes of connections between two evictions, three for each request over HTTP/1, from
/// which on a worker is busy: it keeps free memory, because it would use it again.
const BUSY_PHASE_CHANGES: u64 = 1000;
/// Time between two checks of a drain for open connections.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);
/// Time to wait for blocking threads, such as name lookups, when a worker ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);

/// A worker before its start.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    /// The listening sockets with their protocols.
    pub(super) listeners: Vec<(ListenerHandle, ListenerMode)>,
    pub(super) phases: PhaseWatch,
    /// Connections from other workers.
    pub(super) inbox: mpsc::Receiver<TransferredConnection>,
    /// The inboxes of all workers.
    pub(super) workers: Arc<[mpsc::Sender<TransferredConnection>]>,
}

pub(super) struct WorkerThread {
    /// The number of connections that were closed with requests in flight; an error if the worker
    /// panicked.
    pub(super) done: oneshot::Receiver<usize>,
}

impl Worker {
    /// Starts the worker's thread.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be created.
    pub(super) async fn start(self) -> io::Result<WorkerThread> {
        let (started, starting) = oneshot::channel();
        let (finished, done) = oneshot::channel();
        thread::Builder::new()
            .name(format!("worker-{}", self.index))
            .spawn(move || {
                let runtime = runtime::Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        let _ = started.send(Ok(()));
                        let (index, shared) = (self.index, Arc::clone(&self.shared));
                        shared.metrics.runtimes.add(runtime.metrics());
                        let aborted = runtime.block_on(self.run());
                        shared.heartbeats.done(index);
                        // Drops the remaining tasks, which writes their access log lines.
                        runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
                        // The receiver is gone if a second signal ended the drain.
                        let _ = finished.send(aborted);
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            })?;
        starting
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the worker ended during its start")))?;
        Ok(WorkerThread { done })
    }

    /// Serves until the program stops. Returns the number of connections that were closed with
    /// requests in flight.
    async fn run(self) -> usize {
        let Self {
            index,
            shared,
            listeners,
            mut phases,
            mut inbox,
            workers,
        } = self;
        let connections = Connections::new(
            Arc::clone(&shared.head_bytes),
            Arc::clone(&shared.stream_bytes),
            shared.evictions.clone(),
        );
        let pool = Pool::new(Arc::clone(&shared.published.load().live));
        let metrics = shared.metrics.worker(index);
        let proxy = Proxy::new(Arc::clone(&shared), Rc::clone(&pool), metrics.clone());
        let acceptor = Rc::new(Acceptor {
            proxy: Rc::clone(&proxy),
            connections: Rc::clone(&connections),
            worker: index,
            workers,
        });
        let mut tasks = JoinSet::new();
        for (handle, mode) in listeners {
            let (acceptor, mut phases) = (Rc::clone(&acceptor), phases.clone());
            match handle.listen() {
                Ok(listener) => {
                    tasks.spawn_local(async move {
                        acceptor
                            .accept(listener, mode, phases.reached(Phase::Draining))
                            .await;
                    });
                }
                Err(error) => tracing::error!(%error, "failed to watch a listening socket"),
            }
        }
        tokio::task::spawn_local(async move {
            while let Some(handed) = inbox.recv().await {
                acceptor.receive(handed).await;
            }
        });
        let turns = Rc::clone(&connections);
        tokio::task::spawn_local(async move { turns.grant_turns().await });
        tokio::task::spawn_local(housekeeping(
            index,
            Rc::clone(&connections),
            pool,
            proxy,
            metrics,
        ));

        phases.reached(Phase::Draining).await;
        // Acceptors end once they have accepted what the kernel had queued.
        tasks.join_all().await;
        drain(&connections, &mut phases).await
    }
}

/// Waits until all connections have closed, or closes them when the program stops.
async fn drain(connections: &Connections, phases: &mut PhaseWatch) -> usize {
    let all_gone = async {
        loop {
            // First, so that requests sent before the drain arrive before their connections are
            // drained. Repeated, because other workers may transfer connections, and some were
            // about to send a request.
            sleep(DRAIN_INTERVAL).await;
            if connections.is_empty() {
                return;
            }
            connections.drain_all();
        }
    };
    tokio::select! {
        () = all_gone => 0,
        () = phases.reached(Phase::Stopping) => {
            let aborted = connections.busy();
            connections.abort_all();
            aborted
        }
    }
}

/// Closes connections of callers and upstreams at their deadlines, updates the gauges, and returns
/// free memory.
async fn housekeeping(
    worker: usize,
    connections: Rc<Connections>,
    pool: Rc<Pool>,
    proxy: Rc<Proxy>,
    metrics: WorkerMetrics,
) {
    let mut evict_idle = interval(EVICTION_INTERVAL);
    evict_idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweep = Instant::now();
    let mut seen_phase_changes = 0;
    loop {
        // Each time, so that a reload reaches a worker without requests.
        let snapshot = proxy.snapshot();
        let limits = &snapshot.live.limits;
        tokio::select! {
            () = sleep_until(sweep) => {
                connections.sweep(limits);
                sweep = Instant::now() + sweep_interval(limits);
            }
            _ = evict_idle.tick() => {
                proxy.record_heartbeat(worker, &pool);
                pool.evict_idle(|origin| snapshot.has_origin(origin));
                let (active, idle) = pool.counts();
                metrics.upstream_active.set(active);
                metrics.upstream_idle.set(idle);
                let phase_changes = connections.phase_changes();
                if phase_changes - seen_phase_changes < BUSY_PHASE_CHANGES {
                    memory::return_free();
                }
                seen_phase_changes = phase_changes;
            }
        }
    }
}
