//! Connections that are open, by what they carry.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use crate::inbound::connection::{Connection, Directive};
use crate::inbound::connection_count::CountedOwner;
use crate::inbound::intercepted::Intercepted;
use crate::inbound::stream::{CallerProtocol, Stream};
use crate::inbound::tls::InterceptTls;

/// A connection that is ready for requests.
pub(super) struct OpenConnection {
    pub(super) stream: Stream,
    pub(super) protocol: CallerProtocol,
    /// The client: of the connection, or in the PROXY header.
    pub(super) peer: Option<SocketAddr>,
    pub(super) counted: CountedOwner,
    /// The host of Citrix that the client has connected to.
    pub(super) intercepted: Option<Arc<Intercepted>>,
}

/// An accepted connection after its first bytes.
pub(super) enum Opened {
    /// Requests for the gateway, or for the host that it is connected to.
    Ready(OpenConnection),
    /// Requests for a proxy.
    Proxy(ProxyConnection),
}

/// A connection that carries requests for a proxy.
pub(super) struct ProxyConnection {
    pub(super) stream: Stream,
    pub(super) client: ProxyClient,
}

/// The client of a proxy.
pub(super) struct ProxyClient {
    pub(super) peer: Option<SocketAddr>,
    pub(super) counted: CountedOwner,
    pub(super) tls: InterceptTls,
}

impl OpenConnection {
    /// Records the protocol. The connection is not intercepted.
    pub(super) fn new(
        stream: Stream,
        protocol: CallerProtocol,
        peer: Option<SocketAddr>,
        counted: CountedOwner,
        connection: &Connection,
    ) -> Self {
        if protocol == CallerProtocol::Http2 {
            connection.set_http2();
        }
        Self {
            stream,
            protocol,
            peer,
            counted,
            intercepted: None,
        }
    }
}

/// Returns the output of `opening`, or `None` once the connection is directed to close.
pub(super) async fn unless_directed_to_close<T>(
    connection: &Connection,
    opening: impl Future<Output = Option<T>>,
) -> Option<T> {
    let mut opening = std::pin::pin!(opening);
    poll_fn(|cx| match opening.as_mut().poll(cx) {
        Poll::Ready(opened) => Poll::Ready(opened),
        // A drain lets a handshake finish, because a request follows it. The handshake has its own
        // deadline.
        Poll::Pending => match connection.poll_directive(cx) {
            Some(Directive::Drain) if connection.is_opening() || connection.is_arriving() => {
                Poll::Pending
            }
            Some(_) => Poll::Ready(None),
            None => Poll::Pending,
        },
    })
    .await
}
