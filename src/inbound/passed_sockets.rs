//! Sockets that a service manager opened (socket activation).
//!
//! A socket is assigned to a listener by its name (`FileDescriptorName=` in systemd), or else by
//! its address. A socket without a listener is an error, because its connections would never be
//! accepted.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

use super::listener::BoundSocket;
use crate::config::BindAddress;

/// The listener that a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An address of `listen.address`.
    Proxy,
    /// `listen.tls.address`.
    Tls,
    /// An address of `intercept.address`.
    Intercept,
    /// `admin.address`.
    Admin,
}

impl Role {
    const ALL: [Self; 4] = [Self::Proxy, Self::Tls, Self::Intercept, Self::Admin];

    /// Returns the name of a socket for this listener.
    const fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Intercept => "intercept",
            Self::Admin => "admin",
        }
    }
}

/// A socket that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PassedSocketError {
    /// Not a listening socket.
    #[error("cannot use socket {name}, passed by the service manager: {source}")]
    Unusable {
        name: String,
        /// From the operating system.
        source: io::Error,
    },
    /// Assigned to no listener.
    #[error(
        "socket {name}, passed by the service manager, is bound to {address}, which is not configured; \
         name it proxy, tls, intercept or admin, or configure its address"
    )]
    Unknown { name: String, address: BindAddress },
    /// Reachable from other machines, which the configuration was not checked for.
    #[error(
        "socket {name}, passed by the service manager, is bound to {address}, which other machines can reach, instead \
         of {configured}; configure the address it is bound to"
    )]
    Exposed {
        name: String,
        address: BindAddress,
        configured: BindAddress,
    },
}

/// The sockets that are not assigned yet.
#[derive(Default)]
pub struct PassedSockets(Vec<Passed>);

struct Passed {
    name: String,
    address: BindAddress,
    socket: PassedListener,
}

enum PassedListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl PassedSockets {
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes the sockets of `LISTEN_FDS` and `LISTEN_FDNAMES`. Removes these variables, so it must
    /// be called before threads are started.
    ///
    /// # Errors
    /// When one is not a listening socket.
    pub fn from_environment() -> Result<Self, PassedSocketError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        let passed = (0..sockets.len()).map(|index| {
            let name = names
                .next()
                .filter(|name| !name.is_empty())
                .unwrap_or("unknown")
                .to_owned();
            Passed::take(&mut sockets, index, &name).map_err(|source| PassedSocketError::Unusable {
                name: name.clone(),
                source,
            })
        });
        Ok(Self(passed.collect::<Result<_, _>>()?))
    }

    /// Takes the socket for `role`, whose configured address is `address`.
    ///
    /// # Errors
    /// When other machines can reach it, but not the configured address.
    pub fn take(
        &mut self,
        role: Role,
        address: &BindAddress,
    ) -> Result<Option<BoundSocket>, PassedSocketError> {
        let here = self.0.iter().position(|passed| {
            passed.role().is_none_or(|own| own == role) && passed.is_at(address)
        });
        let named = || self.0.iter().position(|passed| passed.role() == Some(role));
        let Some(index) = here.or_else(named) else {
            return Ok(None);
        };
        let Passed {
            name,
            address: bound_to,
            socket,
        } = self.0.remove(index);
        if is_exposed(&bound_to) && !is_exposed(address) {
            return Err(PassedSocketError::Exposed {
                name,
                address: bound_to,
                configured: address.clone(),
            });
        }
        tracing::info!(name, address = %bound_to, "socket passed by the service manager");
        Ok(Some(match (socket, bound_to) {
            (PassedListener::Unix(listener), BindAddress::Unix(path)) => BoundSocket::Unix {
                listener,
                path,
                file: None,
            },
            (PassedListener::Unix(listener), BindAddress::Tcp(_)) => BoundSocket::Unix {
                listener,
                path: std::path::PathBuf::new(),
                file: None,
            },
            (PassedListener::Tcp(listener), _) => BoundSocket::Passed(listener),
        }))
    }

    /// Checks that every socket was taken.
    ///
    /// # Errors
    /// When one remains.
    pub fn finish(self) -> Result<(), PassedSocketError> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some(Passed { name, address, .. }) => Err(PassedSocketError::Unknown { name, address }),
        }
    }
}

impl fmt::Debug for PassedSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|passed| (&passed.name, &passed.address)))
            .finish()
    }
}

