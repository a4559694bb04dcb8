//! Step 1: connections come in, within their bounds, and are spread over the workers.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::Proxy;
use crate::config::Limits;
use crate::error::{Failure, Reason};
use crate::inbound::connection::{Connection, Connections, Order};
use crate::inbound::connection_count::CountedAddress;
use crate::inbound::listener::Listener;
use crate::inbound::proxy_header::{self, ProxyHeaderError};
use crate::inbound::stream::{Socket, Spoken, Stream, Transport, WatchedSocket};
use crate::inbound::tls::{CallerCertificate, InboundTls};
use crate::inbound::{http1, http2};
use crate::tls::ALPN_H2;

/// A pause when no file descriptor is left: accepting again at once would only burn the processor.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection on its way to another worker's runtime.
pub struct HandedOver {
    socket: HandedSocket,
    peer: Option<SocketAddr>,
    tls: Option<InboundTls>,
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
        tls: Option<InboundTls>,
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
        tls: Option<&InboundTls>,
    ) {
        match accepted {
            Ok((socket, peer)) => {
                if self.proxy.shared.shortage.worked() {
                    tracing::info!("connections are accepted again");
                }
                self.place(socket, peer, tls.cloned());
            }
            // The caller left before we came to him.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                self.proxy.shared.metrics.accept_errors.inc();
                if self.proxy.shared.shortage.failed() {
                    tracing::error!(%error, "cannot accept connections; is the limit of open files too low?");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Serves the connection here or hands it to a worker that has fewer.
    fn place(self: &Rc<Self>, socket: Socket, peer: Option<SocketAddr>, tls: Option<InboundTls>) {
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
            Err(error) => {
                tracing::warn!(%error, "a connection was lost on its way to another worker")
            }
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
            Err(error) => {
                tracing::warn!(%error, "a connection was lost on its way from another worker")
            }
        }
    }

    fn spawn(self: &Rc<Self>, socket: Socket, peer: Option<SocketAddr>, tls: Option<InboundTls>) {
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
                self.count_refusal();
                if tls.is_none() {
                    refuse(socket, too_many(limit));
                }
            }
        }
    }

    fn count_refusal(&self) {
        self.proxy.shared.metrics.connections_refused.inc();
        self.proxy.metrics.error(Reason::Overloaded);
    }

    async fn serve(
        self: Rc<Self>,
        socket: Socket,
        peer: Option<SocketAddr>,
        tls: Option<InboundTls>,
        connection: &Rc<Connection>,
    ) {
        // Each stage boxed: an idle connection shall not keep room for a handshake or another version of HTTP.
        let opening = Box::pin(self.open(socket, peer, tls, connection));
        let opened = or_ordered_away(connection, opening).await;
        let Some(Opened {
            stream,
            spoken,
            peer,
            counted: _counted,
        }) = opened
        else {
            return;
        };
        let connection = Rc::clone(connection);
        let limits = self.proxy.shared.published.load().live.limits;
        let handle = {
            let (proxy, connection) = (Rc::clone(&self.proxy), Rc::clone(&connection));
            move |request| Rc::clone(&proxy).serve(request, Rc::clone(&connection), peer)
        };
        match spoken {
            Spoken::Http1 => {
                if Box::pin(http1::serve(
                    stream,
                    connection,
                    &self.proxy.shared.connections,
                    &limits,
                    handle,
                ))
                .await
                    == http1::Ended::HeadStalled
                {
                    self.proxy.metrics.error(Reason::RequestTimeout);
                }
            }
            Spoken::Http2 => {
                if Box::pin(http2::serve(stream, connection, &limits, handle)).await
                    == http2::Ended::Flooded
                {
                    self.proxy.metrics.error(Reason::Overloaded);
                }
            }
        }
    }

    /// Finds out who the caller is, shakes hands, and learns which version of HTTP he speaks. `None` when it came to
    /// nothing; whoever should know was told.
    async fn open(
        &self,
        mut socket: Socket,
        peer: Option<SocketAddr>,
        tls: Option<InboundTls>,
        connection: &Rc<Connection>,
    ) -> Option<Opened> {
        let peer = self.told_peer(&mut socket, peer).await?;
        let limits = self.proxy.shared.published.load().live.limits;
        let counted = match self.count_address(peer, &limits) {
            Ok(counted) => counted,
            Err(failure) => {
                self.count_refusal();
                if tls.is_none() {
                    refuse(socket, failure);
                }
                return None;
            }
        };
        let opened = match tls {
            None => open_plain(socket, connection).await,
            Some(tls) => self.open_tls(socket, &tls, connection).await,
        };
        match opened {
            Ok((stream, spoken)) => {
                if spoken == Spoken::Http2 {
                    connection.speaks_http2();
                }
                Some(Opened {
                    stream,
                    spoken,
                    peer,
                    counted,
                })
            }
            Err(error) => {
                tracing::debug!(%error, "a caller's connection could not be opened");
                None
            }
        }
    }

    /// Whom a load balancer connects, if the peer is one; else the peer itself.
    async fn told_peer(
        &self,
        socket: &mut Socket,
        peer: Option<SocketAddr>,
    ) -> Option<Option<SocketAddr>> {
        let is_balancer = |peer: &SocketAddr| {
            self.proxy
                .shared
                .published
                .load()
                .live
                .proxy_protocol
                .contains(peer.ip())
        };
        let Some(balancer) = peer.filter(is_balancer) else {
            return Some(peer);
        };
        let mut unheard = Unheard(Some(self));
        let error = match Box::pin(proxy_header::read(socket)).await {
            Ok(told) => {
                unheard.0 = None;
                return Some(told.or(peer));
            }
            Err(error) => error,
        };
        match &error {
            // Nothing is wrong with a check whether the port is open.
            ProxyHeaderError::Nothing => unheard.0 = None,
            ProxyHeaderError::Version1 => {
                static ONCE: Once = Once::new();
                ONCE.call_once(
                    || tracing::warn!(%balancer, %error, "connections of a balancer are closed"),
                );
            }
            _ => {}
        }
        tracing::debug!(%balancer, %error, "a balancer's connection could not be opened");
        None
    }

    /// A place among the connections of the same address, if they are limited.
    fn count_address(
        &self,
        peer: Option<SocketAddr>,
        limits: &Limits,
    ) -> Result<Option<CountedAddress>, Failure> {
        let limit = limits.max_connections_per_address;
        let Some(peer) = peer.filter(|_| limit > 0) else {
            return Ok(None);
        };
        let counted = self.proxy.shared.connections.enter_from(peer.ip(), limit);
        counted.map(Some).ok_or_else(|| too_many_of(peer, limit))
    }

    async fn open_tls(
        &self,
        socket: Socket,
        tls: &InboundTls,
        connection: &Rc<Connection>,
    ) -> io::Result<(Stream, Spoken)> {
        let session = tls
            .acceptor()
            .accept(WatchedSocket::new(socket, Rc::clone(connection)))
            .await?;
        let (_, state) = session.get_ref();
        let http2 = state.alpn_protocol() == Some(ALPN_H2);
        if let Some([leaf, ..]) = state.peer_certificates() {
            let now = self.proxy.shared.clock.now();
            let certificate = CallerCertificate::read(leaf, now).map_err(io::Error::other)?;
            // As it is to be written into the configuration.
            tracing::debug!(
                subject = certificate.subject,
                dns_names = ?certificate.dns_names,
                "a caller showed a certificate"
            );
            connection.showed(certificate);
        }
        let stream = Stream::new(Transport::Tls(Box::new(session)), Rc::clone(connection));
        connection.speaks_tls();
        connection.opened();
        Ok((stream, if http2 { Spoken::Http2 } else { Spoken::Http1 }))
    }
}

