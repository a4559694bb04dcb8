//! Notifications to the service manager (`NOTIFY_SOCKET`).

use std::env;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::state::Shared;

/// Minimum time without a heartbeat before a worker counts as unresponsive. Heartbeats are one
/// second apart.
const MIN_HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout for a service manager whose queue of messages is full.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

/// The service manager that started the program, if it expects notifications.
#[derive(Clone)]
pub(in crate::cli) struct Supervisor(Option<SocketAddr>);

impl Supervisor {
    /// Reads the address from `NOTIFY_SOCKET`.
    pub(super) fn from_environment() -> Self {
        let name = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let address = name.map(|name| address(&name)).transpose();
        Self(address.unwrap_or_else(|error| {
            log_failure(&error);
            None
        }))
    }

    /// Returns no service manager, for commands other than `run`.
    pub(in crate::cli) fn none() -> Self {
        Self(None)
    }

    /// Reports that requests are served.
    pub(super) fn ready(&self) {
        self.notify(&[NotifyState::Ready]);
    }

    /// Reports that the configuration is about to change, until [`Self::ready`] is called.
    pub(super) fn reloading(&self) {
        // With `Type=notify-reload`, a message without a time counts as outdated.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.notify(&[NotifyState::Reloading, now]);
        }
    }

    /// Reports that the program is about to end.
    pub(super) fn stopping(&self) {
        self.notify(&[NotifyState::Stopping]);
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
        let Some(address) = &self.0 else {
            return;
        };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = send(message.as_bytes(), address) {
            log_failure(&error);
        }
    }
}

/// Parses a path, or `@name` for an abstract socket of Linux.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => {
            let problem = "NOTIFY_SOCKET is neither an absolute path nor an abstract name (@name)";
            Err(io::Error::new(ErrorKind::Unsupported, problem))
        }
    }
}

/// Sends from a socket of its own: a connected one would not follow a service manager that binds
/// its address again.
fn send(message: &[u8], address: &SocketAddr) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.send_to_addr(message, address)?;
    Ok(())
}

fn log_failure(error: &io::Error) {
    tracing::warn!(%error, "failed to notify the service manager");
}

/// Pings the service manager's watchdog while every worker sends heartbeats. It runs on the control
/// plane, so a ping also shows that the control plane is responsive. Ends when dropped.
pub(super) struct Watchdog(Option<JoinHandle<()>>);

impl Watchdog {
    /// Starts the pings if a watchdog is configured (`WATCHDOG_USEC`).
    pub(super) fn start(supervisor: &Supervisor, shared: &Arc<Shared>) -> Self {
        let pings = sd_notify::watchdog_enabled()
            .map(|period| ping_watchdog(supervisor.clone(), Arc::clone(shared), period / 3));
        Self(pings.map(tokio::spawn))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn ping_watchdog(supervisor: Supervisor, shared: Arc<Shared>, period: Duration) {
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match shared.heartbeats.missing(period.max(MIN_HEARTBEAT_TIMEOUT)) {
            None => supervisor.notify(&[NotifyState::Watchdog]),
            Some(worker) => {
                tracing::error!(worker, "worker unresponsive; watchdog not notified")
            }
        }
    }
}
