//! Puts a configuration in force that was read anew, and tells how that went.

use std::future::pending;

use crate::app::reload::{Candidate, ConfigWatcher};
use crate::app::{App, NewConfig};
use crate::config::{Changes, ConfigProblem, join_names};
use crate::observe::metrics::Reload;

/// The next candidate, where somebody watches for one.
pub(super) async fn next(watch: &mut Option<ConfigWatcher>) -> Candidate {
    match watch {
        Some(watch) => watch.next().await,
        None => pending().await,
    }
}

/// Answers a SIGHUP.
pub(super) fn ask(app: &App, watch: Option<&ConfigWatcher>) {
    if let Some(tls) = app.inbound_tls() {
        tls.request_read();
    }
    match watch {
        Some(watch) => watch.request(),
        None => tracing::warn!("SIGHUP: there is no configuration to read again"),
    }
}

/// Takes a candidate, or says why not.
pub(super) fn settle(app: &mut App, candidate: Candidate) {
    let outcome = match candidate {
        Candidate::Valid(new) => take(app, *new),
        Candidate::Rejected(problems) => Err(problems),
    };
    let outcome = outcome.unwrap_or_else(|problems| {
        for problem in &problems {
            tracing::error!(%problem, "the configuration is wrong");
        }
        tracing::error!(
            problems = problems.len(),
            "not reloaded; the configuration before stays in force"
        );
        Reload::Refused
    });
    let shared = app.shared();
    shared.metrics.reloads.ended(outcome, shared.clock.now());
}

fn take(app: &mut App, new: NewConfig) -> Result<Reload, Vec<ConfigProblem>> {
    let (warnings, level) = (new.config.warnings.clone(), new.config.boot.log.level);
    let changes = app.reload(new).map_err(|error| {
        vec![ConfigProblem {
            key: "upstream".to_owned(),
            variable: None,
            what: error.to_string(),
            example: None,
        }]
    })?;
    if changes.unchanged {
        tracing::info!("reloaded the configuration; nothing in it changed");
        return Ok(Reload::Unchanged);
    }
    // At the more talkative of the two levels.
    if level >= app.log_level() {
        app.set_log_level(level);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    tell(&changes);
    app.set_log_level(level);
    Ok(Reload::Applied)
}

fn tell(changes: &Changes) {
    tracing::info!(
        keys = join_names(&changes.keys),
        added = join_names(&changes.added),
        removed = join_names(&changes.removed),
        changed = join_names(&changes.changed),
        "reloaded the configuration"
    );
    if let Some(keys) = join_names(&changes.restart_required) {
        tracing::warn!(
            keys,
            "these keys are read at start only; what they say now counts after a restart"
        );
    }
}
