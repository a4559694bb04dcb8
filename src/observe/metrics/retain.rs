//! Series of routes and callers that a reload took away: kept, they would grow in number with every reload.

use std::collections::HashMap;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

use super::{ANONYMOUS, Metrics, NONE};

impl Metrics {
    /// Drops the series whose route, or whose caller, is none of these.
    pub fn retain_series(&self, routes: &[&str], callers: &[&str]) {
        let is_known = |label: &str, value: &str| match label {
            "route" => value == NONE || routes.contains(&value),
            "caller" => value == NONE || value == ANONYMOUS || callers.contains(&value),
            _ => true,
        };
        retain(&self.replays, is_known);
        for worker in &self.workers {
            retain(&worker.requests, is_known);
            retain(&worker.request_duration, is_known);
            retain(&worker.upstream_duration, is_known);
            retain(&worker.queue_depth, is_known);
            retain(&worker.queue_wait, is_known);
            retain(&worker.would_deny, is_known);
        }
    }
}

fn retain<B: MetricVecBuilder>(of: &MetricVec<B>, is_known: impl Fn(&str, &str) -> bool) {
    let families = of.collect();
    for metric in families.iter().flat_map(|family| family.get_metric()) {
        let labels: HashMap<&str, &str> = metric
            .get_label()
            .iter()
            .map(|label| (label.name(), label.value()))
            .collect();
        if !labels.iter().all(|(label, value)| is_known(label, value)) {
            // An error means that it is gone already.
            let _ = of.remove(&labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use http::{Method, StatusCode};

    use super::*;

    #[test]
    fn series_of_what_is_gone_go_and_others_stay() {
        let metrics = Metrics::new(2).unwrap();
        let callers: Rc<[String]> = Rc::from(["kept".to_owned(), "gone".to_owned()]);
        for (number, name) in ["/kept", "/gone"].into_iter().enumerate() {
            let route = metrics.worker(number).route(name, ANONYMOUS, &callers);
            for caller in [None, Some(0), Some(1)] {
                route.count(caller, &Method::GET, StatusCode::OK);
            }
            route.duration().observe(1.0);
            route.queue().depth.inc();
            metrics.count_replay(name, crate::observe::metrics::ReplayOutcome::Accepted);
        }
        metrics.retain_series(&["/kept"], &["kept"]);
        let page = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert!(!page.contains("gone"), "{page}");
        let counted = page
            .lines()
            .filter(|line| line.starts_with("citrix_auth_proxy_requests_total"));
        assert_eq!(counted.count(), 2, "{page}");
        for kept in [
            "request_duration_seconds_count",
            "queue_depth",
            "replays_total",
        ] {
            assert!(page.contains(&format!("{kept}{{")), "{kept} in {page}");
        }
    }
}
