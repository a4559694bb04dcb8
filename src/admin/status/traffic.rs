//! Routes, callers, queues, load, and users of retired addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::admin::Admin;
use crate::admin::callers::{CallerView, ErrorView, SecretView};
use crate::admin::history::MAX_AGE;
use crate::admin::times::Times;
use crate::callers::caller_state::CallerState;
use crate::config::Mode;
use crate::observe::metrics::{ANONYMOUS, Distribution, NONE, RouteTotals, Totals};
use crate::observe::recent::{CallerTotals, Repeats, RouteReasons};
use crate::state::published::Published;

const MINUTE: Duration = Duration::from_mins(1);

/// Current counts, and earlier ones with their exact age.
pub(super) struct Traffic {
    now: Totals,
    minute_ago: (Duration, Arc<Totals>),
    five_minutes_ago: (Duration, Arc<Totals>),
    reasons: Vec<RouteReasons>,
    callers: BTreeMap<String, CallerTotals>,
    /// The most recent first.
    pub(super) failures: Vec<Repeats>,
    /// The most recent first.
    pub(super) rejections: Vec<Repeats>,
}

/// One route. Counts are since the start.
#[derive(Serialize)]
pub(super) struct RouteView<'a> {
    pub(super) name: &'a str,
    built_in: bool,
    requests: u64,
    /// Requests per second.
    rate_1m: f64,
    rate_5m: f64,
    codes: &'a BTreeMap<String, u64>,
    /// Responses that the gateway generated.
    reasons: BTreeMap<&'static str, u64>,
    pub(super) last_5m: RecentTraffic,
}

/// Counts of the last five minutes, up to ten seconds more, or less after a recent start.
#[derive(Serialize)]
pub(super) struct RecentTraffic {
    seconds: u64,
    pub(super) requests: u64,
    pub(super) server_errors: u64,
    /// From the request head to the last byte of the response.
    latency: Latency,
    /// From sending the request to the head of Citrix's response.
    upstream: Latency,
}

/// Quantiles estimated from the buckets of a histogram; `None` without values.
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

