//! Gateways that share a real store.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use citrix_emulator::Faults;
use futures_util::future::join_all;
use serde_json::Value;
use testkit::store::StoreServer;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Cloud, Gateway, OK, Upstream, get};

/// Returns the table `[fleet]` of a replica.
fn table(url: &str, replica: &str) -> String {
    format!(
        "[fleet]\nurl = '{url}'\nkey = '{}'\nlease = '2s'\ntimeout = '300ms'\n\
         replica = '{replica}'\n",
        "k".repeat(32),
    )
}

async fn fleet(gateway: &Gateway) -> Value {
    let status = gateway.admin(get("/status.json")).await.text();
    serde_json::from_str::<Value>(&status).unwrap()["fleet"].clone()
}

/// Waits until the fleet's status has `field` with `value`.
async fn wait_for(gateway: &Gateway, field: &str, value: impl Into<Value>) {
    let (value, end) = (value.into(), Instant::now() + Duration::from_secs(20));
    while fleet(gateway).await[field] != value {
        let status = fleet(gateway).await;
        assert!(Instant::now() < end, "{field} is not {value}: {status}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn status_follows_the_store() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let upstream = Upstream::responding(OK).await;
    let start = |name| {
        let plan = Gateway::in_front_of(&upstream);
        plan.with(&table(&server.url(), name)).start()
    };
    let (one, other) = (start("gateway-1").await, start("gateway-2").await);
    for gateway in [&one, &other] {
        wait_for(gateway, "state", "joined").await;
        wait_for(gateway, "replicas", 2).await;
        let store = server.socket().display().to_string();
        assert_eq!(fleet(gateway).await["store"], store);
    }
    other.into_app().drain(Duration::ZERO).await;
    wait_for(&one, "replicas", 1).await;
    drop(server);
    wait_for(&one, "state", "away").await;
    wait_for(&one, "state", "alone").await;
    assert_eq!(fleet(&one).await["store"], Value::Null);
}

/// Repeats the query of one poller, which no other shares, as long as there are `turns` for all of
/// them. Returns the statuses.
async fn poll(gateway: &Gateway, poller: usize, turns: &AtomicUsize) -> Vec<u16> {
    let query = format!("/monitorodata/Machines?$top=1&poller={poller}");
    let mut statuses = Vec::new();
    let take = || {
        turns.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        })
    };
    while take().is_ok() {
        let response = gateway.raw(get(&query)).await;
        statuses.push(response.status());
    }
    statuses
}

async fn joined(server: &StoreServer, cloud: &Cloud, count: usize) -> Vec<Gateway> {
    let start = |number| {
        let plan = Gateway::in_front_of_cloud(cloud);
        plan.with(&table(&server.url(), &format!("gateway-{number}")))
            .start()
    };
    let replicas = join_all((0..count).map(start)).await;
    for replica in &replicas {
        wait_for(replica, "replicas", count).await;
    }
    replicas
}

#[tokio::test]
async fn replicas_send_one_query_at_a_time_and_serve_evenly() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let cloud = Cloud::start().await;
    cloud.emulator.set_faults(Faults {
        monitor_latency: Duration::from_millis(20),
        ..Faults::default()
    });
    let replicas = joined(&server, &cloud, 3).await;
    let turns = AtomicUsize::new(60);
    let pollers = replicas
        .iter()
        .map(|replica| join_all((0..3).map(|poller| poll(replica, poller, &turns))));
    let counts = join_all(pollers).await.into_iter().map(|statuses| {
        let statuses = statuses.concat();
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        statuses.len()
    });
    let counts: Vec<usize> = counts.collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 4, "{counts:?}");
    assert_eq!(cloud.emulator.stats().monitor_rate_limited, 0);
    let text = replicas[0].metrics().await;
    let series = "citrix_auth_proxy_fleet_turns_total{by=\"store\",route=\"/monitorodata\"} ";
    let granted = text.lines().find_map(|line| line.strip_prefix(series));
    assert_eq!(granted.unwrap().parse(), Ok(counts[0]));
}

