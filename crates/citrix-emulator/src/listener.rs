//! Listeners with their accept loops and connections.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::call::ListenerOrigin;
use super::state::State;
use super::{EmulatorError, serve, tunnel};

/// Delay after an accept error, most likely exhausted file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// First byte of a TLS connection (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// A listening socket without an accept loop.
pub(super) struct Bound {
    socket: TcpListener,
    pub(super) address: SocketAddr,
}

/// A listener with an accept loop. Dropping it ends the loop.
pub(super) struct Listener {
    /// Ends the accept loop when dropped; nothing is ever sent.
    stop: oneshot::Sender<Infallible>,
    accepting: JoinHandle<()>,
}

pub(super) async fn bind(address: SocketAddr) -> Result<Bound, EmulatorError> {
    let cannot_listen = |source| EmulatorError::Listen { address, source };
    let socket = TcpListener::bind(address).await.map_err(cannot_listen)?;
    let address = socket.local_addr().map_err(cannot_listen)?;
    Ok(Bound { socket, address })
}

/// Returns the base URL for clients: with TLS by name, since certificates for addresses are rare.
pub(super) fn base_url(address: SocketAddr, tls: bool) -> String {
    let port = address.port();
    if tls {
        return format!("https://localhost:{port}");
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, port))
}

impl Bound {
    pub(super) fn serve(
        self,
        tls: Option<TlsAcceptor>,
        state: Arc<State>,
        origin: ListenerOrigin,
    ) -> Listener {
        let (stop, stopped) = oneshot::channel();
        let accepting = tokio::spawn(accept(self.socket, tls, state, origin, stopped));
        Listener { stop, accepting }
    }
}

impl Listener {
    /// Closes the socket and all connections, and waits until that is done.
    pub(super) async fn stop(self) {
        drop(self.stop);
        // The panic hook has reported a panic of the task.
        self.accepting.await.ok();
    }
}

/// Serves until the sender of `stopped` is dropped.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    state: Arc<State>,
    origin: ListenerOrigin,
    mut stopped: oneshot::Receiver<Infallible>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    state.counters.connection();
                    connections.spawn(connection(stream, tls.clone(), Arc::clone(&state), origin.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_RETRY_DELAY).await,
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    state: Arc<State>,
    origin: ListenerOrigin,
) {
    // Otherwise the small last segment of a response waits for an acknowledgement.
    stream.set_nodelay(true).ok();
    let Some(acceptor) = tls else {
        return serve_http(stream, state, origin).await;
    };
    if starts_with_tls(&stream).await {
        serve_tls(stream, &acceptor, state, origin).await;
    } else if let Some(tunnel) = tunnel::accept(stream, &state).await {
        serve_tls(TokioIo::new(tunnel), &acceptor, state, origin).await;
    }
}

async fn serve_tls(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    acceptor: &TlsAcceptor,
    state: Arc<State>,
    origin: ListenerOrigin,
) {
    // The client sees a failed handshake.
    if let Ok(stream) = acceptor.accept(io).await {
        serve_http(stream, state, origin).await;
    }
}

async fn starts_with_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    stream.peek(&mut first).await.is_ok() && first == [TLS_HANDSHAKE]
}

async fn serve_http(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    state: Arc<State>,
    origin: ListenerOrigin,
) {
    let service = service_fn(move |request| {
        let (state, origin) = (Arc::clone(&state), origin.clone());
        async move { Ok::<_, Infallible>(serve::serve(&state, &origin, request).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // The client sees a broken connection.
    builder
        .serve_connection(TokioIo::new(io), service)
        .await
        .ok();
}