/// Requests of one route that wait because of Citrix's limits.
#[derive(Serialize)]
pub(super) struct QueueView<'a> {
    route: &'a str,
    waiting: u64,
    /// Requests in the last five minutes.
    waited: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl Traffic {
    pub(super) fn now(admin: &Admin, times: &Times) -> Self {
        let metrics = &admin.shared.metrics;
        Self {
            now: metrics.totals(),
            minute_ago: admin.history.before(times.instant, MINUTE),
            five_minutes_ago: admin.history.before(times.instant, MAX_AGE),
            reasons: metrics.recent.reasons(),
            callers: metrics.recent.callers(),
            failures: metrics.recent.repeated_failures(),
            rejections: metrics.recent.repeated_rejections(),
        }
    }

    /// Returns the routes, the busiest first.
    pub(super) fn routes<'a>(&'a self, published: &Published) -> Vec<RouteView<'a>> {
        let configured = &published.live.routes;
        let mut routes: Vec<RouteView<'_>> = self
            .now
            .routes
            .iter()
            .map(|(name, now)| (name, now, now.counts().requests))
            .map(|(name, now, requests)| RouteView {
                name,
                built_in: !configured
                    .iter()
                    .any(|route| !route.built_in && route.name() == name),
                requests,
                rate_1m: rate(requests, &self.minute_ago, requests_of(name)),
                rate_5m: rate(requests, &self.five_minutes_ago, requests_of(name)),
                codes: &now.codes,
                reasons: self.reasons_of(name),
                last_5m: self.recent(name, now),
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
        let of_route = self.reasons.iter().filter(|one| one.route == route);
        of_route
            .flat_map(RouteReasons::counts)
            .map(|(reason, count)| (reason.as_str(), count))
            .collect()
    }

    fn recent(&self, name: &str, now: &RouteTotals) -> RecentTraffic {
        let (since, then) = &self.five_minutes_ago;
        let zeros = RouteTotals::default();
        let then = then.routes.get(name).unwrap_or(&zeros);
        let counts = now.counts().since(then.counts());
        RecentTraffic {
            seconds: since.as_secs(),
            requests: counts.requests,
            server_errors: counts.server_errors,
            latency: Latency::of(&now.duration.since(&then.duration)),
            upstream: Latency::of(&now.upstream.since(&then.upstream)),
        }
    }

    /// Returns the configured callers in their order, then unnamed ones that sent requests.
    pub(super) fn callers(&self, published: &Published, times: &Times) -> Vec<CallerView> {
        let mode = |mode| match mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
        };
        let secrets = |state: &CallerState| {
            let secrets = state.secrets().iter().map(|secret| SecretView {
                sha256: secret.digits(),
                last_used_at: secret.last().map(|last| times.seconds(last)),
            });
            secrets.collect()
        };
        let configured = published.callers.iter().map(|caller| {
            let (config, state) = (&caller.config, &caller.state);
            CallerView {
                configured: true,
                mode: Some(mode(config.mode).to_owned()),
                secrets: secrets(state),
                in_flight: Some(state.in_progress()),
                max_concurrent: config.max_concurrent.map(NonZeroUsize::get),
                max_per_second: config.max_per_second.map(NonZeroU32::get),
                ..self.caller(&config.name, times)
            }
        });
        let unnamed = [ANONYMOUS, NONE].map(|name| self.caller(name, times));
        configured
            .chain(unnamed.into_iter().filter(|caller| caller.requests > 0))
            .collect()
    }

    /// Returns what is counted for any caller.
    fn caller(&self, name: &str, times: &Times) -> CallerView {
        let requests_of =
            |totals: &Totals| totals.callers.get(name).map_or(0, |counts| counts.requests);
        let activity = self.callers.get(name).copied().unwrap_or_default();
        let requests = requests_of(&self.now);
        let rate = |then| rate(requests, then, requests_of);
        CallerView {
            name: name.to_owned(),
            requests,
            rate_1m: rate(&self.minute_ago),
            rate_5m: rate(&self.five_minutes_ago),
            refused: activity.rejected,
            would_deny: self.now.would_deny.get(name).copied().unwrap_or_default(),
            last_seen_at: activity.last.map(|last| times.seconds(last)),
            last_error: self.last_error(name, times),
            ..CallerView::default()
        }
    }

    fn last_error(&self, caller: &str, times: &Times) -> Option<ErrorView> {
        let errors = self.failures.iter().chain(&self.rejections);
        let of_caller = errors.filter(|one| one.last.caller.is(caller.as_bytes()));
        let last = of_caller.map(|one| &one.last);
        last.max_by_key(|last| last.began).map(|last| ErrorView {
            at: last.began.map(|began| times.precise(began)),
            status: last.status,
            reason: last.reason.map(|reason| reason.as_str().to_owned()),
            request_id: last.request_id.as_str().into_owned(),
        })
    }

    /// Returns the queues that were used.
    pub(super) fn queues(&self) -> Vec<QueueView<'_>> {
        let used = self
            .now
            .routes
            .iter()
            .filter(|(_, route)| route.wait.count > 0 || route.waiting > 0);
        let queues = used.map(|(name, now)| {
            let (_, then) = &self.five_minutes_ago;
            let then = then.routes.get(name).map(|then| &then.wait);
            let waits = then.map_or_else(|| now.wait.clone(), |then| now.wait.since(then));
            let quantile = |share| waits.quantile(share).map(milliseconds);
            let (p50_ms, p99_ms) = (quantile(0.5), quantile(0.99));
            QueueView {
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

/// Returns the count of a route's requests.
fn requests_of(route: &str) -> impl Fn(&Totals) -> u64 {
    move |totals| {
        let totals = totals.routes.get(route);
        totals.map_or(0, |totals| totals.counts().requests)
    }
}

/// Returns requests per second, rounded to a thousandth. `of` returns their count.
fn rate(now: u64, (since, then): &(Duration, Arc<Totals>), of: impl Fn(&Totals) -> u64) -> f64 {
    let new = u32::try_from(now.saturating_sub(of(then))).unwrap_or(u32::MAX);
    let seconds = since.as_secs_f64().max(1.0);
    (f64::from(new) / seconds * 1000.0).round() / 1000.0
}

/// Use of the process-wide limits.
#[derive(Serialize)]
pub(super) struct LoadView {
    pub(super) in_flight: usize,
    pub(super) max_in_flight: usize,
    pub(super) connections: usize,
    pub(super) max_connections: usize,
    /// Limit of each queue.
    max_queued: usize,
}

impl LoadView {
    pub(super) fn now(admin: &Admin, published: &Published) -> Self {
        let (shared, limits) = (&admin.shared, &published.live.limits);
        Self {
            in_flight: shared.in_flight.in_use(),
            max_in_flight: limits.max_in_flight,
            connections: shared.connections.total(),
            max_connections: shared.descriptors.max_connections(limits),
            max_queued: limits.max_queued,
        }
    }
}

/// A user of a retired address.
#[derive(Serialize)]
pub(super) struct RetiredView {
    /// Family of the address.
    retired: &'static str,
    /// Route of the current address.
    route: String,
    caller: String,
    address: Option<IpAddr>,
    count: u64,
    last_at: String,
}

/// Returns the users of retired addresses, the most recent first.
pub(super) fn retired(admin: &Admin, published: &Published, times: &Times) -> Vec<RetiredView> {
    let callers = &published.live.callers;
    let used = admin
        .shared
        .metrics
        .recent
        .retired(|name| callers.iter().any(|caller| caller.name == name));
    let used = used.into_iter().map(|one| RetiredView {
        retired: one.family,
        route: one.route,
        caller: one.caller,
        address: one.address,
        count: one.count,
        last_at: times.seconds(one.last),
    });
    used.collect()
}
