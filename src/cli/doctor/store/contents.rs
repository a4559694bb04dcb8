//! The server: its role, its eviction policy, its clock and the time that it takes.

use std::time::{Duration, UNIX_EPOCH};

use fleet_protocol::reply::Value;
use tokio::time::Instant;

use super::super::check::{Check, CheckKind};
use super::failure;
use crate::fleet::probe::Probe;
use crate::fleet::{Address, StoreError};
use crate::system::clock::Clock;

type Report<'a> = &'a mut dyn FnMut(Check);

/// Clock difference in seconds from which a warning is due.
const MAX_SKEW_SECONDS: f64 = 30.0;
/// Number of measurements of the round trip.
const PINGS: usize = 20;

/// # Errors
/// If the server is not a primary.
pub(super) async fn role(
    probe: &Probe,
    address: &Address,
    report: Report<'_>,
) -> Result<(), CheckKind> {
    let role = match probe.call(&["ROLE"]).await {
        Ok(Value::Array(role)) => role,
        Ok(_) => Vec::new(),
        Err(StoreError::Store(error)) if error.code() == Some("NOPERM") => {
            let advice = "add +role to the ACL of the store's user; until then a replica is noticed at the first write";
            let detail = "unknown: the user may not run role";
            report(Check::warning(CheckKind::Role, address, detail, advice));
            return Ok(());
        }
        Err(error) => {
            report(failure(CheckKind::Role, address, &error));
            return Err(CheckKind::Role);
        }
    };
    let text = |index: usize| match role.get(index) {
        Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Value::Int(number)) => number.to_string(),
        _ => String::new(),
    };
    match text(0).as_str() {
        "master" => {
            let check = Check::ok(CheckKind::Role, address, "primary");
            report(check.fact("role", "primary"));
            Ok(())
        }
        "slave" => {
            let detail = format!("the server is a replica of {}:{}", text(1), text(2));
            let advice = "set fleet.url to the primary, or fleet.sentinels";
            let check = Check::failed(CheckKind::Role, address, detail, advice);
            report(check.fact("role", "replica"));
            Err(CheckKind::Role)
        }
        "sentinel" => {
            let detail = "the server is a sentinel, not a store";
            let advice = "set fleet.sentinels to it";
            report(Check::failed(CheckKind::Role, address, detail, advice));
            Err(CheckKind::Role)
        }
        _ => {
            let detail = "the server does not name its role";
            report(Check::skipped(CheckKind::Role, address, detail));
            Ok(())
        }
    }
}

pub(super) async fn eviction(probe: &Probe, address: &Address, report: Report<'_>) {
    let info = match probe.call(&["INFO"]).await {
        Ok(Value::Bytes(info)) => String::from_utf8_lossy(&info).into_owned(),
        Ok(_) => String::new(),
        Err(error) => {
            let why = format!("unknown: {}", error.diagnosis().cause);
            return report(Check::skipped(CheckKind::Eviction, address, why));
        }
    };
    let value = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let version = value("valkey_version").or_else(|| value("redis_version"));
    let version = version.unwrap_or("unknown").to_owned();
    let check = match value("maxmemory_policy") {
        None => Check::skipped(
            CheckKind::Eviction,
            address,
            "the server does not name its policy",
        ),
        Some("noeviction") => {
            let detail = format!("noeviction (version {version})");
            Check::ok(CheckKind::Eviction, address, detail)
        }
        Some(policy) => {
            let detail = format!(
                "{policy} (version {version}): when its memory is full, the store drops permits and tokens"
            );
            let advice = "set maxmemory-policy to noeviction";
            Check::warning(CheckKind::Eviction, address, detail, advice).fact("policy", policy)
        }
    };
    report(check.fact("version", version));
}

/// Compares the clocks and measures the round trip.
pub(super) async fn skew(
    probe: &Probe,
    address: &Address,
    limit: Duration,
    clock: Clock,
    report: Report<'_>,
) {
    let mut trips = Vec::with_capacity(PINGS);
    let mut difference = 0.0;
    for _ in 0..PINGS {
        let (began, sent) = (Instant::now(), clock.now());
        match probe.call(&["TIME"]).await {
            Ok(reply) => {
                let trip = began.elapsed();
                let here = sent.duration_since(UNIX_EPOCH).unwrap_or_default() + trip / 2;
                let there = seconds_of(&reply).unwrap_or_default();
                difference = here.as_secs_f64() - there;
                trips.push(trip);
            }
            Err(error) => return report(failure(CheckKind::Skew, address, &error)),
        }
    }
    trips.sort_unstable();
    let median = trips.get(PINGS / 2).copied().unwrap_or_default();
    report(clocks(address, difference, median, limit));
}

fn clocks(address: &Address, difference: f64, median: Duration, limit: Duration) -> Check {
    let seconds = (difference * 10.0).round() / 10.0;
    let direction = if seconds < 0.0 { "behind" } else { "ahead of" };
    let millis = (median.as_secs_f64() * 1e5).round() / 100.0;
    let detail = format!(
        "this machine's clock is {} s {direction} the store's; a round trip takes {millis} ms (median of {PINGS})",
        seconds.abs()
    );
    let check = if median > limit / 2 {
        let limit = humantime::format_duration(limit);
        let advice =
            format!("a command may take {limit} (fleet.timeout); use a store nearby, or raise it");
        Check::warning(CheckKind::Skew, address, detail, advice)
    } else if seconds.abs() >= MAX_SKEW_SECONDS {
        let advice =
            "synchronize both with NTP; the fleet uses the store's clock only, logs do not";
        Check::warning(CheckKind::Skew, address, detail, advice)
    } else {
        Check::ok(CheckKind::Skew, address, detail)
    };
    check.fact("seconds", seconds).fact("round_trip_ms", millis)
}

fn seconds_of(reply: &Value) -> Option<f64> {
    let Value::Array(parts) = reply else {
        return None;
    };
    let part = |index: usize| match parts.get(index) {
        Some(Value::Bytes(digits)) => str::from_utf8(digits).ok()?.parse::<f64>().ok(),
        _ => None,
    };
    Some(part(0)? + part(1)? / 1e6)
}
