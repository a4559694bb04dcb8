//! What came and how it went: routes, callers, queues, and how near the limits are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::admin::Admin;
use crate::admin::history::REACH;
use crate::admin::times::Times;
use crate::config::Mode;
use crate::observe::metrics::{ANONYMOUS, Distribution, NONE, RouteTotals, Totals};
use crate::observe::recent::{CallerTotals, RouteReasons};
use crate::state::published::Published;

const MINUTE: Duration = Duration::from_mins(1);

/// What was counted, now and some minutes ago.
pub(super) struct Traffic {
    now: Totals,
    /// About a minute ago, and when exactly.
    minute: (Duration, Arc<Totals>),
    /// About five minutes ago.
    reach: (Duration, Arc<Totals>),
    reasons: Vec<RouteReasons>,
    seen: BTreeMap<String, CallerTotals>,
}

/// One route that was used, or is of the configuration.
#[derive(Serialize)]
pub(super) struct Route<'a> {
    pub(super) name: &'a str,
    built_in: bool,
    /// Since the start, as all that names no time.
    requests: u64,
    /// A second.
    rate_1m: f64,
    rate_5m: f64,
    codes: &'a BTreeMap<String, u64>,
    /// Answers of the gateway's own.
    reasons: BTreeMap<&'static str, u64>,
    pub(super) last_5m: Lately,
}

/// The last five minutes, or a little more; less in a young program.
#[derive(Serialize)]
pub(super) struct Lately {
    seconds: u64,
    pub(super) requests: u64,
    pub(super) server_errors: u64,
    /// From the request's head to the answer's last byte.
    latency: Latency,
    /// From sending to the head of Citrix's answer.
    upstream: Latency,
}

/// Estimated from the metrics' buckets, as Prometheus does it; nothing without a request.
#[derive(Serialize)]
struct Latency {
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl Latency {
    fn of(distribution: &Distribution) -> Self {
        let quantile = |share| distribution.quantile(share).map(milliseconds);
        Self {
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

/// One caller.
#[derive(Serialize)]
pub(super) struct Caller {
    name: String,
    /// Whether it is a configured one.
    configured: bool,
    requests: u64,
    /// By the gateway, for the caller's own fault.
    refused: u64,
    /// `enforce` or `observe`, of a configured one.
    mode: Option<&'static str>,
    /// What its rules would have refused, had they been enforced.
    would_deny: u64,
    last_seen_at: Option<String>,
}

/// Requests that wait because of what Citrix allows a customer.
#[derive(Serialize)]
pub(super) struct Queue<'a> {
    route: &'a str,
    waiting: u64,
    /// In the last five minutes.
    waited: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl Traffic {
    pub(super) fn now(admin: &Admin, times: &Times) -> Self {
        let metrics = &admin.shared.metrics;
        Self {
            now: metrics.totals(),
            minute: admin.history.before(times.instant, MINUTE),
            reach: admin.history.before(times.instant, REACH),
            reasons: metrics.recent.reasons(),
            seen: metrics.recent.callers(),
        }
    }

    /// The busiest first.
    pub(super) fn routes<'a>(&'a self, published: &Published) -> Vec<Route<'a>> {
        let configured = &published.live.routes;
        let mut routes: Vec<Route<'_>> = self
            .now
            .routes
            .iter()
            .map(|(name, now)| Route {
                name,
                built_in: !configured
                    .iter()
                    .any(|route| !route.built_in && route.name() == name),
                requests: now.requests(),
                rate_1m: rate(name, now, &self.minute),
                rate_5m: rate(name, now, &self.reach),
                codes: &now.codes,
                reasons: self.reasons_of(name),
                last_5m: self.lately(name, now),
            })
            .collect();
        routes.sort_by(|a, b| {
            b.rate_5m
                .total_cmp(&a.rate_5m)
                .then(b.requests.cmp(&a.requests))
        });
        routes
    }

    fn reasons_of(&self, route: &str) -> BTreeMap<&'static str, u64> {
        let own = self.reasons.iter().filter(|one| one.route == route);
        own.flat_map(RouteReasons::counts)
            .map(|(reason, count)| (reason.as_str(), count))
            .collect()
    }

    fn lately(&self, name: &str, now: &RouteTotals) -> Lately {
        let (since, then) = &self.reach;
        let nothing = RouteTotals::default();
        let then = then.routes.get(name).unwrap_or(&nothing);
        Lately {
            seconds: since.as_secs(),
            requests: now.requests().saturating_sub(then.requests()),
            server_errors: now.server_errors().saturating_sub(then.server_errors()),
            latency: Latency::of(&now.duration.since(&then.duration)),
            upstream: Latency::of(&now.upstream.since(&then.upstream)),
        }
    }

    /// The configured ones in their order, then those without a name that came.
    pub(super) fn callers(&self, published: &Published, times: &Times) -> Vec<Caller> {
        let mode = |mode| match mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
        };
        let configured = published.live.callers.iter();
        let configured = configured.map(|caller| (caller.name.as_str(), Some(mode(caller.mode))));
        let others = [ANONYMOUS, NONE].map(|name| (name, None));
        let count =
            |counts: &BTreeMap<String, u64>, name| counts.get(name).copied().unwrap_or_default();
        let seen = |name: &str| self.seen.get(name).copied().unwrap_or_default();
        let callers = configured.chain(others).map(|(name, mode)| Caller {
            name: name.to_owned(),
            configured: mode.is_some(),
            requests: count(&self.now.callers, name),
            refused: seen(name).rejected,
            mode,
            would_deny: count(&self.now.would_deny, name),
            last_seen_at: seen(name).last.map(|last| times.seconds(last)),
        });
        callers
            .filter(|caller| caller.configured || caller.requests > 0)
            .collect()
    }