#[tokio::test]
async fn wait_that_citrix_requests_holds_for_all_replicas() {
    const REPLICAS: usize = 10;
    const LIMITED: &str =
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n";
    let Some(server) = StoreServer::start() else {
        return;
    };
    let script = |number| if number == 1 { LIMITED } else { OK }.into();
    let upstream = Upstream::scripted(script).await;
    let start = |number| {
        let plan = Gateway::in_front_of(&upstream);
        plan.with(&table(&server.url(), &format!("gateway-{number}")))
            .start()
    };
    let replicas = join_all((0..REPLICAS).map(start)).await;
    for replica in &replicas {
        wait_for(replica, "replicas", REPLICAS).await;
    }
    let began = Instant::now();
    let requests = join_all(
        replicas
            .iter()
            .enumerate()
            .map(|(number, replica)| async move {
                // The first is rejected before the others are sent.
                sleep(Duration::from_millis(500) * u32::from(number > 0)).await;
                replica.raw(get("/cvad/manage/me")).await.status()
            }),
    );
    let early = async {
        sleep(Duration::from_millis(4500)).await;
        upstream.take_requests().await.len()
    };
    let (statuses, early) = tokio::join!(requests, early);
    assert_eq!(statuses, [200; REPLICAS]);
    assert!(early <= 2, "{early}");
    assert!(
        began.elapsed() < Duration::from_secs(7),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn replaced_password_is_read_for_the_next_connection() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, "first").unwrap();
    assert_eq!(server.run("ACL SETUSER cap on >first ~* &* +@all"), "+OK");
    let upstream = Upstream::responding(OK).await;
    let url = server.url().replace("://", "://cap@");
    let text = format!(
        "{}password = {{ file = '{}' }}\n",
        table(&url, "gateway-1"),
        password.display()
    );
    let gateway = Gateway::in_front_of(&upstream).with(&text).start().await;
    wait_for(&gateway, "state", "joined").await;
    assert_eq!(server.run("ACL SETUSER cap resetpass >second"), "+OK");
    server.run("CLIENT KILL USER cap");
    wait_for(&gateway, "state", "alone").await;
    fs::write(&password, "second").unwrap();
    wait_for(&gateway, "state", "joined").await;
}

#[tokio::test]
async fn replicas_share_limits_under_a_key_that_a_reload_replaced() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let cloud = Cloud::start().await;
    let mut replicas = joined(&server, &cloud, 2).await;
    for (number, replica) in replicas.iter_mut().enumerate() {
        let text = table(&server.url(), &format!("gateway-{number}"));
        let text = text.replace(&"k".repeat(32), &"l".repeat(32));
        let changes = replica.reload(&text.replace("300ms", "200ms"));
        assert_eq!(changes.keys, ["fleet.key", "fleet.timeout"]);
        assert!(changes.restart_required.is_empty());
    }
    cloud.emulator.set_faults(Faults {
        monitor_latency: Duration::from_millis(20),
        ..Faults::default()
    });
    let request = || get("/monitorodata/Machines?$top=1");
    let requests = replicas.iter().map(|replica| async move {
        for _ in 0..5 {
            assert_eq!(replica.raw(request()).await.status(), 200);
        }
    });
    join_all(requests).await;
    assert_eq!(cloud.emulator.stats().monitor_rate_limited, 0);
}

#[tokio::test]
async fn node_of_a_cluster_that_holds_the_keys_is_used() {
    let Some([other, _holder]) = StoreServer::cluster() else {
        return;
    };
    let moved = other.run("GET key");
    let expected = moved.rsplit(' ').next().unwrap();
    let upstream = Upstream::responding(OK).await;
    let text = table(&other.url(), "gateway-1");
    let gateway = Gateway::in_front_of(&upstream).with(&text).start().await;
    wait_for(&gateway, "state", "joined").await;
    assert_eq!(fleet(&gateway).await["store"], expected);
}

#[tokio::test]
async fn rate_of_three_replicas_is_that_of_one() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let upstream = Upstream::responding(OK).await;
    let start = |number| {
        let text = table(&server.url(), &format!("gateway-{number}"));
        Gateway::in_front_of(&upstream).with(&text).start()
    };
    let replicas = join_all((0..3).map(start)).await;
    for replica in &replicas {
        wait_for(replica, "replicas", 3).await;
    }
    let end = Instant::now() + Duration::from_secs(2);
    let requests = replicas.iter().map(|replica| async move {
        let mut sent = 0;
        while Instant::now() < end {
            let response = replica.raw(get("/accessSecurity/x")).await;
            assert_eq!(response.status(), 200);
            sent += 1;
        }
        sent
    });
    let sent: usize = join_all(requests).await.into_iter().sum();
    // A burst of 15, and 15 a second.
    assert!((35..=50).contains(&sent), "{sent}");
}

#[tokio::test]
async fn caller_that_does_not_read_keeps_no_permit_for_which_another_replica_waits() {
    /// More than the buffers of the kernel.
    const LARGE: usize = 24 * 1024 * 1024;
    let Some(server) = StoreServer::start() else {
        return;
    };
    let upstream = Upstream::scripted_by_request(|_, request| {
        if !request.line().contains("large") {
            return OK.into();
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
        [head.into_bytes(), vec![b' '; LARGE]].concat()
    })
    .await;
    let start = |number| {
        let text = table(&server.url(), &format!("gateway-{number}"));
        Gateway::in_front_of(&upstream).with(&text).start()
    };
    let replicas = join_all((0..2).map(start)).await;
    for replica in &replicas {
        wait_for(replica, "replicas", 2).await;
    }
    let mut unread = replicas[0].connect().await;
    unread.write(get("/monitorodata/large")).await;
    assert!(upstream.request().await.line().contains("large"));
    let waits = timeout(
        Duration::from_secs(20),
        replicas[1].raw(get("/monitorodata/small")),
    );
    assert_eq!(waits.await.expect("served in time").status(), 200);
}
