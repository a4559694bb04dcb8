//! Step 1: connections come in, within their bound, and are spread over the workers.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::Proxy;
use crate::error::{Failure, Reason};
use crate::inbound::connection::{Connection, Connections, Order};
use crate::inbound::listener::Listener;
use crate::inbound::stream::{Socket, Spoken, Stream, Transport};
use crate::inbound::{http1, http2};
use crate::tls::ALPN_H2;

/// A pause when no file descriptor is left: accepting again at once would only burn the processor.
const PAUSE: Duration = Duration::from_millis(100);
/// How many more connections than the least busy worker one may have before it hands new ones over.
const IMBALANCE: usize = 2;

/// Connections of callers: all of them against the limit, and each worker's for balance.
#[derive(Debug)]
pub struct ConnectionCount {
    total: AtomicUsize,
    by_worker: Box<[AtomicUsize]>,
}

impl ConnectionCount {
    /// None yet, for `workers` workers.
    pub fn new(workers: usize) -> Arc<Self> {
        let by_worker = std::iter::repeat_with(AtomicUsize::default).take(workers).collect();
        Arc::new(Self { total: AtomicUsize::new(0), by_worker })
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Self>, worker: usize, limit: usize) -> Option<Counted> {
        let counted = Counted { count: Arc::clone(self), worker };
        self.by_worker[worker].fetch_add(1, Ordering::Relaxed);
        (self.total.fetch_add(1, Ordering::Relaxed) < limit).then_some(counted)
    }

    /// The worker a new connection should go to: `me`, unless another has clearly fewer.
    fn least_busy(&self, me: usize) -> usize {
        let load = |worker: &AtomicUsize| worker.load(Ordering::Relaxed);
        let least = (0..self.by_worker.len()).min_by_key(|&index| load(&self.by_worker[index])).unwrap_or(me);
        if load(&self.by_worker[me]) > load(&self.by_worker[least]) + IMBALANCE { least } else { me }
    }
}

