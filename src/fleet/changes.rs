//! Notifications that the token, verdict or lock of an identity changed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleet_protocol::Name;
use tokio::sync::watch;

/// The identities that are followed.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<HashMap<Name, watch::Sender<()>>>);

impl Changes {
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows an identity. Those that are not followed any more are removed.
    pub(super) fn follow(&self, identity: Name) -> watch::Receiver<()> {
        let mut followed = self.lock();
        followed.retain(|_, sender| sender.receiver_count() > 0);
        let sender = followed.entry(identity);
        sender.or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Notifies those that follow an identity.
    pub(super) fn notify(&self, identity: Name) {
        if let Some(sender) = self.lock().get(&identity) {
            sender.send_replace(());
        }
    }

    /// Notifies all, since notifications may have been missed.
    pub(super) fn notify_all(&self) {
        for sender in self.lock().values() {
            sender.send_replace(());
        }
    }
}