impl Passed {
    fn take(sockets: &mut ListenFd, index: usize, name: &str) -> io::Result<Self> {
        let none = || io::Error::from(io::ErrorKind::NotFound);
        let (address, socket) = match sockets.take_unix_listener(index) {
            Ok(listener) => {
                let listener = listener.ok_or_else(none)?;
                listener.set_nonblocking(true)?;
                let path = listener
                    .local_addr()?
                    .as_pathname()
                    .map(ToOwned::to_owned)
                    .unwrap_or_default();
                (BindAddress::Unix(path), PassedListener::Unix(listener))
            }
            Err(_) => {
                let listener = sockets.take_tcp_listener(index)?.ok_or_else(none)?;
                listener.set_nonblocking(true)?;
                (
                    BindAddress::Tcp(listener.local_addr()?),
                    PassedListener::Tcp(listener),
                )
            }
        };
        Ok(Self {
            name: name.to_owned(),
            address,
            socket,
        })
    }

    /// Returns the role that its name states.
    fn role(&self) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == self.name)
    }

    fn is_at(&self, configured: &BindAddress) -> bool {
        match (&self.address, configured) {
            (BindAddress::Tcp(own), BindAddress::Tcp(configured)) => {
                own == configured
                    || (is_unspecified(own)
                        && is_unspecified(configured)
                        && own.port() == configured.port())
            }
            (own, configured) => own == configured,
        }
    }
}

/// systemd's `ListenStream=8080` is `[::]:8080`, which accepts IPv4 too.
fn is_unspecified(address: &SocketAddr) -> bool {
    address.ip().is_unspecified()
}

fn is_exposed(address: &BindAddress) -> bool {
    matches!(address, BindAddress::Tcp(address) if !address.ip().to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(sockets: &[(&str, &str)]) -> PassedSockets {
        let passed = sockets.iter().map(|(name, address)| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            Passed {
                name: (*name).to_owned(),
                address: tcp(address),
                socket: PassedListener::Tcp(listener),
            }
        });
        PassedSockets(passed.collect())
    }

    fn tcp(address: &str) -> BindAddress {
        BindAddress::Tcp(address.parse().unwrap())
    }

    #[test]
    fn socket_is_assigned_by_name_or_address() {
        let mut sockets = passed(&[
            ("admin", "127.0.0.1:1"),
            ("gateway.socket", "127.0.0.1:2"),
            ("tls", "127.0.0.1:3"),
            ("proxy", "127.0.0.1:4"),
        ]);
        assert!(
            sockets
                .take(Role::Proxy, &tcp("127.0.0.1:2"))
                .unwrap()
                .is_some()
        );
        assert!(
            sockets
                .take(Role::Proxy, &tcp("127.0.0.1:8080"))
                .unwrap()
                .is_some()
        );
        assert!(
            sockets
                .take(Role::Proxy, &tcp("127.0.0.1:8081"))
                .unwrap()
                .is_none()
        );
        assert!(
            sockets
                .take(Role::Admin, &tcp("127.0.0.1:9090"))
                .unwrap()
                .is_some()
        );
        assert!(
            sockets
                .take(Role::Tls, &tcp("127.0.0.1:8443"))
                .unwrap()
                .is_some()
        );
        assert!(sockets.finish().is_ok());
    }

    #[test]
    fn unspecified_addresses_of_both_families_match() {
        let mut sockets = passed(&[("unknown", "[::]:8080")]);
        assert!(
            sockets
                .take(Role::Proxy, &tcp("0.0.0.0:8081"))
                .unwrap()
                .is_none()
        );
        assert!(
            sockets
                .take(Role::Proxy, &tcp("0.0.0.0:8080"))
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn socket_without_listener_is_an_error() {
        let mut sockets = passed(&[("unknown", "127.0.0.1:1")]);
        assert!(
            sockets
                .take(Role::Proxy, &tcp("127.0.0.1:2"))
                .unwrap()
                .is_none()
        );
        let error = sockets.finish().unwrap_err().to_string();
        assert!(
            error.contains("unknown") && error.contains("127.0.0.1:1"),
            "{error}"
        );
    }

    #[test]
    fn socket_more_exposed_than_configured_is_rejected() {
        for (role, name) in [(Role::Proxy, "proxy"), (Role::Admin, "admin")] {
            let error = passed(&[(name, "[::]:1")])
                .take(role, &tcp("127.0.0.1:1"))
                .err()
                .unwrap();
            assert!(
                matches!(error, PassedSocketError::Exposed { .. }),
                "{error}"
            );
        }
        let mut sockets = passed(&[("proxy", "127.0.0.1:1")]);
        assert!(
            sockets
                .take(Role::Proxy, &tcp("0.0.0.0:1"))
                .unwrap()
                .is_some(),
            "less exposed"
        );
    }
}
