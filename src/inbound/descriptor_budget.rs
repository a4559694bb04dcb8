//! The division of the file descriptors: callers get what admin, files and upstreams leave.

use crate::config::Limits;

/// Descriptors for the admin listener's 64 connections, for files, token requests and name lookups.
const RESERVED: usize = 192;
/// Descriptors of each worker: its runtime and its handles of listening sockets.
const PER_WORKER: usize = 16;

/// The file descriptors of the process.
#[derive(Clone, Copy, Debug)]
pub struct DescriptorBudget {
    limit: usize,
    reserved: usize,
}

impl DescriptorBudget {
    /// Divides `limit` descriptors for `workers` workers.
    pub fn new(limit: usize, workers: usize) -> Self {
        Self {
            limit,
            reserved: RESERVED + PER_WORKER * workers,
        }
    }

    /// Returns the maximum number of connections from callers: `limits.max_connections`, or fewer
    /// if the limit of open files is too low. Upstreams get one connection per request in flight,
    /// then at most half.
    pub fn max_connections(&self, limits: &Limits) -> usize {
        let shared = self.limit.saturating_sub(self.reserved);
        let upstream = limits.max_in_flight.min(shared / 2);
        limits.max_connections.min(shared - upstream).max(1)
    }

    /// Logs a warning if the limit of open files is too low for the limits.
    pub fn warn_if_too_low(&self, limits: &Limits) {
        let needed = limits
            .max_connections
            .saturating_add(limits.max_in_flight)
            .saturating_add(self.reserved);
        if self.limit < needed {
            tracing::warn!(
                limit = self.limit,
                needed,
                max_connections = limits.max_connections,
                permitted = self.max_connections(limits),
                "limit of open files is too low for limits.max_connections; fewer connections are permitted"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn permitted(limit: usize, max_connections: usize) -> usize {
        let limits = Limits {
            max_connections,
            max_connections_per_address: 0,
            max_in_flight: 1024,
            max_queued: 1,
            header_read_timeout: Duration::ZERO,
            body_idle_timeout: Duration::ZERO,
            keep_alive_timeout: Duration::ZERO,
            max_header_bytes: 1,
            max_body_bytes: 1,
            replay_buffer_bytes: 1,
        };
        DescriptorBudget::new(limit, 2).max_connections(&limits)
    }

    #[test]
    fn callers_get_what_admin_files_and_upstreams_leave() {
        assert_eq!(permitted(20_000, 10_000), 10_000);
        assert_eq!(permitted(usize::MAX, 10_000), 10_000);
        assert_eq!(permitted(1024, 10), 10);
        assert_eq!(permitted(1024, 10_000), (1024 - 192 - 32) / 2);
        assert_eq!(permitted(4096, 10_000), 4096 - 192 - 32 - 1024);
        assert_eq!(permitted(64, 10_000), 1);
    }
}
