//! Notifications to the service manager (`NOTIFY_SOCKET`); no-ops without one.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::state::Shared;

/// Minimum time without a heartbeat before a worker counts as unresponsive. Heartbeats are one
/// second apart.
const MIN_HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);

/// Reports that requests are served.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Reports that the configuration is about to change, until [`ready`] is called.
pub(super) fn reloading() {
    // With `Type=notify-reload`, a message without a time counts as outdated.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
}

/// Reports that the program is about to end.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "failed to notify the service manager");
    }
}

/// Pings the service manager's watchdog while every worker sends heartbeats. It runs on the control
/// plane, so a ping also shows that the control plane is responsive. Ends when dropped.
pub(super) struct Watchdog(Option<JoinHandle<()>>);

impl Watchdog {
    /// Starts the pings if a watchdog is configured (`WATCHDOG_USEC`).
    pub(super) fn start(shared: &Arc<Shared>) -> Self {
        let pings = sd_notify::watchdog_enabled()
            .map(|period| ping_watchdog(Arc::clone(shared), period / 3));
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

async fn ping_watchdog(shared: Arc<Shared>, period: Duration) {
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match shared.heartbeats.missing(period.max(MIN_HEARTBEAT_TIMEOUT)) {
            None => notify(&[NotifyState::Watchdog]),
            Some(worker) => {
                tracing::error!(worker, "worker unresponsive; watchdog not notified")
            }
        }
    }
}
