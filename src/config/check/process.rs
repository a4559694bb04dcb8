//! `[log]` and `[lifecycle]`: the process as a whole.

use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::{Report, TIMEOUT, WAIT, file};
use crate::config::{LogFormat, LogSettings};

const LEVELS: [(&str, LevelFilter); 6] = [
    ("info", LevelFilter::INFO),
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

pub(super) fn check_log(log: &file::Log, report: &mut Report<'_>) -> LogSettings {
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    LogSettings {
        format: report
            .choice(&log.format, &formats)
            .unwrap_or(LogFormat::Json),
        level: report
            .choice(&log.level, &LEVELS)
            .unwrap_or(LevelFilter::INFO),
    }
}

/// How long requests are still accepted before a drain, and how long it may take.
pub(super) fn check_lifecycle(
    lifecycle: &file::Lifecycle,
    report: &mut Report<'_>,
) -> (Duration, Duration) {
    let delay = report.duration(&lifecycle.drain_delay, Duration::ZERO, WAIT);
    (
        delay,
        report.duration(&lifecycle.drain_timeout, Duration::from_secs(30), TIMEOUT),
    )
}
