//! The list of replicas (`GET /fleet`), and the metrics of a fleet.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::store::StoreServer;
use tokio::time::{Instant, sleep};

use crate::harness::{Gateway, OK, Upstream, get};

const DEADLINE: Duration = Duration::from_secs(20);

/// Returns the table `[fleet]` of a replica.
fn table(server: &StoreServer, replica: &str, key: char) -> String {
    format!(
        "[fleet]\nurl = '{}'\nkey = '{}'\nlease = '2s'\ntimeout = '300ms'\nreplica = '{replica}'\n",
        server.url(),
        key.to_string().repeat(32),
    )
}

async fn document(gateway: &Gateway, path: &str) -> Value {
    serde_json::from_str(&gateway.admin(get(path)).await.text()).unwrap()
}

/// Waits until `GET /fleet` satisfies `condition`, and returns it.
async fn wait_for(gateway: &Gateway, condition: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + DEADLINE;
    loop {
        let fleet = document(gateway, "/fleet").await;
        if condition(&fleet) {
            return fleet;
        }
        assert!(Instant::now() < end, "{fleet:#}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a metric has a value.
async fn wait_for_series(gateway: &Gateway, series: &str) {
    let (line, end) = (
        format!("\ncitrix_auth_proxy_{series}\n"),
        Instant::now() + DEADLINE,
    );
    loop {
        let metrics = gateway.metrics().await;
        if metrics.contains(&line) {
            return;
        }
        assert!(Instant::now() < end, "{series} in {metrics}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn names(fleet: &Value) -> Vec<&str> {
    let replicas = fleet["replicas"].as_array();
    let replicas = replicas.into_iter().flatten();
    replicas.filter_map(|one| one["name"].as_str()).collect()
}

#[tokio::test]
async fn each_replica_lists_all_and_the_holder_of_a_permit() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let held = Upstream::manual().await;
    let start = |name| {
        let route = "[[route]]\nprefix = '/held'\nmax_concurrent = 1\nupstream = ";
        let plan = Gateway::in_front_of(&held).with(&format!("{route}'{}'", held.url()));
        plan.with(&table(&server, name, 'k')).start()
    };
    let (one, other) = (start("gateway-1").await, start("gateway-2").await);
    for gateway in [&one, &other] {
        let fleet = wait_for(gateway, |fleet| names(fleet).len() == 2).await;
        assert_eq!(names(&fleet), ["gateway-1", "gateway-2"]);
        assert_eq!(
            (&fleet["format"], &fleet["state"]),
            (&json!(1), &json!("joined"))
        );
        assert_eq!(fleet["queues"], json!([]));
        for replica in fleet["replicas"].as_array().unwrap() {
            assert_eq!(replica["version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(
                (&replica["key"], &replica["phase"]),
                (&json!("same"), &json!("running"))
            );
            assert!(
                replica["last_heartbeat_s"].as_f64().unwrap() < 2.0,
                "{replica}"
            );
            assert_eq!(replica["this"], replica["id"] == fleet["id"]);
        }
    }
    let mut caller = one.connect().await;
    caller.write(get("/held")).await;
    let mut wire = held.connection().await;
    wire.request().await;
    let fleet = wait_for(&other, |fleet| fleet["queues"] != json!([])).await;
    let queue = &fleet["queues"][0];
    assert_eq!(queue["holders"][0]["name"], "gateway-1", "{queue}");
    assert_eq!(
        (&queue["at_once"], &queue["waiting"]),
        (&json!(1), &json!(0))
    );
    wire.write(OK).await;
    caller.response().await;
    wait_for(&other, |fleet| fleet["queues"] == json!([])).await;
}

#[tokio::test]
async fn replica_with_another_key_is_reported_everywhere() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let upstream = Upstream::responding(OK).await;
    let start = |name, key| {
        let plan = Gateway::in_front_of(&upstream);
        plan.with(&table(&server, name, key)).start()
    };
    let (one, other) = (start("gateway-1", 'k').await, start("gateway-2", 'x').await);
    let differs = |fleet: &Value| fleet["differ"].as_array().unwrap().contains(&json!("key"));
    let fleet = wait_for(&one, differs).await;
    let replicas = fleet["replicas"].as_array().unwrap();
    let foreign = replicas
        .iter()
        .find(|replica| replica["key"] == "differs")
        .unwrap();
    assert_eq!(foreign.get("name"), None, "{foreign}");
    for gateway in [&one, &other] {
        wait_for_series(gateway, "fleet_key_differs 1").await;
        let status = document(gateway, "/status.json").await;
        let alerts = status["alerts"].as_array().unwrap();
        let mut kinds = alerts.iter().map(|alert| alert["kind"].as_str().unwrap());
        assert!(kinds.any(|kind| kind == "fleet_keys_differ"), "{status}");
    }
    drop(other);
}

#[tokio::test]
async fn metrics_of_a_fleet_are_exposed_with_a_store_only() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let upstream = Upstream::responding(OK).await;
    let plan = Gateway::in_front_of(&upstream);
    let gateway = plan.with(&table(&server, "gateway-1", 'k')).start().await;
    wait_for(&gateway, |fleet| names(fleet) == ["gateway-1"]).await;
    let metrics = gateway.metrics().await;
    for series in [
        "fleet_joined 1",
        "fleet_replicas 1",
        "fleet_key_differs 0",
        "fleet_leases_lost_total 0",
        "fleet_tokens_total{outcome=\"undecipherable\"} 0",
        "fleet_gates_total{from=\"here\"} 0",
        "fleet_gates_total{from=\"there\"} 0",
    ] {
        let line = format!("\ncitrix_auth_proxy_{series}\n");
        assert!(metrics.contains(&line), "{series} in {metrics}");
    }
    assert!(
        !metrics.contains("fleet_store_seconds_count 0\n"),
        "{metrics}"
    );
    drop(server);
    wait_for(&gateway, |fleet| fleet["state"] == "alone").await;
    let fleet = document(&gateway, "/fleet").await;
    assert_eq!(
        (&fleet["replicas"], &fleet["store"]),
        (&Value::Null, &Value::Null)
    );
    let metrics = gateway.metrics().await;
    assert!(
        metrics.contains("\ncitrix_auth_proxy_fleet_joined 0\n"),
        "{metrics}"
    );
    let status = document(&gateway, "/status.json").await;
    assert_eq!(status["alerts"][0]["kind"], "fleet_away", "{status}");

    let without = Gateway::in_front_of(&upstream).start().await;
    assert_eq!(without.admin(get("/fleet")).await.status(), 404);
    assert!(
        !without
            .metrics()
            .await
            .contains("citrix_auth_proxy_fleet_joined")
    );
}

#[tokio::test]
async fn wait_that_citrix_requests_is_counted_here_and_there_once() {
    const BUSY: &str =
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n";
    let Some(server) = StoreServer::start() else {
        return;
    };
    let upstream = Upstream::scripted_by_request(|_, request| {
        if request.line().contains("/busy") {
            BUSY
        } else {
            OK
        }
        .into()
    })
    .await;
    let start = |name| {
        let plan = Gateway::in_front_of(&upstream);
        plan.with(&table(&server, name, 'k')).start()
    };
    let (one, other) = (start("gateway-1").await, start("gateway-2").await);
    for gateway in [&one, &other] {
        wait_for(gateway, |fleet| names(fleet).len() == 2).await;
    }
    assert_eq!(one.raw(get("/busy")).await.status(), 429);
    let count = async |gateway: &Gateway, from: &str| {
        let series = format!("citrix_auth_proxy_fleet_gates_total{{from=\"{from}\"}} ");
        let text = gateway.metrics().await;
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap().to_owned()
    };
    wait_for_series(&other, "fleet_gates_total{from=\"there\"} 1").await;
    let counts = [
        (count(&one, "here").await, count(&one, "there").await),
        (count(&other, "here").await, count(&other, "there").await),
    ];
    let expected =
        [("1", "0"), ("0", "1")].map(|(here, there)| (here.to_owned(), there.to_owned()));
    assert_eq!(counts, expected);
}
