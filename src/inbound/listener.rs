//! Listening sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use socket2::SockFilter;
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::stream::Socket;
use super::tls::{InboundTls, InterceptTls};
use crate::config::BindAddress;

/// Connections that the kernel queues, up to its own maximum.
const BACKLOG: i32 = 4096;

/// Drops TCP segments with SYN set in the flags, byte 14 of the header (RFC 9293 section 3.1). The
/// codes are those of linux/filter.h.
#[cfg(target_os = "linux")]
const NO_SYN: [SockFilter; 4] = {
    const LOAD_BYTE: u16 = 0x30;
    const IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(IF_SET, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
};

/// An address that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{hint}", hint = hint(source))]
pub struct BindError {
    address: BindAddress,
    source: io::Error,
}

/// Returns a hint about the usual cause of `error`.
pub fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (is another instance running? `ss -ltnp` shows its process; otherwise choose another port)"
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has this address)",
        _ => "",
    }
}

/// A bound socket, of which each worker gets a handle. It is bound once, without `SO_REUSEPORT`: a
/// second instance could bind the same port unnoticed, and a handle that is closed early would lose
/// its backlog.
pub enum BoundSocket {
    Tcp(std::net::TcpListener),
    /// TCP, passed by the service manager, which keeps the socket open.
    Passed(std::net::TcpListener),
    Unix {
        listener: unix::UnixListener,
        path: PathBuf,
        /// Removes the file; `None` if the service manager created it.
        file: Option<SocketFile>,
    },
}

/// Removes the file of a unix socket when dropped.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another instance may have removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl BoundSocket {
    /// Binds an address. `unix_mode` are the permissions of a unix socket's file, and `ipv6_only`
    /// is that of [`bind_tcp`].
    ///
    /// # Errors
    /// When the address is in use, not available or not permitted.
    pub fn bind(address: &BindAddress, unix_mode: u32, ipv6_only: bool) -> Result<Self, BindError> {
        let bound = match address {
            BindAddress::Tcp(tcp) => bind_tcp(*tcp, ipv6_only).map(Self::Tcp),
            BindAddress::Unix(path) => bind_unix(path, unix_mode).map(|listener| Self::Unix {
                listener,
                path: path.clone(),
                file: Some(SocketFile(path.clone())),
            }),
        };
        bound.map_err(|source| BindError {
            address: address.clone(),
            source,
        })
    }

    /// Returns the bound address, with the actual port in place of 0.
    pub fn address(&self) -> io::Result<BindAddress> {
        match self {
            Self::Tcp(listener) | Self::Passed(listener) => {
                listener.local_addr().map(BindAddress::Tcp)
            }
            Self::Unix { path, .. } => Ok(BindAddress::Unix(path.clone())),
        }
    }

    /// Returns a handle for a worker.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub fn handle(&self) -> io::Result<ListenerHandle> {
        match self {
            Self::Tcp(listener) | Self::Passed(listener) => {
                listener.try_clone().map(ListenerHandle::Tcp)
            }
            Self::Unix { listener, .. } => listener.try_clone().map(ListenerHandle::Unix),
        }
    }

    /// Makes the kernel drop new SYNs until the socket is closed. Closing resets connections that
    /// arrived after the last `accept(2)`; clients whose SYN is dropped retry after a second and
    /// are refused then. A passed socket, which stays open elsewhere, is not changed.
    pub fn stop_accepting(&self) {
        #[cfg(target_os = "linux")]
        if let Self::Tcp(listener) = self
            && let Err(error) = SockRef::from(listener).attach_filter(&NO_SYN)
        {
            tracing::debug!(%error, "failed to attach a socket filter; new connections are queued until the socket is closed");
        }
    }
}

/// A handle of a bound socket that is not registered with a runtime yet.
pub enum ListenerHandle {
    Tcp(std::net::TcpListener),
    Unix(unix::UnixListener),
}

