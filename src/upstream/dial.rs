//! New connections to upstreams: DNS, TCP, the egress proxy's tunnel and TLS within one deadline.
//!
//! Requests of callers, token requests and site agents all dial here.

pub mod egress;
pub mod race;
pub mod tls;
pub mod tunnel;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use citrix_wire::connect_target::is_public;
use http::StatusCode;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::ConnectProxy;
use crate::tls::ALPN_H2;
use crate::tls::fault::TlsFault;
use crate::upstream::BoxError;

pub use egress::DialConfig;
use tls::UpstreamTls;

/// TCP keep-alive time, since NATs forget connections that are silent during long calls.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The byte stream of a connection.
pub enum UpstreamIo {
    /// Without TLS, to a loopback address.
    Plain(TcpStream),
    /// Boxed, because a TLS session is far larger than a socket.
    Tls(Box<UpstreamTls>),
}

mod io_impl {
    //! Limits the imports of the macro.
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::UpstreamIo;

    crate::inbound::stream::delegate!(UpstreamIo: Plain, Tls);
}

/// The target of a connection.
#[derive(Clone, Copy, Debug)]
pub struct DialTarget<'a> {
    /// A name or an address; an IPv6 address without brackets.
    pub host: &'a str,
    pub port: u16,
    /// The name in the certificate; `None` without TLS.
    pub server_name: Option<&'a ServerName<'static>>,
}

/// A failure to connect.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve.
    #[error("DNS lookup failed")]
    Dns(#[source] io::Error),
    /// Only private, local or reserved addresses, to which no tunnel leads.
    #[error("the name has no public address")]
    NotPublic,
    /// A listener of this gateway.
    #[error("the address is that of this gateway")]
    Own,
    /// Refused or unreachable.
    #[error("TCP connection failed")]
    Tcp(#[source] io::Error),
    /// The egress proxy is unreachable or rejects the tunnel.
    #[error(transparent)]
    Proxy(EgressProxyError),
    /// The handshake failed: certificate, protocol version, or a closed connection.
    #[error("TLS handshake failed: {}", TlsFault::of(.0).reason())]
    Tls(#[source] io::Error),
    /// The HTTP/2 handshake failed.
    #[error("HTTP handshake failed")]
    Http(#[source] BoxError),
    /// `upstream.connect_timeout` passed.
    #[error("timed out after {} (upstream.connect_timeout)", humantime::format_duration(*.0))]
    Timeout(Duration),
}

/// A failure of an egress proxy.
#[derive(Debug)]
pub struct EgressProxyError {
    /// `host:port`.
    pub proxy: String,
    pub fault: EgressProxyFault,
}

impl fmt::Display for EgressProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "egress proxy {}: {}", self.proxy, self.fault)
    }
}

