//! Sockets that callers connect to.

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
use crate::config::BindAddress;

/// Connections the kernel holds until they are accepted; the kernel's own maximum caps it.
const BACKLOG: i32 = 4096;

/// Drops TCP segments with SYN in their flags, the 14th byte of the header (RFC 9293 section 3.1); linux/filter.h has the
/// codes.
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

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{hint}", hint = hint(source))]
pub struct BindError {
    address: BindAddress,
    source: io::Error,
}

/// What may help who meets `error`.
pub fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (is another instance running? `ss -ltnp` shows who listens)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
        _ => "",
    }
}

/// A bound socket, from which each worker gets a handle of its own. BoundSocket once, without `SO_REUSEPORT`: that
/// would let a second instance take the same port unseen, and a handle closed early would lose its backlog.
pub enum BoundSocket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// TCP, from the service manager, which has the socket as well.
    Passed(std::net::TcpListener),
    /// A unix socket.
    Unix {
        /// The socket.
        listener: unix::UnixListener,
        /// Where it is.
        path: PathBuf,
        /// Its file, unless it is somebody else's.
        file: Option<SocketFile>,
    },
}

/// Removes the socket's file when the program ends.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another instance may have replaced it already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl BoundSocket {
    /// Binds an address; `unix_mode` are the permission bits of a unix socket's file.
    ///
    /// # Errors
    /// When the address is taken, not ours, or not permitted.
    pub fn bind(address: &BindAddress, unix_mode: u32) -> Result<Self, BindError> {
        let bound = match address {
            BindAddress::Tcp(tcp) => bind_tcp(*tcp).map(Self::Tcp),
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

    /// Where it is bound: the real port where 0 was asked for.
    pub fn address(&self) -> io::Result<BindAddress> {
        match self {
            Self::Tcp(listener) | Self::Passed(listener) => {
                listener.local_addr().map(BindAddress::Tcp)
            }
            Self::Unix { path, .. } => Ok(BindAddress::Unix(path.clone())),
        }
    }

    /// One more handle, for one more worker.
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

    /// Has the kernel let nobody else in, before the socket is closed: closing resets whoever came after the last
    /// `accept(2)`. Those who come now ask the kernel again after a second, and are refused then. Of a socket that stays
    /// open elsewhere nothing is changed.
    pub fn stop_accepting(&self) {
        #[cfg(target_os = "linux")]
        if let Self::Tcp(listener) = self
            && let Err(error) = SockRef::from(listener).attach_filter(&NO_SYN)
        {
            tracing::debug!(%error, "the kernel goes on letting callers in until the socket is closed");
        }
    }
}

/// A worker's share of a bound socket, on its way to the worker's thread.
pub enum ListenerHandle {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A unix socket.
    Unix(unix::UnixListener),
}

impl ListenerHandle {
    /// Registers it with the runtime of the thread.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn listen(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(listener) => TcpListener::from_std(listener).map(Listener::Tcp),
            Self::Unix(listener) => UnixListener::from_std(listener).map(Listener::Unix),
        }
    }
}

/// A listening socket of one worker.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// The next connection and, for TCP, where it comes from.
    ///
    /// # Errors
    /// Those of `accept(2)`.
    pub async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                // Without it, small answers wait for the caller's delayed ACK.
                socket.set_nodelay(true)?;
                Ok((Socket::Tcp(socket), Some(canonical(peer))))
            }
            Self::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Ok((Socket::Unix(socket), None))
            }
        }
    }
}

impl Listener {
    /// The next connection that the kernel has accepted already, whether or not the runtime has heard of it.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; else those of `accept(2)`.
    pub fn accept_queued(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = SockRef::from(listener).accept()?;
                socket.set_nonblocking(true)?;
                socket.set_tcp_nodelay(true)?;
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

/// The address as IPv4 where it is one in IPv6's form, as a socket for both has them: networks and loopback are
/// told by it.
pub(super) fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        IpAddr::V4(address) => (address, peer.port()).into(),
        IpAddr::V6(_) => peer,
    }
}

/// Binds a TCP address.
///
/// # Errors
/// When the address is taken, not ours, or not permitted.
pub fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Lets a restart bind while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<unix::UnixListener> {
    remove_stale(path)?;
    // Under another name until it has its permissions: whoever may not come in must not be first.
    let hidden = path.with_extension(format!("{}.new", std::process::id()));
    remove_stale(&hidden)?;
    let listener = unix::UnixListener::bind(&hidden)?;
    SockRef::from(&listener).listen(BACKLOG)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(mode))
        .and_then(|()| std::fs::rename(&hidden, path))
        .inspect_err(|_| drop(std::fs::remove_file(&hidden)))?;
    Ok(listener)
}

/// A socket's file outlives its program; one that nobody answers on is taken away, anything else is left.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match unix::UnixStream::connect(path) {
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
            Err(_) => std::fs::remove_file(path),
        },
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is in the way",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn behind_a_shut_door_those_who_were_in_are_found_and_nobody_else_gets_in() {
        let bound =
            BoundSocket::bind(&BindAddress::Tcp("127.0.0.1:0".parse().unwrap()), 0o660).unwrap();
        let BoundSocket::Tcp(listener) = &bound else {
            unreachable!("it was bound to TCP")
        };
        let address = listener.local_addr().unwrap();
        let early = std::net::TcpStream::connect(address).unwrap();
        bound.stop_accepting();
        // Loopback answers at once or never.
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
