//! Connections to the addresses of `[intercept]`: CONNECT, and TLS in place of Citrix's hosts.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::Request;
use rustls::ServerConfig;
use tokio::io::AsyncReadExt as _;

use super::Acceptor;
use super::handshake::{HANDSHAKE, HandshakeGuard, open_plain};
use super::opened::{OpenConnection, ProxyClient, ProxyConnection, unless_directed_to_close};
use super::relay::relay;
use crate::config::Limits;
use crate::inbound::connection::Connection;
use crate::inbound::http1::{self, Served};
use crate::inbound::intercepted::{CallerSource, Intercepted};
use crate::inbound::stream::{CallerProtocol, Socket, Stream, Transport, WatchedSocket};
use crate::inbound::tls::{HandshakeFailure, InterceptTls, ServedHost, ServedHosts, TlsStream};
use crate::intercept::Tunnel;
use crate::tls::ALPN_H2;
use citrix_wire::connect_target;

/// The protocol that a client begins with.
pub(super) enum FirstBytes {
    /// TLS, by the name that the client sends.
    Tls(Stream, CallerProtocol, Arc<Intercepted>),
    /// HTTP/1.
    Http(Stream),
}

impl Acceptor {
    /// Completes the TLS handshake of a client that begins with one.
    pub(super) async fn open_intercept(
        &self,
        socket: Socket,
        tls: &InterceptTls,
        peer: Option<SocketAddr>,
        connection: &Rc<Connection>,
    ) -> io::Result<FirstBytes> {
        let mut socket = WatchedSocket::new(socket, Rc::clone(connection));
        let first = socket.read_u8().await?;
        if first == HANDSHAKE {
            let hosts = Arc::clone(self.proxy.snapshot().known_hosts().names());
            let session = tls.for_connection(ServedHosts::Any(hosts));
            let (stream, protocol, host) = self
                .intercept(socket, &[first], session, peer, connection)
                .await?;
            let intercepted = Intercepted {
                host,
                default_port: connect_target::PORT,
                caller: CallerSource::Request,
            };
            return Ok(FirstBytes::Tls(stream, protocol, Arc::new(intercepted)));
        }
        let (stream, protocol) = open_plain(socket, &[first], connection).await?;
        match protocol {
            CallerProtocol::Http1 => Ok(FirstBytes::Http(stream)),
            CallerProtocol::Http2 => Err(io::Error::other("HTTP/2 without TLS at a proxy")),
        }
    }

    /// Completes a TLS handshake in place of one of the hosts of the session. Returns the host.
    async fn intercept(
        &self,
        socket: WatchedSocket,
        first: &[u8],
        (config, served): (Arc<ServerConfig>, Arc<ServedHost>),
        peer: Option<SocketAddr>,
        connection: &Rc<Connection>,
    ) -> io::Result<(Stream, CallerProtocol, Box<str>)> {
        let shared = &self.proxy.shared;
        let mut guard = HandshakeGuard {
            failures: &shared.handshake_failures,
            intercepted: Some(&shared.intercepted.handshake_failed),
            connection,
            peer,
            in_progress: true,
        };
        connection.handshake_began();
        let opened = TlsStream::accept(socket, first, config).await;
        guard.in_progress = false;
        let stream =
            opened.inspect_err(|error| guard.fail(HandshakeFailure::of(error), Some(error)))?;
        // A session without a certificate has no host.
        let host = served.name().ok_or(io::ErrorKind::InvalidData)?.into();
        let protocol = match stream.session().alpn_protocol() {
            Some(ALPN_H2) => CallerProtocol::Http2,
            _ => CallerProtocol::Http1,
        };
        shared.intercepted.intercepted.inc();
        let stream = Stream::new(Transport::Tls(Box::new(stream)), Rc::clone(connection));
        connection.set_tls();
        connection.opened();
        Ok((stream, protocol, host))
    }

    /// Serves requests for a proxy. Returns the connection again if it leads to a known host.
    pub(super) async fn serve_as_proxy(
        &self,
        proxied: ProxyConnection,
        connection: &Rc<Connection>,
    ) -> Option<OpenConnection> {
        let ProxyConnection { stream, client } = proxied;
        let limits = self.proxy.shared.published.load().live.limits;
        let accepting = self.accept_tunnel(stream, client.peer, &limits, connection);
        let (stream, tunnel) = Box::pin(accepting).await?;
        let (socket, early) = stream.into_plain()?;
        match tunnel {
            Tunnel::Blind(upstream, _counted) => {
                connection.begin_transfer();
                let idle = limits.keep_alive_timeout;
                Box::pin(relay(socket, early, upstream, connection, idle)).await;
                None
            }
            Tunnel::Intercepted(_) if !early.is_empty() => {
                tracing::debug!("connection closed; data before the response to CONNECT");
                self.proxy.shared.intercepted.handshake_failed.inc();
                None
            }
            Tunnel::Intercepted(intercepted) => {
                self.enter_tunnel(socket, intercepted, client, connection)
                    .await
            }
        }
    }

    /// Serves requests until a CONNECT request is accepted. Returns `None` if the connection ends
    /// before.
    async fn accept_tunnel(
        &self,
        stream: Stream,
        peer: Option<SocketAddr>,
        limits: &Limits,
        connection: &Rc<Connection>,
    ) -> Option<(Stream, Tunnel)> {
        let accepted = Rc::new(RefCell::new(None));
        let handle = |request: Request<_>| {
            let (proxy, connection) = (Rc::clone(&self.proxy), Rc::clone(connection));
            let accepted = Rc::clone(&accepted);
            async move {
                let served =
                    proxy.serve_as_proxy(request.into_parts(), Rc::clone(&connection), peer);
                let (response, tunnel) = Box::pin(served).await;
                if let Some(tunnel) = tunnel {
                    connection.set_tunnel();
                    *accepted.borrow_mut() = Some(tunnel);
                }
                response
            }
        };
        let count = &self.proxy.shared.connections;
        match http1::serve(stream, Rc::clone(connection), count, limits, handle).await {
            Served::Ended(end) => {
                self.count_end(end);
                None
            }
            Served::Tunnel(stream) => Some((stream, accepted.take()?)),
        }
    }

    /// Completes the TLS handshake in a tunnel.
    async fn enter_tunnel(
        &self,
        socket: WatchedSocket,
        intercepted: Arc<Intercepted>,
        client: ProxyClient,
        connection: &Rc<Connection>,
    ) -> Option<OpenConnection> {
        let ProxyClient { peer, counted, tls } = client;
        connection.begin_handshake();
        let session = tls.for_connection(ServedHosts::One(intercepted.host.clone()));
        let opening = async {
            let opened = self.intercept(socket, &[], session, peer, connection).await;
            opened
                .inspect_err(|error| tracing::debug!(%error, "TLS in a tunnel failed"))
                .ok()
        };
        let (stream, protocol, _) = unless_directed_to_close(connection, Box::pin(opening)).await?;
        let open = OpenConnection::new(stream, protocol, peer, counted, connection);
        Some(OpenConnection {
            intercepted: Some(intercepted),
            ..open
        })
    }
}
