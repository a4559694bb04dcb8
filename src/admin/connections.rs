//! The connections of the admin listener.
//!
//! Probes are always served: at the limit a connection that presented a wrong secret is closed, else
//! the one that has waited longest for its client. As for callers ([`crate::inbound::connection`]), a request stores its connection's
//! phase, and one sweep closes overdue connections.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;

use super::Admin;
use super::secret::WrongSecret;
use crate::system::log_limit::LogLimit;

/// Maximum number of connections. Probes and scrapers need a handful.
const MAX_CONNECTIONS: usize = 64;
/// Bytes of a request that are buffered, as for callers.
const MAX_HEAD: usize = 64 * 1024;
/// Timeout between requests on a connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout for writing a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two sweeps.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// The event a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The rest of a request's head; for the first request, all of it.
    Head,
    /// The first byte of a further request.
    Idle,
    /// The end of a request's handler, which has a timeout of its own.
    Responding,
    /// The end of the delay after a wrong secret.
    Delayed,
    /// The client, which must read the response.
    Writing,
}

/// The phase of a connection, and when it began.
struct Progress(Mutex<(Phase, Instant)>);

impl Progress {
    fn new() -> Self {
        Self(Mutex::new((Phase::Head, Instant::now())))
    }

    fn get(&self) -> (Phase, Instant) {
        // A panic leaves nothing half updated.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (phase, Instant::now());
    }

    fn is_overdue(&self, head_timeout: Duration, now: Instant) -> bool {
        let (phase, since) = self.get();
        let timeout = match phase {
            Phase::Head => head_timeout,
            Phase::Idle => IDLE_TIMEOUT,
            Phase::Responding | Phase::Delayed => return false,
            Phase::Writing => WRITE_TIMEOUT,
        };
        now.saturating_duration_since(since) >= timeout
    }

    /// Orders connections for eviction: the smallest is evicted first.
    fn eviction_order(&self) -> (u8, Instant) {
        let (phase, since) = self.get();
        let rank = match phase {
            Phase::Delayed => 0,
            Phase::Head | Phase::Idle | Phase::Writing => 1,
            Phase::Responding => 2,
        };
        (rank, since)
    }
}

/// The open connections, which close when this is dropped.
#[derive(Default)]
pub(super) struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<Id, OpenConnection>,
    evictions: LogLimit<()>,
}

struct OpenConnection {
    peer: SocketAddr,
    progress: Arc<Progress>,
    task: AbortHandle,
}

impl Connections {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Serves a connection. At the limit another one is closed.
    pub(super) fn serve(&mut self, socket: TcpStream, peer: SocketAddr, admin: Arc<Admin>) {
        self.remove_ended();
        if self.open.len() >= MAX_CONNECTIONS
            && let Some(evicted) = self.evict()
            && let Some(suppressed) = self.evictions.permit(())
        {
            tracing::warn!(
                limit = MAX_CONNECTIONS,
                peer = %evicted,
                suppressed,
                "admin connections at their limit; longest idle connection closed"
            );
        }
        let progress = Arc::new(Progress::new());
        let task = self
            .tasks
            .spawn(serve(socket, peer, admin, Arc::clone(&progress)));
        let open = OpenConnection {
            peer,
            progress,
            task,
        };
        self.open.insert(open.task.id(), open);
    }

    /// Closes a connection that presented a wrong secret, else the one that has waited longest for its
    /// client, and returns its peer.
    pub(super) fn evict(&mut self) -> Option<SocketAddr> {
        let first = self
            .open
            .iter()
            .min_by_key(|(_, open)| open.progress.eviction_order());
        let id = *first?.0;
        let evicted = self.open.remove(&id)?;
        evicted.task.abort();
        Some(evicted.peer)
    }

    /// Closes overdue connections. `head_timeout` is `limits.header_read_timeout`.
    pub(super) fn sweep(&mut self, head_timeout: Duration) {
        self.remove_ended();
        let now = Instant::now();
        for open in self.open.values() {
            if open.progress.is_overdue(head_timeout, now) {
                open.task.abort();
            }
        }
    }

    fn remove_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
            self.open.remove(&id);
        }
    }
}

async fn serve(socket: TcpStream, peer: SocketAddr, admin: Arc<Admin>, progress: Arc<Progress>) {
    let service = service_fn(|request: Request<Incoming>| {
        let (admin, progress) = (Arc::clone(&admin), Arc::clone(&progress));
        progress.enter(Phase::Responding);
        async move {
            let response = admin.respond(request, peer).await;
            if response.extensions().get::<WrongSecret>().is_some() {
                progress.enter(Phase::Delayed);
                let throttle = &admin.shared.login_endpoints.throttle;
                throttle.delay(Some(peer.ip())).await;
            }
            progress.enter(Phase::Writing);
            Ok::<_, Infallible>(response)
        }
    });
    let socket = WatchedSocket {
        socket,
        progress: Arc::clone(&progress),
    };
    let served = Builder::new()
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "admin connection failed");
    }
}

/// A socket that records the arrival of a request and the flush of a response.
struct WatchedSocket {
    socket: TcpStream,
    progress: Arc<Progress>,
}

impl AsyncRead for WatchedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before && self.progress.get().0 == Phase::Idle {
            self.progress.enter(Phase::Head);
        }
        polled
    }
}

impl AsyncWrite for WatchedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_flush(cx);
        // hyper flushes after it has written all of a response.
        if polled.is_ready() && self.progress.get().0 == Phase::Writing {
            self.progress.enter(Phase::Idle);
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_deadline() {
        for (phase, seconds) in [
            (Phase::Head, Some(10)),
            (Phase::Idle, Some(60)),
            (Phase::Writing, Some(5)),
            (Phase::Responding, None),
            (Phase::Delayed, None),
        ] {
            let progress = Progress::new();
            progress.enter(phase);
            let began = Instant::now();
            let overdue =
                |seconds| progress.is_overdue(HEAD_TIMEOUT, began + Duration::from_secs(seconds));
            match seconds {
                Some(seconds) => {
                    assert!(!overdue(seconds - 1) && overdue(seconds), "{phase:?}");
                }
                None => assert!(!overdue(1000), "{phase:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connection_with_a_wrong_secret_is_evicted_before_the_one_idle_longest() {
        let phases = [
            Phase::Responding,
            Phase::Idle,
            Phase::Head,
            Phase::Writing,
            Phase::Delayed,
        ];
        let mut connections = Vec::new();
        for phase in phases {
            let progress = Progress::new();
            progress.enter(phase);
            connections.push((phase, progress));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        connections.sort_by_key(|(_, progress)| progress.eviction_order());
        let order: Vec<Phase> = connections.iter().map(|(phase, _)| *phase).collect();
        assert_eq!(
            order,
            [
                Phase::Delayed,
                Phase::Idle,
                Phase::Head,
                Phase::Writing,
                Phase::Responding
            ]
        );
    }
}
