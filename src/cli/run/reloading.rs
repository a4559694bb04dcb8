//! Puts a configuration in force that was read anew, and tells how that went.

use std::future::pending;

use crate::app::reload::{Candidate, Watch};
use crate::app::{App, Fresh};
use crate::config::{Changes, Problem, listed};
use crate::observe::metrics::Reload;

/// The next candidate, where somebody watches for one.
pub(super) async fn next(watch: &mut Option<Watch>) -> Candidate {
    match watch {
        Some(watch) => watch.next().await,
        None => pending().await,
    }
}

/// Answers a SIGHUP.
pub(super) fn ask(app: &App, watch: Option<&Watch>) {
    if let Some(tls) = app.inbound_tls() {
        tls.look_now();
    }
    match watch {
        Some(watch) => watch.ask(),
        None => tracing::warn!("SIGHUP: there is no configuration to read again"),
    }
}

/// Takes a candidate, or says why not.
pub(super) fn settle(app: &mut App, candidate: Candidate) {
    let outcome = match candidate {
        Candidate::Fresh(fresh) => take(app, *fresh),
        Candidate::Refused(problems) => Err(problems),
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

fn take(app: &mut App, fresh: Fresh) -> Result<Reload, Vec<Problem>> {
    let (warnings, level) = (fresh.config.warnings.clone(), fresh.config.boot.log.level);
    let changes = app.reload(fresh).map_err(|error| {
        vec![Problem {
            key: "upstream".to_owned(),
            variable: None,
            what: error.to_string(),
            example: None,
        }]
    })?;
    if changes.none {
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
        keys = listed(&changes.keys),
        added = listed(&changes.added),
        removed = listed(&changes.removed),
        changed = listed(&changes.changed),
        "reloaded the configuration"
    );
    if let Some(keys) = listed(&changes.need_restart) {
        tracing::warn!(
            keys,
            "these keys are read at start only; what they say now counts after a restart"
        );
    }
}
