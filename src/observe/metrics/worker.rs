//! Metrics of one worker, so that workers share no cache line. A scrape returns their sums.

use std::rc::Rc;
use std::sync::Arc;

use prometheus::{Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Registry};

use super::opts;
use super::route::{RouteFamilies, RouteMetrics};
use super::summed::Shards;
use crate::error::Reason;
use crate::observe::recent::{Recent, WorkerRecent};
use citrix_wire::citrix::legacy;
use citrix_wire::link_rewrite::LinkCounts;

/// Buckets of `overhead_seconds`, which is normally tens of microseconds.
const OVERHEAD_BUCKETS: &[f64] = &[
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25,
];

/// Metrics of one worker.
#[derive(Clone)]
pub struct WorkerMetrics {
    pub(super) routes: RouteFamilies,
    /// In the order of [`Reason::ALL`].
    errors: Vec<IntCounter>,
    /// In the order of [`legacy::FAMILIES`].
    retired: Vec<IntCounter>,
    pub(super) would_deny: IntCounterVec,
    pub(crate) links: LinkCounters,
    pub(crate) recent: Arc<WorkerRecent>,
    /// The gateway's own time, for exchanges with a response from Citrix.
    pub(crate) overhead: Histogram,
    /// Upstream connections in use by a request.
    pub(crate) upstream_active: IntGauge,
    /// Upstream connections that wait for a request.
    pub(crate) upstream_idle: IntGauge,
}

impl WorkerMetrics {
    pub(super) fn register(
        registry: &Registry,
        workers: usize,
        recent: &Recent,
    ) -> Result<Vec<Self>, Error> {
        let shards = Shards { registry, workers };
        let routes = RouteFamilies::register(&shards)?;
        let help = "Responses that the gateway generated.";
        let errors = shards.counters("errors_total", help, &["reason"])?;
        let help = "Requests to retired addresses, by family.";
        let retired = shards.counters("retired_addresses_total", help, &["route"])?;
        let help = "Requests of callers in observe mode that their rules or limits do not permit.";
        let would_deny = shards.counters("policy_would_deny_total", help, &["caller"])?;
        let help = "Links in responses, by outcome.";
        let links = shards.counters("links_total", help, &["outcome"])?;
        let overhead = shards.register(|| {
            let help = "Time in the gateway alone, for exchanges with a response from Citrix.";
            let options = HistogramOpts::from(opts("overhead_seconds", help));
            Histogram::with_opts(options.buckets(OVERHEAD_BUCKETS.to_vec()))
        })?;
        let help = "Connections to Citrix.";
        let connections = shards.gauges("upstream_connections", help, &["state"])?;
        let workers = routes.into_iter().enumerate();
        let workers = workers.map(|(worker, routes)| Self {
            routes,
            errors: Reason::ALL
                .map(|each| errors[worker].with_label_values(&[each.as_str()]))
                .to_vec(),
            retired: legacy::FAMILIES
                .map(|each| retired[worker].with_label_values(&[each]))
                .to_vec(),
            would_deny: would_deny[worker].clone(),
            links: LinkCounters {
                rewritten: links[worker].with_label_values(&["rewritten"]),
                unknown: links[worker].with_label_values(&["unknown"]),
            },
            recent: recent.worker(worker),
            overhead: overhead[worker].clone(),
            upstream_active: connections[worker].with_label_values(&["active"]),
            upstream_idle: connections[worker].with_label_values(&["idle"]),
        });
        Ok(workers.collect())
    }

    /// Counts a response that the gateway generated.
    pub fn count_error(&self, reason: Reason) {
        let index = Reason::ALL.iter().position(|&each| each == reason);
        if let Some(counter) = index.and_then(|index| self.errors.get(index)) {
            counter.inc();
        }
    }

    /// Counts a request to a retired address. `family` is one of [`legacy::FAMILIES`].
    pub fn count_retired_address(&self, family: &str) {
        let index = legacy::FAMILIES.iter().position(|&each| each == family);
        if let Some(counter) = index.and_then(|index| self.retired.get(index)) {
            counter.inc();
        }
    }

    /// Returns the counter of requests that would be rejected if `caller` were not in observe mode.
    pub fn would_deny(&self, caller: &str) -> IntCounter {
        self.would_deny.with_label_values(&[caller])
    }

    /// Returns the metrics of one route. `unnamed` is the label of requests of none of `callers`.
    pub fn route(
        &self,
        route: &str,
        unnamed: &'static str,
        callers: &Rc<[String]>,
    ) -> RouteMetrics {
        RouteMetrics::new(&self.routes, route, unnamed, callers)
    }
}

/// Counters of links in responses.
#[derive(Clone)]
pub struct LinkCounters {
    rewritten: IntCounter,
    unknown: IntCounter,
}

impl LinkCounters {
    /// Adds the counts of a head or a body.
    pub fn add(&self, counts: LinkCounts) {
        self.rewritten.inc_by(counts.rewritten);
        self.unknown.inc_by(counts.unknown);
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::*;
    use crate::observe::metrics::{ANONYMOUS, Metrics};

    #[test]
    fn requests_are_labelled_by_route_method_code_and_caller() {
        let metrics = Metrics::new(2).unwrap();
        let worker = metrics.worker(1);
        let route = worker.route("/", ANONYMOUS, &Rc::from(["a".to_owned(), "b".to_owned()]));
        route.count(None, &Method::GET, StatusCode::OK);
        route.count(None, &Method::GET, StatusCode::OK);
        route.count(Some(1), &Method::GET, StatusCode::OK);
        route.count(
            None,
            &Method::from_bytes(b"BREW").unwrap(),
            StatusCode::from_u16(530).unwrap(),
        );
        route.count(None, &Method::GET, StatusCode::from_u16(999).unwrap());
        worker.count_error(Reason::Overloaded);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        let line = r#"citrix_auth_proxy_requests_total{caller="anonymous",code="200",method="GET",route="/"} 2"#;
        assert!(text.contains(line), "{text}");
        let line =
            r#"citrix_auth_proxy_requests_total{caller="b",code="200",method="GET",route="/"} 1"#;
        assert!(
            text.contains(line) && !text.contains(r#"caller="a""#),
            "{text}"
        );
        assert!(text.contains(r#"code="530",method="OTHER""#), "{text}");
        assert!(
            text.contains(r#"citrix_auth_proxy_errors_total{reason="overloaded"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"citrix_auth_proxy_errors_total{reason="no_route"} 0"#),
            "{text}"
        );
        assert!(text.contains("citrix_auth_proxy_build_info{"), "{text}");
    }
}
