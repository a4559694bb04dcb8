//! `[log]` and `[lifecycle]`.

use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::{Report, TIMEOUT, WAIT};
use crate::config::raw::{RawLifecycle, RawLog};
use crate::config::{LogFormat, LogSettings};

const FORMATS: [(&str, LogFormat); 2] = [("json", LogFormat::Json), ("text", LogFormat::Text)];
const LEVELS: [(&str, LevelFilter); 6] = [
    ("info", LevelFilter::INFO),
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

pub(super) fn check_log(log: &RawLog, report: &mut Report<'_>) -> LogSettings {
    LogSettings {
        format: report.choice(&log.format, &FORMATS),
        level: report
            .choice(&log.level, &LEVELS)
            .unwrap_or(LevelFilter::INFO),
    }
}

/// Returns `drain_delay` and `drain_timeout`.
pub(super) fn check_lifecycle(
    lifecycle: &RawLifecycle,
    report: &mut Report<'_>,
) -> (Duration, Duration) {
    (
        report.duration(&lifecycle.drain_delay, Duration::ZERO, WAIT),
        report.duration(&lifecycle.drain_timeout, Duration::from_secs(30), TIMEOUT),
    )
}
