//! The description of this replica for the others of its fleet.

use std::sync::Arc;

use tokio::sync::watch;

use super::control::Control;
use crate::config::ConfigFingerprint;
use crate::fleet::members::{self, Description};
use crate::observe::metrics::commit;
use crate::state::Shared;
use crate::system::clock::since_epoch;

/// The description of this replica; without a fleet of no use.
pub(super) struct Announcement(watch::Sender<Description>);

impl Announcement {
    /// Describes this replica. With a fleet, starts the task that keeps its record.
    pub(super) fn start(
        replica: &str,
        configuration: &ConfigFingerprint,
        shared: &Shared,
        control: &mut Control,
    ) -> Self {
        let description = watch::Sender::new(Description {
            name: replica.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            configuration: configuration.shared(),
            phase: "running",
            started: since_epoch(shared.clock.now()).as_secs(),
        });
        if let Some(fleet) = &shared.fleet {
            control.announce(members::announce(
                Arc::clone(fleet),
                description.subscribe(),
            ));
        }
        Self(description)
    }

    pub(super) fn reloaded(&self, configuration: &ConfigFingerprint) {
        let configuration = configuration.shared();
        self.0
            .send_modify(|description| description.configuration = configuration);
    }

    pub(super) fn draining(&self) {
        self.0
            .send_modify(|description| description.phase = "draining");
    }
}
