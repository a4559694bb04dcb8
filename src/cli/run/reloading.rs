//! Applies a changed configuration and logs the outcome.

use std::future::pending;

use crate::app::reload::{Candidate, ConfigWatcher};
use crate::app::{App, NewConfig};
use crate::config::{Changes, join_names};
use crate::observe::metrics::ReloadOutcome;

/// Waits for the next changed configuration; forever without a file to watch.
pub(super) async fn next(watch: &mut Option<ConfigWatcher>) -> Candidate {
    match watch {
        Some(watch) => watch.next().await,
        None => pending().await,
    }
}

/// Handles SIGHUP: certificates and configuration are read now.
pub(super) fn request(app: &App, watch: Option<&ConfigWatcher>) {
    if let Some(tls) = app.inbound_tls() {
        tls.request_read();
    }
    match watch {
        Some(watch) => watch.request(),
        None => tracing::warn!("SIGHUP ignored; there is no configuration file"),
    }
}

/// Applies a candidate, or logs its problems and keeps the current configuration.
pub(super) fn apply(app: &mut App, candidate: Candidate) {
    let outcome = match candidate {
        Candidate::Valid(new) => take(app, *new),
        Candidate::Rejected(problems) => {
            for problem in &problems {
                tracing::error!(%problem, "invalid configuration");
            }
            tracing::error!(
                problems = problems.len(),
                "configuration not reloaded; the current one stays in effect"
            );
            ReloadOutcome::Refused
        }
    };
    let shared = app.shared();
    shared.metrics.reloads.ended(outcome, shared.clock.now());
}

fn take(app: &mut App, new: NewConfig) -> ReloadOutcome {
    let (warnings, level) = (new.config.warnings.clone(), new.config.boot.log.level);
    let changes = app.reload(new);
    if changes.unchanged {
        tracing::info!("configuration reloaded; nothing changed");
        return ReloadOutcome::Unchanged;
    }
    // The reload itself is logged at the more verbose of the two levels.
    if level >= app.log_level() {
        app.set_log_level(level);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    log_changes(&changes);
    app.set_log_level(level);
    ReloadOutcome::Applied
}

fn log_changes(changes: &Changes) {
    tracing::info!(
        keys = join_names(&changes.keys),
        added = join_names(&changes.added),
        removed = join_names(&changes.removed),
        changed = join_names(&changes.changed),
        "configuration reloaded"
    );
    if let Some(keys) = join_names(&changes.restart_required) {
        tracing::warn!(
            keys,
            "changed keys are read at start only; restart to apply them"
        );
    }
}
