//! Step 1: accepts connections within their limits and distributes them over the workers.

mod handshake;
mod intercept;
mod open;
mod opened;
mod relay;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::Request;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use self::opened::{OpenConnection, Opened, unless_directed_to_close};
use super::Proxy;
use crate::error::{Failure, Reason};
use crate::inbound::connection::{Connection, ConnectionEnd, Connections};
use crate::inbound::connection_count::{Arriving, Counted};
use crate::inbound::http1::Served;
use crate::inbound::listener::{CallerListener, ListenerMode};
use crate::inbound::stream::{CallerProtocol, Socket};
use crate::inbound::{http1, http2};

/// Pause after a failed `accept`: without file descriptors the next call would fail at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Yields after which a connection is accepted although too many wait for an eviction: those of
/// another worker may take long, and each of theirs takes two.
const MAX_YIELDS: usize = 100;
/// Timeout for writing the response to a rejected connection.
const REJECTION_TIMEOUT: Duration = Duration::from_millis(100);

/// An accepted connection, on its way to the runtime of another worker.
pub struct TransferredConnection {
    socket: DetachedSocket,
    peer: Option<SocketAddr>,
    mode: ListenerMode,
}

/// A socket that is not registered with a runtime.
enum DetachedSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// Accepts connections for one worker.
pub struct Acceptor {
    /// The data path of the worker.
    pub proxy: Rc<Proxy>,
    pub connections: Rc<Connections>,
    /// Index of the worker.
    pub worker: usize,
    /// Channels to all workers, by index.
    pub workers: Arc<[mpsc::Sender<TransferredConnection>]>,
}

