//! Gateways that share a real store.

use std::time::Duration;

use serde_json::Value;
use testkit::store::StoreServer;
use tokio::time::{Instant, sleep};

use crate::harness::{Gateway, OK, Upstream, get};

/// Returns the table `[fleet]` of a replica.
fn table(server: &StoreServer, replica: &str) -> String {
    format!(
        "[fleet]\nurl = 'redis+unix://{}'\nkey = '{}'\nlease = '2s'\ntimeout = '300ms'\n\
         replica = '{replica}'\n",
        server.socket().display(),
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
        plan.with(&table(&server, name)).start()
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
