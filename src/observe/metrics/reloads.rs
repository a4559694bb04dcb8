//! What became of reloads of the configuration.

use std::time::SystemTime;

use prometheus::{Error, Gauge, IntCounterVec, IntGauge, Registry};

use super::{opts, registered};

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// Something changed, and is in force.
    Applied,
    /// Nothing is written otherwise than before. What files and names stand for was looked at anew.
    Unchanged,
    /// It has mistakes; what was in force stays.
    Refused,
}

impl ReloadOutcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Refused];

    /// The value of the label `outcome`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// Reloads of the configuration, and whether the last one worked.
pub struct Reloads {
    outcomes: IntCounterVec,
    successful: IntGauge,
    loaded_at: Gauge,
}

impl Reloads {
    pub(super) fn register(registry: &Registry) -> Result<Self, Error> {
        let help = "Reloads of the configuration, by how they ended.";
        let outcomes = IntCounterVec::new(opts("config_reloads_total", help), &["outcome"])?;
        for each in ReloadOutcome::ALL {
            outcomes.with_label_values(&[each.label()]);
        }
        let help =
            "1 when the configuration as it was last read is in force, 0 when it was refused.";
        let successful = IntGauge::with_opts(opts("config_last_reload_successful", help))?;
        let help = "When the configuration in force was read, in Unix time.";
        let loaded_at =
            Gauge::with_opts(opts("config_last_reload_success_timestamp_seconds", help))?;
        Ok(Self {
            outcomes: registered(registry, outcomes)?,
            successful: registered(registry, successful)?,
            loaded_at: registered(registry, loaded_at)?,
        })
    }

    /// A configuration was read and is in force: at the start, or by a reload.
    pub fn loaded(&self, now: SystemTime) {
        self.successful.set(1);
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        self.loaded_at.set(since.as_secs_f64());
    }

    /// Counts a reload.
    pub fn ended(&self, outcome: ReloadOutcome, now: SystemTime) {
        self.outcomes.with_label_values(&[outcome.label()]).inc();
        match outcome {
            ReloadOutcome::Applied | ReloadOutcome::Unchanged => self.loaded(now),
            ReloadOutcome::Refused => self.successful.set(0),
        }
    }
}