/// A connection on which requests may come.
struct Opened {
    stream: Stream,
    spoken: Spoken,
    /// Who is on it, as far as can be believed.
    peer: Option<SocketAddr>,
    counted: Option<CountedAddress>,
}

/// Counts a connection that ends, for whatever reason, before its PROXY header came.
struct Unheard<'a>(Option<&'a Acceptor>);

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if let Some(acceptor) = self.0 {
            acceptor.proxy.shared.metrics.proxy_protocol_errors.inc();
        }
    }
}

async fn open_plain(socket: Socket, connection: &Rc<Connection>) -> io::Result<(Stream, Spoken)> {
    connection.opened();
    let socket = WatchedSocket::new(socket, Rc::clone(connection));
    let mut stream = Stream::new(Transport::Plain(socket), Rc::clone(connection));
    let spoken = stream.sniff().await?;
    Ok((stream, spoken))
}

/// The output of `opening`, unless the connection is told to go while it waits.
async fn or_ordered_away<T>(
    connection: &Connection,
    opening: impl Future<Output = Option<T>>,
) -> Option<T> {
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

fn too_many(limit: usize) -> Failure {
    let detail = format!("{limit} connections are open already (limits.max_connections)");
    Failure::new(Reason::Overloaded, detail).retry_after(Duration::from_secs(1))
}

fn too_many_of(peer: SocketAddr, limit: usize) -> Failure {
    let address = peer.ip();
    let detail = format!(
        "{address} has {limit} connections open already (limits.max_connections_per_address)"
    );
    Failure::new(Reason::Overloaded, detail).retry_after(Duration::from_secs(1))
}

/// Says why and closes: cheap, and clearer than a connection that is reset.
fn refuse(mut socket: Socket, failure: Failure) {
    tokio::task::spawn_local(async move {
        // One write to a fresh socket fits its buffer; the caller may be gone, and nobody else would be told.
        let _ = tokio::time::timeout(PAUSE, http1::write_failure(&mut socket, failure)).await;
    });
}
