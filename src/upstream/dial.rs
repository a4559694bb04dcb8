//! A new connection towards Citrix: name, TCP, the egress proxy's tunnel, TLS, within one deadline.
//!
//! Requests of callers, token requests and site agents all dial here, so that one decision is made for all.

pub mod egress;
pub mod race;
pub mod tunnel;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::BufReader;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::ConnectProxy;
use crate::tls::ALPN_H2;

pub use egress::DialConfig;

/// Read ahead of rustls, which itself asks for 4 KiB at a time: a quarter of the system calls on large answers.
const TLS_READ_BUFFER: usize = 64 * 1024;
/// Long calls cross NATs that forget quiet connections.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection's bytes.
pub enum UpstreamIo {
    /// In clear, to a loopback address.
    Plain(TcpStream),
    /// Boxed: a TLS session is far larger than a socket.
    Tls(Box<TlsStream<BufReader<TcpStream>>>),
}

mod io_impl {
    //! Kept apart so that the macro's imports do not spread.
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::UpstreamIo;

    crate::inbound::stream::delegate!(UpstreamIo: Plain, Tls);
}

/// Who is to be connected to.
#[derive(Clone, Copy, Debug)]
pub struct DialTarget<'a> {
    /// A name or an address, an IPv6 one without brackets.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The name its certificate must be for; `None` speaks in clear.
    pub server_name: Option<&'a ServerName<'static>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve.
    #[error("the name cannot be resolved")]
    Dns(#[source] io::Error),
    /// Nobody answers at the address.
    #[error("no TCP connection")]
    Tcp(#[source] io::Error),
    /// The egress proxy is not there, or does not connect us.
    #[error(transparent)]
    Proxy(EgressProxyError),
    /// The handshake failed: certificate, protocol version, or a closed connection.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The upstream does not speak HTTP on it.
    #[error("the HTTP handshake failed")]
    Http(#[source] hyper::Error),
    /// `upstream.connect_timeout` passed.
    #[error("no connection within upstream.connect_timeout ({})", humantime::format_duration(*.0))]
    Timeout(Duration),
}

/// What is wrong with which egress proxy.
#[derive(Debug)]
pub struct EgressProxyError {
    /// `host:port`.
    pub proxy: String,
    /// What is wrong with it.
    pub fault: EgressProxyFault,
}

impl fmt::Display for EgressProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the egress proxy {} {}", self.proxy, self.fault)
    }
}

