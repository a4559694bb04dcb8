//! `[limits]`.

use std::time::Duration;

use super::{COUNT, MAX_COUNT, Report, TIMEOUT};
use crate::config::Limits;
use crate::config::raw::RawLimits;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

pub(super) fn check_limits(limits: &RawLimits, report: &mut Report<'_>) -> Limits {
    let replay_bytes = report.size(&limits.replay_buffer_bytes, 64 * KIB, 0..=16 * MIB);
    let header_bytes = report.size(&limits.max_header_bytes, 64 * KIB, 8 * KIB..=MIB);
    Limits {
        max_connections: report.integer(&limits.max_connections, 10_000, COUNT),
        max_connections_per_address: report.integer(
            &limits.max_connections_per_address,
            0,
            0..=MAX_COUNT,
        ),
        max_in_flight: report.integer(&limits.max_in_flight, 1024, COUNT),
        max_queued: report.integer(&limits.max_queued, 1000, COUNT),
        header_read_timeout: report.duration(
            &limits.header_read_timeout,
            Duration::from_secs(10),
            TIMEOUT,
        ),
        body_idle_timeout: report.duration(
            &limits.body_idle_timeout,
            Duration::from_secs(60),
            TIMEOUT,
        ),
        keep_alive_timeout: report.duration(
            &limits.keep_alive_timeout,
            Duration::from_mins(10),
            TIMEOUT,
        ),
        max_header_bytes: usize::try_from(header_bytes).unwrap_or(usize::MAX),
        max_body_bytes: report.size(&limits.max_body_bytes, GIB, 1..=u64::MAX),
        replay_buffer_bytes: usize::try_from(replay_bytes).unwrap_or(usize::MAX),
    }
}
