//! One request at a time at Citrix, fair between callers of all replicas.

use std::net::Ipv4Addr;

use super::load::request;
use super::*;

const REPLICAS: usize = 3;
const POLLERS: usize = 7;

#[tokio::test]
async fn citrix_never_sees_two_requests_and_callers_of_all_replicas_are_served_alike() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let fleet = Fleet::joined(REPLICAS, &server.url(), TIMES).await;
    let load = fleet.load(POLLERS, GATED);
    load.each_served(5).await;
    let mut served = load.served();
    served.sort_unstable();
    load.ends_without_failure().await;
    let monitor = fleet.monitor();
    assert_eq!((monitor.concurrency_peak, monitor.rate_limited), (1, 0));
    let (least, greatest) = (served[0], served[served.len() - 1]);
    assert!(greatest - least <= 2, "{served:?}");
    for replica in &fleet.replicas {
        let by = |by| format!("fleet_turns_total{{by=\"{by}\",route=\"/monitorodata\"}}");
        assert!(metric(replica, &by("store")).await >= 35.0);
        assert_eq!(metric(replica, &by("alone")).await, 0.0);
    }
}

#[tokio::test]
async fn caller_with_many_requests_on_all_replicas_delays_another_by_two_permits() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let fleet = Fleet::joined(REPLICAS, &server.url(), TIMES).await;
    let addresses = fleet.replicas.iter().map(Gateway::address);
    let addresses: Vec<_> = addresses.map(|text| text.parse().unwrap()).collect();
    let busy = Ipv4Addr::new(127, 0, 2, 1);
    let mut pages = tokio::task::JoinSet::new();
    for page in 0..20 * REPLICAS {
        let target = addresses[page % REPLICAS];
        let path = format!("{GATED}&page={page}");
        pages.spawn(async move { request(target, busy, &path).await });
    }
    wait_until("the pages are served", || async {
        fleet.monitor().requests >= 5
    })
    .await;
    for (number, target) in (2..).zip(addresses) {
        let before = fleet.monitor().requests;
        let other = Ipv4Addr::new(127, 0, 2, number);
        assert_eq!(request(target, other, GATED).await, Some(200));
        let permits = fleet.monitor().requests - before;
        // Two others, its own, and the one that follows before this count.
        assert!(permits <= 4, "{permits}");
    }
    let statuses = pages.join_all().await;
    assert!(
        statuses.iter().all(|status| *status == Some(200)),
        "{statuses:?}"
    );
    assert_eq!(fleet.monitor().concurrency_peak, 1);
}

#[tokio::test]
async fn ungated_requests_send_no_command() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    // No heartbeat is due during the test.
    let fleet = Fleet::joined(1, &server.url(), "lease = '60s'").await;
    let load = fleet.load(2, UNGATED);
    load.each_served(5).await;
    let scripts = || server.calls().get("evalsha").copied();
    let before = scripts();
    load.each_served(50).await;
    assert_eq!(scripts(), before);
    load.ends_without_failure().await;
    // Granted after the grace period of a new fleet.
    let mut waiting = fleet.replicas[0].connect().await;
    waiting.write(get(GATED)).await;
    wait_until("a gated request sends one", || async { scripts() > before }).await;
}

#[tokio::test]
async fn drained_replica_passes_its_permits_on() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let mut fleet = Fleet::joined(2, &server.url(), "").await;
    fleet.cloud.emulator.set_faults(Faults {
        monitor_latency: Duration::from_millis(300),
        ..Faults::default()
    });
    let load = fleet.load(3, GATED);
    load.each_served(1).await;
    let drained = fleet.replicas.remove(1).into_app();
    drained.drain(Duration::from_secs(20)).await;
    let replica = &fleet.replicas[0];
    wait_until("one replica is left", || async {
        status(replica).await["fleet"]["replicas"] == 1
    })
    .await;
    load.ends_without_failure().await;
    assert_eq!(fleet.monitor().concurrency_peak, 1);
}