/// One connection that counts.
struct Counted {
    count: Arc<ConnectionCount>,
    worker: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.total.fetch_sub(1, Ordering::Relaxed);
        self.count.by_worker[self.worker].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on its way to another worker's runtime.
pub struct HandedOver {
    socket: HandedSocket,
    peer: Option<SocketAddr>,
    tls: Option<TlsAcceptor>,
}

enum HandedSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// What accepting needs of its worker.
pub struct Acceptor {
    /// The path behind the door.
    pub proxy: Rc<Proxy>,
    /// This worker's connections.
    pub connections: Rc<Connections>,
    /// Its number.
    pub worker: usize,
    /// How to reach every worker, this one included, by number.
    pub colleagues: Arc<[mpsc::Sender<HandedOver>]>,
}

impl Acceptor {
    /// Accepts until `stop`, and then what the kernel has accepted already: those callers believe to be in.
    pub async fn accept(
        self: Rc<Self>,
        listener: Listener,
        tls: Option<TlsAcceptor>,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = std::pin::pin!(stop.fuse());
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            self.take(accepted, tls.as_ref()).await;
        }
        loop {
            match listener.accept_queued() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                accepted => self.take(accepted, tls.as_ref()).await,
            }
        }
    }

    async fn take(
        self: &Rc<Self>,
        accepted: io::Result<(Socket, Option<SocketAddr>)>,
        tls: Option<&TlsAcceptor>,
    ) {
        match accepted {
            Ok((socket, peer)) => self.place(socket, peer, tls.cloned()),
            // The caller left before we came to him.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                self.proxy.shared.metrics.accept_errors.inc();
                tracing::error!(%error, "cannot accept connections; is the limit of open files too low?");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Serves the connection here or hands it to a worker that has fewer.
    fn place(self: &Rc<Self>, socket: Socket, peer: Option<SocketAddr>, tls: Option<TlsAcceptor>) {
        let least_busy = self.proxy.shared.connections.least_busy(self.worker);
        if least_busy == self.worker {
            return self.spawn(socket, peer, tls);
        }
        let handed = match socket {
            Socket::Tcp(socket) => socket.into_std().map(HandedSocket::Tcp),
            Socket::Unix(socket) => socket.into_std().map(HandedSocket::Unix),
        };
        match handed {
            Ok(socket) => {
                let handed_over = HandedOver { socket, peer, tls };
                // A worker whose queue is full is not the least busy one after all.
                if let Err(returned) = self.colleagues[least_busy].try_send(handed_over) {
                    self.receive(returned.into_inner());
                }
            }
            Err(error) => tracing::warn!(%error, "a connection was lost on its way to another worker"),
        }
    }

    /// Takes a connection that another worker accepted.
    pub fn receive(self: &Rc<Self>, handed: HandedOver) {
        let socket = match handed.socket {
            HandedSocket::Tcp(socket) => TcpStream::from_std(socket).map(Socket::Tcp),
            HandedSocket::Unix(socket) => UnixStream::from_std(socket).map(Socket::Unix),
        };
        match socket {
            Ok(socket) => self.spawn(socket, handed.peer, handed.tls),
            Err(error) => tracing::warn!(%error, "a connection was lost on its way from another worker"),
        }
    }

    fn spawn(self: &Rc<Self>, socket: Socket, peer: Option<SocketAddr>, tls: Option<TlsAcceptor>) {
        let shared = &self.proxy.shared;
        let limit = shared.published.load().live.limits.max_connections;
        match shared.connections.enter(self.worker, limit) {
            Some(counted) => {
                let this = Rc::clone(self);
                // On the list before its task first runs, so that a drain that begins now waits for it.
                let entered = self.connections.enter();
                tokio::task::spawn_local(async move {
                    this.serve(socket, peer, tls, entered.connection()).await;
                    drop((entered, counted));
                });
            }
            None => {
                shared.metrics.connections_refused.inc();
                self.proxy.metrics.error(Reason::Overloaded);
                if tls.is_none() {
                    refuse(socket, limit);
                }
            }
        }
    }

    async fn serve(
        self: Rc<Self>,
        socket: Socket,
        peer: Option<SocketAddr>,
        tls: Option<TlsAcceptor>,
        connection: &Rc<Connection>,
    ) {
        // Each stage boxed: an idle connection shall not keep room for a handshake or another version of HTTP.
        let opening = Box::pin(open(socket, tls, connection));
        let opened = or_ordered_away(connection, opening).await;
        let Some((stream, spoken)) = opened else { return };
        let connection = Rc::clone(connection);
        let limits = self.proxy.shared.published.load().live.limits;
        let handle = {
            let (proxy, connection) = (Rc::clone(&self.proxy), Rc::clone(&connection));
            move |request| Rc::clone(&proxy).serve(request, Rc::clone(&connection), peer)
        };
        match spoken {
            Spoken::Http1 => {
                if Box::pin(http1::serve(stream, connection, &limits, handle)).await
                    == http1::Ended::HeadStalled
                {
                    self.proxy.metrics.error(Reason::RequestTimeout);
                }
            }
            Spoken::Http2 => {
                if Box::pin(http2::serve(stream, connection, &limits, handle)).await == http2::Ended::Flooded
                {
                    self.proxy.metrics.error(Reason::Overloaded);
                }
            }
        }
    }
}

/// Shakes hands, and finds out which version of HTTP the caller speaks.
async fn open(
    socket: Socket,
    tls: Option<TlsAcceptor>,
    connection: &Rc<Connection>,
) -> Option<(Stream, Spoken)> {
    let opened = match tls {
        None => {
            connection.opened();
            let mut stream = Stream::new(Transport::Plain(socket), Rc::clone(connection));
            stream.sniff().await.map(|spoken| (stream, spoken))
        }
        Some(tls) => tls.accept(socket).await.map(|session| {
            let http2 = session.get_ref().1.alpn_protocol() == Some(ALPN_H2);
            let stream = Stream::new(Transport::Tls(Box::new(session)), Rc::clone(connection));
            connection.speaks_tls();
            connection.opened();
            (stream, if http2 { Spoken::Http2 } else { Spoken::Http1 })
        }),
    };
    match opened {
        Ok((stream, spoken)) => {
            if spoken == Spoken::Http2 {
                connection.speaks_http2();
            }
            Some((stream, spoken))
        }
        Err(error) => {
            tracing::debug!(%error, "a caller's connection could not be opened");
            None
        }
    }
}

/// The output of `opening`, unless the connection is told to go while it waits.
async fn or_ordered_away<T>(connection: &Connection, opening: impl Future<Output = Option<T>>) -> Option<T> {
    let mut opening = std::pin::pin!(opening);
    poll_fn(|cx| match opening.as_mut().poll(cx) {
        Poll::Ready(opened) => Poll::Ready(opened),
        // A handshake under way is let finish: who shakes hands has a request. It has a deadline of its own.
        Poll::Pending => match connection.poll_order(cx) {
            Some(Order::Finish) if connection.is_opening() => Poll::Pending,
            Some(_) => Poll::Ready(None),
            None => Poll::Pending,
        },
    })
    .await
}

/// Says why and closes: cheap, and clearer than a connection that is reset.
fn refuse(mut socket: Socket, limit: usize) {
    tokio::task::spawn_local(async move {
        let detail = format!("{limit} connections are open already (limits.max_connections)");
        let failure = Failure::new(Reason::Overloaded, detail).retry_after(Duration::from_secs(1));
        // One write to a fresh socket fits its buffer; the caller may be gone, and nobody else would be told.
        let _ = tokio::time::timeout(PAUSE, http1::write_failure(&mut socket, failure)).await;
    });
}