impl Acceptor {
    /// Accepts until `stop`, then what is left in the kernel's queue: for their callers those
    /// connections are established.
    pub async fn accept(
        self: Rc<Self>,
        listener: CallerListener,
        mode: ListenerMode,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = std::pin::pin!(stop.fuse());
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            self.wait_for_arriving().await;
            self.handle_accepted(accepted, &mode).await;
        }
        loop {
            match listener.accept_queued() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                accepted => self.handle_accepted(accepted, &mode).await,
            }
        }
    }

    async fn handle_accepted(
        self: &Rc<Self>,
        accepted: io::Result<(Socket, Option<SocketAddr>)>,
        mode: &ListenerMode,
    ) {
        let shared = &self.proxy.shared;
        match accepted {
            Ok((socket, peer)) => {
                if shared.shortage.succeeded() {
                    tracing::info!("accepting connections again");
                }
                self.assign(socket, peer, mode.clone());
            }
            // The client disconnected first.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                shared.metrics.accept_errors.inc();
                if shared.shortage.failed() {
                    tracing::error!(%error, "failed to accept connections; check the limit of open files");
                }
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }

    /// Serves the connection here, or transfers it to the least busy worker.
    fn assign(self: &Rc<Self>, socket: Socket, peer: Option<SocketAddr>, mode: ListenerMode) {
        let least_busy = self.proxy.shared.connections.least_busy(self.worker);
        if least_busy == self.worker {
            return self.spawn(socket, peer, mode);
        }
        let detached = match socket {
            Socket::Tcp(socket) => socket.into_std().map(DetachedSocket::Tcp),
            Socket::Unix(socket) => socket.into_std().map(DetachedSocket::Unix),
        };
        match detached {
            Ok(socket) => {
                let transferred = TransferredConnection { socket, peer, mode };
                // If that worker's channel is full, it is not the least busy one any more.
                if let Err(returned) = self.workers[least_busy].try_send(transferred) {
                    self.serve_transferred(returned.into_inner());
                }
            }
            Err(error) => {
                tracing::warn!(%error, "connection lost; transfer to another worker failed")
            }
        }
    }

    /// Serves a connection that another worker accepted.
    pub async fn receive(self: &Rc<Self>, transferred: TransferredConnection) {
        self.wait_for_arriving().await;
        self.serve_transferred(transferred);
    }

    /// Lets connections that arrived before find one to evict, if too many do so at a time.
    async fn wait_for_arriving(&self) {
        for _ in 0..MAX_YIELDS {
            if !self.proxy.shared.connections.must_wait_to_accept() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn serve_transferred(self: &Rc<Self>, transferred: TransferredConnection) {
        let socket = match transferred.socket {
            DetachedSocket::Tcp(socket) => TcpStream::from_std(socket).map(Socket::Tcp),
            DetachedSocket::Unix(socket) => UnixStream::from_std(socket).map(Socket::Unix),
        };
        match socket {
            Ok(socket) => self.spawn(socket, transferred.peer, transferred.mode),
            Err(error) => {
                tracing::warn!(%error, "connection lost; transfer from another worker failed")
            }
        }
    }

    fn spawn(self: &Rc<Self>, socket: Socket, peer: Option<SocketAddr>, mode: ListenerMode) {
        let connections = &self.proxy.shared.connections;
        let counted = connections.enter(self.worker);
        let counted = if counted.exceeds(self.max_connections()) {
            // Only those that are served count.
            drop(counted);
            match connections.enter_arriving() {
                Some(arriving) => Err(arriving),
                None => return self.reject(socket, &mode, self.too_many()),
            }
        } else {
            Ok(counted)
        };
        let this = Rc::clone(self);
        // Registered before its task first runs, so that a drain waits for it.
        let entered = self.connections.register();
        if counted.is_err() {
            entered.connection().begin_arrival();
        }
        tokio::task::spawn_local(async move {
            let counted = match counted {
                Ok(counted) => counted,
                Err(arriving) => match Box::pin(this.evict_for_new(arriving)).await {
                    Some(counted) => counted,
                    None => return this.reject(socket, &mode, this.too_many()),
                },
            };
            entered.connection().end_arrival();
            this.serve(socket, peer, mode, entered.connection()).await;
            drop((entered, counted));
        });
    }

    fn max_connections(&self) -> usize {
        let shared = &self.proxy.shared;
        let limits = shared.published.load().live.limits;
        shared.descriptors.max_connections(&limits)
    }

    /// Counts a new connection once an idle one is closed, or others have ended.
    async fn evict_for_new(&self, arriving: Arriving) -> Option<Counted> {
        let has_evicted = self.connections.evict(None).await;
        arriving.end(has_evicted);
        let counted = self.proxy.shared.connections.enter(self.worker);
        (has_evicted || !counted.exceeds(self.max_connections())).then_some(counted)
    }

    /// Counts the connection and closes it; without TLS, after a response.
    fn reject(&self, mut socket: Socket, mode: &ListenerMode, failure: Failure) {
        self.proxy.shared.metrics.connections_refused.inc();
        self.proxy.metrics.count_error(Reason::Overloaded);
        if matches!(mode, ListenerMode::Tls(_)) {
            return;
        }
        tokio::task::spawn_local(async move {
            // One write fits the buffer of a fresh socket. An error means that the client has
            // disconnected.
            let write = http1::write_failure(&mut socket, failure);
            let _ = tokio::time::timeout(REJECTION_TIMEOUT, write).await;
        });
    }

    async fn serve(
        self: Rc<Self>,
        socket: Socket,
        peer: Option<SocketAddr>,
        mode: ListenerMode,
        connection: &Rc<Connection>,
    ) {
        // Each stage is boxed, so that an idle connection reserves no memory for a handshake or the
        // other version.
        let opening = Box::pin(self.open(socket, peer, mode, connection));
        let Some(open) = unless_directed_to_close(connection, opening).await else {
            return;
        };
        let open = match open {
            Opened::Ready(open) => open,
            Opened::Proxy(proxied) => {
                match Box::pin(self.serve_as_proxy(proxied, connection)).await {
                    Some(open) => open,
                    None => return,
                }
            }
        };
        let OpenConnection {
            stream,
            protocol,
            peer,
            intercepted,
            counted: _counted,
        } = open;
        let connection = Rc::clone(connection);
        let limits = self.proxy.shared.published.load().live.limits;
        let handle = {
            let (proxy, connection) = (Rc::clone(&self.proxy), Rc::clone(&connection));
            move |mut request: Request<_>| {
                if let Some(intercepted) = &intercepted {
                    request.extensions_mut().insert(Arc::clone(intercepted));
                }
                Rc::clone(&proxy).serve(request.into_parts(), Rc::clone(&connection), peer)
            }
        };
        let end = match protocol {
            CallerProtocol::Http1 => {
                let count = &self.proxy.shared.connections;
                match Box::pin(http1::serve(stream, connection, count, &limits, handle)).await {
                    Served::Ended(end) => end,
                    // No CONNECT request was accepted.
                    Served::Tunnel(_) => ConnectionEnd::Closed,
                }
            }
            CallerProtocol::Http2 => {
                Box::pin(http2::serve(stream, connection, &limits, handle)).await
            }
        };
        self.count_end(end);
    }

    fn count_end(&self, end: ConnectionEnd) {
        let metrics = &self.proxy.metrics;
        match end {
            ConnectionEnd::Closed => {}
            ConnectionEnd::HeadTimedOut => metrics.count_error(Reason::RequestTimeout),
            ConnectionEnd::HeadRejected | ConnectionEnd::Flooded => {
                metrics.count_error(Reason::Overloaded);
            }
        }
    }

    fn too_many(&self) -> Failure {
        let limit = self.max_connections();
        let limits = self.proxy.shared.published.load().live.limits;
        let setting = if limit < limits.max_connections {
            "the limit of open files"
        } else {
            "limits.max_connections"
        };
        Failure::overloaded(format!("{limit} connections are open ({setting})"))
    }
}
