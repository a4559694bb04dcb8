//! What a service manager is told, where one started us (`NOTIFY_SOCKET`); nothing else happens without one.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::state::Shared;

/// How long a worker may go unseen at least: it shows itself once a second.
const LEAST_PATIENCE: Duration = Duration::from_secs(3);

/// Requests are answered.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is about to change; [`ready`] ends that.
pub(super) fn reloading() {
    // Without the time `Type=notify-reload` takes this for an old message.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// The program is about to end.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told how things are");
    }
}

/// Feeds the service manager's watchdog as long as every worker is alive, and, as it runs on the control side, so
/// is that. Ends when dropped.
pub(super) struct Watchdog(Option<JoinHandle<()>>);

impl Watchdog {
    /// Feeds it if there is one (`WATCHDOG_USEC`).
    pub(super) fn start(shared: &Arc<Shared>) -> Self {
        let feed = sd_notify::watchdog_enabled().map(|period| feed(Arc::clone(shared), period / 3));
        Self(feed.map(tokio::spawn))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn feed(shared: Arc<Shared>, every: Duration) {
    let mut meal = interval(every.max(Duration::from_millis(1)));
    meal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        meal.tick().await;
        match shared.heartbeats.missing(every.max(LEAST_PATIENCE)) {
            None => tell(&[NotifyState::Watchdog]),
            Some(worker) => {
                tracing::error!(worker, "a worker stands still; the watchdog is not fed")
            }
        }
    }
}