impl ListenerHandle {
    /// Registers the socket with the current runtime.
    ///
    /// # Errors
    /// When the registration fails.
    pub fn listen(self) -> io::Result<CallerListener> {
        match self {
            Self::Tcp(listener) => {
                // Otherwise small responses wait for the caller's delayed ACK. Accepted sockets
                // inherit it, which saves a system call for each.
                SockRef::from(&listener).set_tcp_nodelay(true)?;
                TcpListener::from_std(listener).map(CallerListener::Tcp)
            }
            Self::Unix(listener) => UnixListener::from_std(listener).map(CallerListener::Unix),
        }
    }
}

/// The protocol of a listener's connections.
#[derive(Clone)]
pub enum ListenerMode {
    /// HTTP.
    Plain,
    /// HTTP over TLS.
    Tls(InboundTls),
    /// The protocol of HTTP proxies, or TLS in place of Citrix's hosts.
    Intercept(InterceptTls),
}

/// A listening socket of one worker.
pub enum CallerListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl CallerListener {
    /// Accepts a connection. Returns the peer's address for TCP.
    ///
    /// # Errors
    /// Those of `accept(2)`.
    pub async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                Ok((Socket::Tcp(socket), Some(canonical(peer))))
            }
            Self::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Ok((Socket::Unix(socket), None))
            }
        }
    }
}

impl CallerListener {
    /// Accepts a connection that the kernel has queued, even if the runtime has not been notified
    /// of it.
    ///
    /// # Errors
    /// `WouldBlock` if there is none, otherwise those of `accept(2)`.
    pub fn accept_queued(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = SockRef::from(listener).accept()?;
                socket.set_nonblocking(true)?;
                let peer = peer.as_socket().map(canonical);
                Ok((Socket::Tcp(TcpStream::from_std(socket.into())?), peer))
            }
            Self::Unix(listener) => {
                let (socket, _) = SockRef::from(listener).accept()?;
                socket.set_nonblocking(true)?;
                Ok((Socket::Unix(UnixStream::from_std(socket.into())?), None))
            }
        }
    }
}

/// Converts an IPv4-mapped IPv6 address, as dual-stack sockets report, to IPv4 for comparisons.
pub(super) fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        IpAddr::V4(address) => (address, peer.port()).into(),
        IpAddr::V6(_) => peer,
    }
}

/// Binds a TCP address. With `ipv6_only`, `[::]` leaves IPv4 to another listener on the port.
///
/// # Errors
/// When the address is in use, not available or not permitted.
pub fn bind_tcp(address: SocketAddr, ipv6_only: bool) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart can bind while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // Both cases, because the system's default can be changed.
        socket.set_only_v6(ipv6_only)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<unix::UnixListener> {
    remove_stale(path)?;
    // Under another name until its permissions are set.
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    remove_stale(&temporary)?;
    let listener = unix::UnixListener::bind(&temporary)?;
    SockRef::from(&listener).listen(BACKLOG)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(mode))
        .and_then(|()| std::fs::rename(&temporary, path))
        .inspect_err(|_| drop(std::fs::remove_file(&temporary)))?;
    Ok(listener)
}

/// Removes the socket file of a process that has ended, and no other file.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match unix::UnixStream::connect(path) {
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
            Err(_) => std::fs::remove_file(path),
        },
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the path exists and is not a socket",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn accepted_sockets_do_not_delay_small_segments() {
        let any_port = BindAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let bound = BoundSocket::bind(&any_port, 0o660, false).unwrap();
        let listener = bound.handle().unwrap().listen().unwrap();
        let BindAddress::Tcp(address) = bound.address().unwrap() else {
            unreachable!("bound to TCP")
        };
        let _client = TcpStream::connect(address).await.unwrap();
        let (Socket::Tcp(accepted), _) = listener.accept().await.unwrap() else {
            unreachable!("bound to TCP")
        };
        assert!(accepted.nodelay().unwrap());
    }

    #[test]
    fn socket_that_stopped_accepting_keeps_its_queue_and_accepts_no_other_connection() {
        let any_port = BindAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let bound = BoundSocket::bind(&any_port, 0o660, false).unwrap();
        let BoundSocket::Tcp(listener) = &bound else {
            unreachable!("bound to TCP")
        };
        let address = listener.local_addr().unwrap();
        let early = std::net::TcpStream::connect(address).unwrap();
        bound.stop_accepting();
        // Loopback responds at once or never.
        let late = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, early.local_addr().unwrap());
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}
