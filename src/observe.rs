//! Metrics, recent exchanges, spans and logs.

pub mod access_log;
pub mod audit;
mod line_queue;
pub mod log_levels;
mod log_line;
pub mod metrics;
pub mod recent;
pub mod spans;
pub mod summary;
pub mod telemetry;

use access_log::AccessLog;
use audit::AuditLog;

/// The logs with lines of requests; clones share them.
#[derive(Clone, Debug)]
pub struct RequestLogs {
    pub audit: AuditLog,
    pub access: AccessLog,
}

impl RequestLogs {
    /// Creates logs for a program that has its own: lines are events.
    pub fn embedded() -> Self {
        Self {
            audit: AuditLog::embedded(),
            access: AccessLog::embedded(),
        }
    }
}