    pub(super) fn queues(&self) -> Vec<Queue<'_>> {
        let used = self
            .now
            .routes
            .iter()
            .filter(|(_, route)| route.wait.count > 0 || route.waiting > 0);
        let queues = used.map(|(name, now)| {
            let then = self.reach.1.routes.get(name).map(|then| &then.wait);
            let waits = then.map_or_else(|| now.wait.clone(), |then| now.wait.since(then));
            let quantile = |share| waits.quantile(share).map(milliseconds);
            let (p50_ms, p99_ms) = (quantile(0.5), quantile(0.99));
            Queue {
                route: name,
                waiting: now.waiting,
                waited: waits.count,
                p50_ms,
                p99_ms,
            }
        });
        queues.collect()
    }
}

fn rate(route: &str, now: &RouteTotals, (since, then): &(Duration, Arc<Totals>)) -> f64 {
    let before = then.routes.get(route).map_or(0, RouteTotals::requests);
    let new = u32::try_from(now.requests().saturating_sub(before)).unwrap_or(u32::MAX);
    let seconds = since.as_secs_f64().max(1.0);
    (f64::from(new) / seconds * 1000.0).round() / 1000.0
}

/// How many there are of what is limited.
#[derive(Serialize)]
pub(super) struct Load {
    pub(super) in_flight: usize,
    pub(super) max_in_flight: usize,
    pub(super) connections: usize,
    pub(super) max_connections: usize,
    /// Requests that may wait in one queue.
    max_queued: usize,
}

impl Load {
    pub(super) fn now(admin: &Admin, published: &Published) -> Self {
        let (shared, limits) = (&admin.shared, &published.live.limits);
        Self {
            in_flight: shared.in_flight.in_use(),
            max_in_flight: limits.max_in_flight,
            connections: shared.connections.total(),
            max_connections: limits.max_connections,
            max_queued: limits.max_queued,
        }
    }
}

/// Somebody who still uses a retired address.
#[derive(Serialize)]
pub(super) struct Retired {
    /// The family of the address.
    retired: &'static str,
    /// Where it leads today.
    route: String,
    caller: String,
    address: Option<IpAddr>,
    count: u64,
    last_at: String,
}

/// The last one first.
pub(super) fn retired(admin: &Admin, published: &Published, times: &Times) -> Vec<Retired> {
    let callers = &published.live.callers;
    let used = admin
        .shared
        .metrics
        .recent
        .retired(|name| callers.iter().any(|caller| caller.name == name));
    let used = used.into_iter().map(|one| Retired {
        retired: one.family,
        route: one.route,
        caller: one.caller,
        address: one.address,
        count: one.count,
        last_at: times.seconds(one.last),
    });
    used.collect()
}
