//! Removal of the series of routes and callers that a reload removed. Otherwise their number would
//! grow with each reload.

use std::collections::HashMap;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

use super::{ANONYMOUS, Metrics, NONE};

impl Metrics {
    /// Removes the series whose route or caller is not in the lists.
    pub fn retain_series(&self, routes: &[&str], callers: &[&str]) {
        let is_known = |label: &str, value: &str| match label {
            "route" => value == NONE || routes.contains(&value),
            "caller" => value == NONE || value == ANONYMOUS || callers.contains(&value),
            _ => true,
        };
        retain(&self.replays, is_known);
        for worker in &self.workers {
            retain(&worker.routes.requests, is_known);
            retain(&worker.routes.request_duration, is_known);
            retain(&worker.routes.upstream_duration, is_known);
            retain(&worker.routes.queue_depth, is_known);
            retain(&worker.routes.queue_wait, is_known);
            retain(&worker.routes.fleet_turns, is_known);
            retain(&worker.routes.collapsed, is_known);
            retain(&worker.would_deny, is_known);
        }
    }
}

fn retain<B: MetricVecBuilder>(vec: &MetricVec<B>, is_known: impl Fn(&str, &str) -> bool) {
    let families = vec.collect();
    for metric in families.iter().flat_map(|family| family.get_metric()) {
        let labels: HashMap<&str, &str> = metric
            .get_label()
            .iter()
            .map(|label| (label.name(), label.value()))
            .collect();
        if !labels.iter().all(|(label, value)| is_known(label, value)) {
            // Fails only if the series was removed meanwhile.
            let _ = vec.remove(&labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use http::{Method, StatusCode};

    use super::*;

    #[test]
    fn removed_route_or_caller_loses_its_series() {
        let metrics = Metrics::new(2).unwrap();
        let callers: Rc<[String]> = Rc::from(["kept".to_owned(), "removed".to_owned()]);
        for (number, name) in ["/kept", "/removed"].into_iter().enumerate() {
            let route = metrics.worker(number).route(name, ANONYMOUS, &callers);
            for caller in [None, Some(0), Some(1)] {
                route.count(caller, &Method::GET, StatusCode::OK);
            }
            route.duration().observe(1.0);
            route.queue().depth.inc();
            route.fleet_permits_alone().inc();
            route.fleet_permits_of_store().inc();
            route.collapsed().inc();
            metrics.count_replay(name, crate::observe::metrics::ReplayOutcome::Accepted);
        }
        metrics.retain_series(&["/kept"], &["kept"]);
        let page = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert!(!page.contains("removed"), "{page}");
        let counted = page
            .lines()
            .filter(|line| line.starts_with("citrix_auth_proxy_requests_total"));
        assert_eq!(counted.count(), 2, "{page}");
        for kept in [
            "request_duration_seconds_count",
            "queue_depth",
            "collapsed_total",
            "fleet_turns_total",
            "replays_total",
        ] {
            assert!(page.contains(&format!("{kept}{{")), "{kept} in {page}");
        }
    }
}