impl Error for EgressProxyError {
    /// Returns the source of the fault, whose own text is part of `Display`.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

/// The kind of failure of an egress proxy.
#[derive(Debug, thiserror::Error)]
pub enum EgressProxyFault {
    /// Its name does not resolve.
    #[error("DNS lookup failed")]
    Dns(#[source] io::Error),
    /// Refused or unreachable.
    #[error("TCP connection failed")]
    Tcp(#[source] io::Error),
    /// Its response is not 2xx.
    #[error("CONNECT rejected with {}", .0.as_u16())]
    Refused(StatusCode),
    /// It closed the connection, or its response is not HTTP or too large.
    #[error("invalid response to CONNECT")]
    Broken(#[source] hyper::Error),
    /// Bytes after its response, where only those of the TLS server may follow.
    #[error("unexpected data after the response to CONNECT")]
    UnexpectedData,
    /// No tunnel in time.
    #[error("no tunnel within {} (upstream.connect_timeout)", humantime::format_duration(*.0))]
    Timeout(Duration),
}

impl ConnectError {
    /// Returns the first thing that an operator should check.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Dns(_) => "check the configured host and the resolver",
            Self::NotPublic => "check the name; tunnels lead to public addresses only",
            Self::Own => {
                "check the configured host; upstream.resolve replaces what the resolver returns"
            }
            Self::Tcp(_) => "check routing, firewalls and the port",
            Self::Proxy(error) => error.fault.advice(),
            Self::Tls(error) => TlsFault::of(error).advice(),
            Self::Http(_) => "check that the address is an HTTP server",
            Self::Timeout(_) => {
                "check firewalls that drop packets, or raise upstream.connect_timeout"
            }
        }
    }
}

impl EgressProxyFault {
    /// Returns the first thing that an operator should check.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Dns(_) => "check the host in upstream.proxy_url or HTTPS_PROXY, and the resolver",
            Self::Tcp(_) => {
                "check the proxy, its port in upstream.proxy_url or HTTPS_PROXY, and firewalls"
            }
            Self::Refused(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => {
                "set user and password in upstream.proxy_url; only Basic authentication is supported"
            }
            Self::Refused(StatusCode::FORBIDDEN) => {
                "permit CONNECT to this host and port on the proxy"
            }
            Self::Refused(status) if status.is_server_error() => {
                "the proxy cannot reach the host; see its log"
            }
            Self::Refused(_) | Self::Broken(_) | Self::UnexpectedData => {
                "check that upstream.proxy_url or HTTPS_PROXY is an HTTP proxy"
            }
            Self::Timeout(_) => {
                "check the load of the proxy and firewalls that drop packets, or raise upstream.connect_timeout"
            }
        }
    }
}

/// Opens a connection. Returns `true` if ALPN chose HTTP/2.
///
/// # Errors
/// When a step fails, or all steps take longer than `limit`.
pub async fn dial(
    target: DialTarget<'_>,
    dial_config: &DialConfig,
    limit: Duration,
) -> Result<(UpstreamIo, bool), ConnectError> {
    let deadline = Instant::now() + limit;
    let proxy = dial_config.egress().proxy_for(target.host);
    let opening = open_tcp(target, proxy.as_ref(), dial_config, |_| true);
    let socket = match timeout_at(deadline, opening).await {
        Ok(socket) => socket?,
        Err(_) => return Err(timed_out(proxy.as_ref(), limit)),
    };
    let Some(server_name) = target.server_name else {
        return Ok((UpstreamIo::Plain(socket), false));
    };
    let secure = tls::secure(socket, target, server_name, dial_config, deadline);
    let stream = timeout_at(deadline, secure)
        .await
        .map_err(|_| ConnectError::Timeout(limit))?
        .map_err(ConnectError::Tls)?;
    let http2 = stream.session().alpn_protocol() == Some(ALPN_H2);
    Ok((UpstreamIo::Tls(Box::new(stream)), http2))
}

/// Opens a TCP connection, or a tunnel of the egress proxy, to a host that is not Citrix's. Only
/// public addresses of the host are connected to; with a proxy it is the proxy that resolves it.
///
/// # Errors
/// When a step fails, or all steps take longer than `limit`.
pub async fn open_public(
    host: &str,
    port: u16,
    dial_config: &DialConfig,
    limit: Duration,
) -> Result<TcpStream, ConnectError> {
    let target = DialTarget {
        host,
        port,
        server_name: None,
    };
    let proxy = dial_config.egress().proxy_for(host);
    let opening = open_tcp(target, proxy.as_ref(), dial_config, is_public);
    let opened = timeout(limit, opening).await;
    opened.map_err(|_| timed_out(proxy.as_ref(), limit))?
}

fn timed_out(proxy: Option<&ConnectProxy>, limit: Duration) -> ConnectError {
    match proxy {
        Some(proxy) => proxy_error(proxy, EgressProxyFault::Timeout(limit)),
        None => ConnectError::Timeout(limit),
    }
}

fn proxy_error(proxy: &ConnectProxy, fault: EgressProxyFault) -> ConnectError {
    ConnectError::Proxy(EgressProxyError {
        proxy: proxy.to_string(),
        fault,
    })
}

/// Opens a TCP connection to the permitted addresses of the target, or a tunnel of the egress proxy.
async fn open_tcp(
    target: DialTarget<'_>,
    proxy: Option<&ConnectProxy>,
    dial_config: &DialConfig,
    is_permitted: fn(IpAddr) -> bool,
) -> Result<TcpStream, ConnectError> {
    let Some(proxy) = proxy else {
        let mut addresses = dial_config
            .resolve(target.host, target.port)
            .await
            .map_err(ConnectError::Dns)?;
        addresses.retain(|address| is_permitted(address.ip()));
        if addresses.is_empty() {
            return Err(ConnectError::NotPublic);
        }
        let socket = connect(&addresses).await.map_err(ConnectError::Tcp)?;
        return match dial_config.is_own(&socket) {
            true => Err(ConnectError::Own),
            false => Ok(socket),
        };
    };
    let through = async {
        let addresses = resolve(proxy.host(), proxy.port())
            .await
            .map_err(EgressProxyFault::Dns)?;
        let socket = connect(&addresses).await.map_err(EgressProxyFault::Tcp)?;
        tunnel::open(socket, proxy, target).await
    };
    through.await.map_err(|fault| proxy_error(proxy, fault))
}

/// Resolves a name, in the system's order of preference. Nothing is cached.
///
/// # Errors
/// When there is no address.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = lookup_host((host, port))
        .await?
        .take(race::MAX_ADDRESSES)
        .collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no address"));
    }
    Ok(addresses)
}

/// Connects to the first of these addresses that accepts.
///
/// # Errors
/// The last error, if none accepts.
pub async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let socket = race::first(addresses, TcpStream::connect).await?;
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 4);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}
