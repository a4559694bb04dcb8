//! A worker: one thread, one single-threaded runtime, its own connections on both sides.

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
use crate::inbound::listener::ListenerHandle;
use crate::inbound::tls::InboundTls;
use crate::observe::metrics::WorkerMetrics;
use crate::proxy::Proxy;
use crate::proxy::accept::{Acceptor, TransferredConnection};
use crate::state::Shared;
use crate::state::lifecycle::{Phase, PhaseWatch};
use crate::upstream::pool::Pool;

/// How often the pool of upstream connections is looked through.
const TEND_INTERVAL: Duration = Duration::from_secs(1);
/// How often a drain looks whether the last connection is gone.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);
/// How long a worker's end may wait for threads that resolve names.
const SHUTDOWN: Duration = Duration::from_millis(100);

/// What a worker is given.
pub struct Worker {
    /// Its number.
    pub index: usize,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Its handles of the listening sockets, and whether callers speak TLS there.
    pub listeners: Vec<(ListenerHandle, Option<InboundTls>)>,
    /// When to stop.
    pub phases: PhaseWatch,
    /// Connections that others hand over.
    pub inbox: mpsc::Receiver<TransferredConnection>,
    /// Where to hand connections to.
    pub workers: Arc<[mpsc::Sender<TransferredConnection>]>,
}

/// A worker's thread, seen from outside.
pub struct WorkerThread {
    /// Resolves when the worker is done, with the number of connections it had to cut; fails when it panicked.
    pub done: oneshot::Receiver<usize>,
}

impl Worker {
    /// Starts the worker's thread.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub async fn start(self) -> io::Result<WorkerThread> {
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
                        let cut = runtime.block_on(self.run());
                        shared.heartbeats.done(index);
                        // Ends what is left, so that its records are written, but waits for no slow resolver.
                        runtime.shutdown_timeout(SHUTDOWN);
                        // Nobody listens any more when the program was told to leave at once.
                        let _ = finished.send(cut);
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            })?;
        starting
            .await
            .unwrap_or_else(|_| Err(io::Error::other("a worker ended as it began")))?;
        Ok(WorkerThread { done })
    }

    /// Serves until the program stops; returns how many connections had to be cut.
    async fn run(self) -> usize {
        let Self {
            index,
            shared,
            listeners,
            mut phases,
            mut inbox,
            workers,
        } = self;
        let connections = Rc::new(Connections::default());
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
        for (handle, tls) in listeners {
            let (acceptor, mut phases) = (Rc::clone(&acceptor), phases.clone());
            match handle.listen() {
                Ok(listener) => {
                    tasks.spawn_local(async move {
                        acceptor
                            .accept(listener, tls, phases.reached(Phase::Draining))
                            .await;
                    });
                }
                Err(error) => tracing::error!(%error, "a worker cannot watch its listening socket"),
            }
        }
        tokio::task::spawn_local(async move {
            while let Some(handed) = inbox.recv().await {
                acceptor.receive(handed);
            }
        });
        tokio::task::spawn_local(housekeeping(
            index,
            Rc::clone(&connections),
            pool,
            proxy,
            metrics,
        ));

        phases.reached(Phase::Draining).await;
        // Whoever the kernel let in is let in; then nobody is left at the door.
        tasks.join_all().await;
        drain(&connections, &mut phases).await
    }
}

/// Lets connections finish; cuts those that are left when the program stops.
async fn drain(connections: &Connections, phases: &mut PhaseWatch) -> usize {
    let all_gone = async {
        loop {
            // First, so that requests that were sent before the drain arrive before their connections are told
            // to finish; again each time, as some may still come in from another worker, or were about to ask.
            sleep(DRAIN_INTERVAL).await;
            if connections.is_empty() {
                return;
            }
            connections.finish_all();
        }
    };
    tokio::select! {
        () = all_gone => 0,
        () = phases.reached(Phase::Stopping) => {
            let cut = connections.busy();
            connections.abort_all();
            cut
        }
    }
}

/// Ends connections that waited too long, on both sides, and tells the gauges what is there.
async fn housekeeping(
    worker: usize,
    connections: Rc<Connections>,
    pool: Rc<Pool>,
    proxy: Rc<Proxy>,
    metrics: WorkerMetrics,
) {
    let mut evict_idle = interval(TEND_INTERVAL);
    evict_idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweep = Instant::now();
    loop {
        // Taken each time, so that a worker without requests follows a reload, too.
        let snapshot = proxy.snapshot();
        let limits = &snapshot.live.limits;
        tokio::select! {
            () = sleep_until(sweep) => {
                connections.sweep(limits);
                sweep = Instant::now() + sweep_interval(limits);
            }
            _ = evict_idle.tick() => {
                proxy.beat(worker);
                pool.evict_idle(|origin| snapshot.has_origin(origin));
                let (active, idle) = pool.counts();
                metrics.upstream_active.set(active);
                metrics.upstream_idle.set(idle);
            }
        }
    }
}
