//! Opens an accepted connection: PROXY header, connections per address, TLS handshake, HTTP
//! version.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Once};

use super::Acceptor;
use super::intercept::FirstBytes;
use super::opened::{OpenConnection, Opened, ProxyClient, ProxyConnection};
use crate::config::Limits;
use crate::error::Failure;
use crate::inbound::connection::Connection;
use crate::inbound::connection_count::{ConnectionCount, CountedOwner};
use crate::inbound::listener::ListenerMode;
use crate::inbound::proxy_header::{self, ProxyHeaderError};
use crate::inbound::stream::Socket;
use crate::limit::owner::Owner;

/// Counts a connection that ends without a valid PROXY header.
struct HeaderGuard<'a>(Option<&'a Acceptor>);

impl Drop for HeaderGuard<'_> {
    fn drop(&mut self) {
        if let Some(acceptor) = self.0 {
            acceptor.proxy.shared.metrics.proxy_protocol_errors.inc();
        }
    }
}

impl Acceptor {
    /// Returns `None` if the connection fails or is rejected, which is logged and counted.
    pub(super) async fn open(
        &self,
        mut socket: Socket,
        peer: Option<SocketAddr>,
        mode: ListenerMode,
        connection: &Rc<Connection>,
    ) -> Option<Opened> {
        let peer = self.resolve_peer(&mut socket, peer).await.ok()?;
        let limits = self.proxy.shared.published.load().live.limits;
        let counted = match self.count_owner(peer, connection, &limits).await {
            Ok(counted) => counted,
            Err(failure) => {
                self.reject(socket, &mode, failure);
                return None;
            }
        };
        let opened = match mode {
            ListenerMode::Plain => self.open_without_tls(socket, peer, connection).await,
            ListenerMode::Tls(tls) => self.open_tls(socket, &tls, peer, connection).await,
            ListenerMode::Intercept(tls) => {
                let first = self.open_intercept(socket, &tls, peer, connection).await;
                match first {
                    Ok(FirstBytes::Tls(stream, protocol, intercepted)) => {
                        let open = OpenConnection::new(stream, protocol, peer, counted, connection);
                        return Some(Opened::Ready(OpenConnection {
                            intercepted: Some(intercepted),
                            ..open
                        }));
                    }
                    Ok(FirstBytes::Http(stream)) => {
                        let client = ProxyClient { peer, counted, tls };
                        return Some(Opened::Proxy(ProxyConnection { stream, client }));
                    }
                    Err(error) => Err(error),
                }
            }
        };
        match opened {
            Ok((stream, protocol)) => Some(Opened::Ready(OpenConnection::new(
                stream, protocol, peer, counted, connection,
            ))),
            Err(error) => {
                tracing::debug!(%error, "connection failed before the first request");
                None
            }
        }
    }

    /// Returns the client: the peer, or the address in the PROXY header of a peer in
    /// `listen.proxy_protocol`.
    ///
    /// # Errors
    /// A missing or invalid header, which is logged and counted.
    async fn resolve_peer(
        &self,
        socket: &mut Socket,
        peer: Option<SocketAddr>,
    ) -> Result<Option<SocketAddr>, ProxyHeaderError> {
        let Some(balancer) = peer.filter(|peer| self.must_send_header(peer)) else {
            return Ok(peer);
        };
        let mut guard = HeaderGuard(Some(self));
        let error = match Box::pin(proxy_header::read(socket)).await {
            Ok(client) => {
                guard.0 = None;
                return Ok(client.or(peer));
            }
            Err(error) => error,
        };
        match &error {
            // A health check that only connects is no error.
            ProxyHeaderError::Nothing => guard.0 = None,
            ProxyHeaderError::Version1 => {
                static ONCE: Once = Once::new();
                ONCE.call_once(
                    || tracing::warn!(%balancer, %error, "PROXY version 1 header; connections of the balancer closed"),
                );
            }
            _ => {}
        }
        tracing::debug!(%balancer, %error, "connection closed; no valid PROXY header");
        Err(error)
    }

    fn must_send_header(&self, peer: &SocketAddr) -> bool {
        let published = self.proxy.shared.published.load();
        published.live.proxy_protocol.contains(peer.ip())
    }

    /// Counts the connection for its client host. Beyond the host's share of the limit, an idle
    /// connection of the host is evicted.
    async fn count_owner(
        &self,
        peer: Option<SocketAddr>,
        connection: &Connection,
        limits: &Limits,
    ) -> Result<CountedOwner, Failure> {
        let shared = &self.proxy.shared;
        let owner = shared.connections.owner(peer.map(|peer| peer.ip()));
        connection.set_owner(Arc::clone(&owner));
        let counted = enter(&owner, peer, limits)?;
        let limit = shared.descriptors.max_connections(limits);
        let Err(exceeded) = shared.connections.check_share(&counted, limit) else {
            return Ok(counted);
        };
        // Only those that are served count.
        drop(counted);
        let too_many = || {
            let detail = exceeded.detail(limit, "connections are open", "limits.max_connections");
            Failure::overloaded(detail)
        };
        let arriving = shared.connections.enter_arriving().ok_or_else(too_many)?;
        connection.begin_arrival();
        let has_evicted = Box::pin(self.connections.evict(Some(&owner))).await;
        connection.end_arrival();
        arriving.end(has_evicted);
        let counted = enter(&owner, peer, limits)?;
        if has_evicted || shared.connections.check_share(&counted, limit).is_ok() {
            Ok(counted)
        } else {
            Err(too_many())
        }
    }
}

/// Counts the connection for its client host, within `limits.max_connections_per_address`.
fn enter(
    owner: &Arc<Owner>,
    peer: Option<SocketAddr>,
    limits: &Limits,
) -> Result<CountedOwner, Failure> {
    let counted = ConnectionCount::enter_for(Arc::clone(owner));
    let limit = limits.max_connections_per_address;
    match peer {
        Some(peer) if limit > 0 && counted.number() > limit => Err(too_many_from(peer, limit)),
        _ => Ok(counted),
    }
}

fn too_many_from(peer: SocketAddr, limit: usize) -> Failure {
    let address = peer.ip();
    Failure::overloaded(format!(
        "{limit} connections from {address} are open (limits.max_connections_per_address)"
    ))
}