impl Error for EgressProxyError {
    /// What the fault comes from; the fault itself is in the text already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

/// What is wrong with an egress proxy.
#[derive(Debug, thiserror::Error)]
pub enum EgressProxyFault {
    /// Its name does not resolve.
    #[error("cannot be reached: its name cannot be resolved")]
    Dns(#[source] io::Error),
    /// Nobody answers at its address.
    #[error("cannot be reached: no TCP connection")]
    Tcp(#[source] io::Error),
    /// It answered something else than 2xx.
    #[error("answered {} to CONNECT", .0.as_u16())]
    Refused(StatusCode),
    /// It broke off, or what it answered is not HTTP, or too much of it.
    #[error("did not answer CONNECT as a proxy does")]
    Broken(#[source] hyper::Error),
    /// Bytes behind its answer, where those of the TLS server begin.
    #[error("sent something behind its answer to CONNECT")]
    Talkative,
    /// It did not open a tunnel in time.
    #[error("opened no connection within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
}

impl ConnectError {
    /// What an operator should look at first.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Dns(_) => "check the host in the configuration, and the resolver",
            Self::Tcp(_) => "check routing, firewalls and the port",
            Self::Proxy(error) => error.fault.advice(),
            Self::Tls(_) => "if a corporate proxy inspects TLS, name its root in upstream.ca_file",
            Self::Http(_) => "check that the address is that of an HTTP server",
            Self::Timeout(_) => {
                "check firewalls that drop packets, or raise upstream.connect_timeout"
            }
        }
    }
}

impl EgressProxyFault {
    /// What an operator should look at first.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Dns(_) => "check its host in upstream.proxy_url or HTTPS_PROXY, and the resolver",
            Self::Tcp(_) => {
                "check that it runs, its port in upstream.proxy_url or HTTPS_PROXY, and firewalls"
            }
            Self::Refused(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => {
                "put the right user and password into upstream.proxy_url; of ways to log in it is shown Basic"
            }
            Self::Refused(StatusCode::FORBIDDEN) => "have it allow CONNECT to this host and port",
            Self::Refused(status) if status.is_server_error() => {
                "it cannot reach the host itself: look into its log"
            }
            Self::Refused(_) | Self::Broken(_) | Self::Talkative => {
                "check that upstream.proxy_url or HTTPS_PROXY is that of an HTTP proxy"
            }
            Self::Timeout(_) => {
                "check its load and firewalls that drop packets, or raise upstream.connect_timeout"
            }
        }
    }
}

/// Opens a connection `way`; true when ALPN chose HTTP/2.
///
/// # Errors
/// When any of the steps fails, or all together take longer than `limit`.
pub async fn dial(
    peer: DialTarget<'_>,
    dial_config: &DialConfig,
    limit: Duration,
) -> Result<(UpstreamIo, bool), ConnectError> {
    let deadline = Instant::now() + limit;
    let proxy = dial_config.egress().proxy_for(peer.host);
    let socket = match timeout_at(deadline, reach(peer, proxy.as_ref())).await {
        Ok(reached) => reached?,
        Err(_) => return Err(too_late(proxy.as_ref(), limit)),
    };
    let Some(server_name) = peer.server_name else {
        return Ok((UpstreamIo::Plain(socket), false));
    };
    let stream = timeout_at(
        deadline,
        shake_hands(socket, server_name, dial_config.tls()),
    )
    .await
    .map_err(|_| ConnectError::Timeout(limit))?
    .map_err(ConnectError::Tls)?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_H2);
    Ok((UpstreamIo::Tls(Box::new(stream)), http2))
}

fn too_late(proxy: Option<&ConnectProxy>, limit: Duration) -> ConnectError {
    match proxy {
        Some(proxy) => of_proxy(proxy, EgressProxyFault::Timeout(limit)),
        None => ConnectError::Timeout(limit),
    }
}

fn of_proxy(proxy: &ConnectProxy, fault: EgressProxyFault) -> ConnectError {
    ConnectError::Proxy(EgressProxyError {
        proxy: proxy.to_string(),
        fault,
    })
}

/// A TCP connection to the peer, or one of the proxy's that leads there.
async fn reach(
    peer: DialTarget<'_>,
    proxy: Option<&ConnectProxy>,
) -> Result<TcpStream, ConnectError> {
    let Some(proxy) = proxy else {
        let addresses = resolve(peer.host, peer.port)
            .await
            .map_err(ConnectError::Dns)?;
        return connect(&addresses).await.map_err(ConnectError::Tcp);
    };
    let through = async {
        let addresses = resolve(proxy.host(), proxy.port())
            .await
            .map_err(EgressProxyFault::Dns)?;
        let socket = connect(&addresses).await.map_err(EgressProxyFault::Tcp)?;
        tunnel::open(socket, proxy, peer).await
    };
    through.await.map_err(|fault| of_proxy(proxy, fault))
}

/// The addresses of a name, in the system's order of preference, asked for anew each time.
///
/// # Errors
/// When there are none.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = lookup_host((host, port))
        .await?
        .take(race::MAX_ADDRESSES)
        .collect();
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    Ok(addresses)
}

/// A TCP connection to the quickest of these.
///
/// # Errors
/// The last error, when none answers.
pub async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let socket = race::first(addresses, TcpStream::connect).await?;
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 4);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}

/// TLS on a connection.
///
/// # Errors
/// When there is none to be agreed on, or the certificate is none to be trusted.
pub async fn shake_hands(
    socket: TcpStream,
    server_name: &ServerName<'static>,
    tls: &Arc<ClientConfig>,
) -> io::Result<TlsStream<BufReader<TcpStream>>> {
    let buffered = BufReader::with_capacity(TLS_READ_BUFFER, socket);
    TlsConnector::from(Arc::clone(tls))
        .connect(server_name.clone(), buffered)
        .await
}
