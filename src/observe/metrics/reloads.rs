//! Metrics of configuration reloads.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use prometheus::{Error, Gauge, IntCounterVec, IntGauge, Registry};

use super::{opts, registered};
use crate::system::clock::since_epoch;

/// Outcome of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// A changed configuration is in force.
    Applied,
    /// The configuration is the same. Certificates and roots were checked for changes.
    Unchanged,
    /// The configuration is invalid; the previous one stays in force.
    Refused,
}

impl ReloadOutcome {
    const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Refused];

    /// Returns the value of the label `outcome`.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// Counter of reloads, and state of the last one.
pub struct Reloads {
    outcomes: IntCounterVec,
    successful: IntGauge,
    loaded_at: Gauge,
    last: Mutex<Option<(ReloadOutcome, SystemTime)>>,
}

impl Reloads {
    pub(super) fn register(registry: &Registry) -> Result<Self, Error> {
        let help = "Reloads of the configuration, by outcome.";
        let outcomes = IntCounterVec::new(opts("config_reloads_total", help), &["outcome"])?;
        for each in ReloadOutcome::ALL {
            outcomes.with_label_values(&[each.label()]);
        }
        let help = "1 if the configuration read last is in force, 0 if it was rejected.";
        let successful = IntGauge::with_opts(opts("config_last_reload_successful", help))?;
        let help = "Time at which the configuration in force was read, in Unix time.";
        let loaded_at =
            Gauge::with_opts(opts("config_last_reload_success_timestamp_seconds", help))?;
        Ok(Self {
            outcomes: registered(registry, outcomes)?,
            successful: registered(registry, successful)?,
            loaded_at: registered(registry, loaded_at)?,
            last: Mutex::default(),
        })
    }

    /// Returns the outcome and the time of the last reload; `None` before the first.
    pub(crate) fn last(&self) -> Option<(ReloadOutcome, SystemTime)> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<(ReloadOutcome, SystemTime)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the configuration read at `now` is in force.
    pub fn loaded(&self, now: SystemTime) {
        self.successful.set(1);
        self.loaded_at.set(since_epoch(now).as_secs_f64());
    }

    pub fn ended(&self, outcome: ReloadOutcome, now: SystemTime) {
        self.outcomes.with_label_values(&[outcome.label()]).inc();
        *self.lock() = Some((outcome, now));
        match outcome {
            ReloadOutcome::Applied | ReloadOutcome::Unchanged => self.loaded(now),
            ReloadOutcome::Refused => self.successful.set(0),
        }
    }
}
