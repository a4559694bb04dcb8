//! Several replicas for one customer without a store (`[fleet] replicas`): no request fails because
//! of the others.

use std::cell::Cell;
use std::time::Duration;

use citrix_emulator::Faults;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Cloud, Gateway, OK, Upstream, get};

const REPLICAS: usize = 3;
const POLLERS: usize = 3;
/// Responses that each replica gets before the test ends.
const MIN_SERVED: usize = 5;
/// A replica that got fewer until then starves.
const DEADLINE: Duration = Duration::from_secs(60);

/// Repeats the query of one poller, which no other shares, at once until every replica is served.
/// Returns the statuses.
async fn poll(gateway: &Gateway, poller: usize, served: &[Cell<usize>], own: usize) -> Vec<u16> {
    let end = Instant::now() + DEADLINE;
    let query = format!("/monitorodata/Machines?poller={poller}");
    let mut statuses = Vec::new();
    while served.iter().any(|served| served.get() < MIN_SERVED) && Instant::now() < end {
        let response = gateway.raw(get(&query)).await;
        statuses.push(response.status());
        served[own].update(|served| served + 1);
    }
    statuses
}

/// Returns the permits that a gateway counted for Monitor OData.
async fn permits(gateway: &Gateway) -> usize {
    let series = "citrix_auth_proxy_fleet_turns_total{by=\"alone\",route=\"/monitorodata\"} ";
    let text = gateway.metrics().await;
    let value = text.lines().find_map(|line| line.strip_prefix(series));
    value.unwrap().parse().unwrap()
}

async fn status(gateway: &Gateway) -> Value {
    serde_json::from_str(&gateway.admin(get("/status.json")).await.text()).unwrap()
}

#[tokio::test]
async fn three_busy_replicas_fail_no_request_and_none_starves() {
    let cloud = Cloud::start().await;
    cloud.emulator.set_faults(Faults {
        monitor_latency: Duration::from_millis(50),
        ..Faults::default()
    });
    let start = |_| {
        let plan = Gateway::in_front_of_cloud(&cloud);
        plan.with("[fleet]\nreplicas = 3").start()
    };
    let replicas = join_all((0..REPLICAS).map(start)).await;
    let served = vec![Cell::new(0); REPLICAS];
    let served = served.as_slice();
    let pollers = replicas.iter().enumerate().map(|(own, replica)| {
        join_all((0..POLLERS).map(move |poller| poll(replica, poller, served, own)))
    });
    for (replica, statuses) in replicas.iter().zip(join_all(pollers).await) {
        let statuses = statuses.concat();
        assert!(statuses.len() >= MIN_SERVED, "{statuses:?}");
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        assert_eq!(permits(replica).await, statuses.len());
    }
    assert!(cloud.emulator.stats().monitor_rate_limited > 0);
}

#[tokio::test]
async fn status_states_how_many_replicas_act_alone() {
    let upstream = Upstream::responding(OK).await;
    let plan = Gateway::in_front_of(&upstream);
    let mut gateway = plan
        .with("[fleet]\nreplicas = 3\nreplica = 'gateway-1'")
        .start()
        .await;
    let expected = |replicas| json!({ "state": "alone", "replica": "gateway-1", "replicas": replicas, "store": null });
    assert_eq!(status(&gateway).await["fleet"], expected(3));
    let changes = gateway.reload("[fleet]\nreplicas = 5\nreplica = 'gateway-1'");
    assert_eq!(changes.keys, ["fleet.replicas"]);
    assert_eq!(status(&gateway).await["fleet"], expected(5));
    let changes = gateway.reload("[fleet]\nreplicas = 5\nreplica = 'other'");
    assert_eq!(changes.restart_required, ["fleet.replica"]);
    assert_eq!(status(&gateway).await["fleet"], expected(5));
    gateway.reload("");
    assert_eq!(status(&gateway).await.get("fleet"), None);
}
