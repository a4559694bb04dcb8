//! Gateways that share a real store.

mod access;
mod faults;
mod gates;
mod load;
mod permits;
mod privacy;

use std::time::Duration;

use citrix_emulator::{Faults, ServiceStats};
use futures_util::future::join_all;
use serde_json::Value;
use testkit::store::StoreServer;

use crate::harness::{Cloud, Gateway, Plan, get, wait_until};
use load::Load;

/// The key of every fleet in these tests.
const KEY: &str = "c4nary-fleet-key-of-32-bytes-or-more";
/// A path of a service that permits one request at a time, and one of a service without a limit.
const GATED: &str = "/monitorodata/Machines?$top=1";
const UNGATED: &str = "/systemlog/records?limit=1";
/// A response that closes a gate.
const LIMITED: &str =
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
/// Time that Citrix needs for a query.
const QUERY: Duration = Duration::from_millis(20);
/// The shortest permitted times, so that tests take little time.
const TIMES: &str = "lease = '2s'\ntimeout = '300ms'";

/// Gateways in front of one cloud.
struct Fleet {
    cloud: Cloud,
    replicas: Vec<Gateway>,
}

impl Fleet {
    /// Starts replicas and waits until they have joined.
    async fn joined(count: usize, url: &str, times: &str) -> Self {
        let fleet = Self::start(count, url, times).await;
        fleet.await_state("joined").await;
        fleet
    }

    async fn start(count: usize, url: &str, times: &str) -> Self {
        let cloud = Cloud::start().await;
        cloud.emulator.set_faults(Faults {
            monitor_latency: QUERY,
            ..Faults::default()
        });
        let settings = format!("[fleet]\nurl = '{url}'\n{times}");
        let start = |_| sharing(Gateway::in_front_of_cloud(&cloud), &settings).start();
        let replicas = join_all((0..count).map(start)).await;
        Self { cloud, replicas }
    }

    /// Waits until every replica has a state.
    async fn await_state(&self, expected: &str) {
        for replica in &self.replicas {
            await_state(replica, expected).await;
        }
    }

    /// Waits until no replica has joined any more.
    async fn await_outage(&self) {
        for replica in &self.replicas {
            wait_until("the store is away", || async {
                state(replica).await != "joined"
            })
            .await;
        }
    }

    fn load(&self, pollers: usize, path: &'static str) -> Load {
        Load::start(&self.replicas, pollers, path)
    }

    /// Returns what Citrix counted for Monitor OData.
    fn monitor(&self) -> ServiceStats {
        let stats = self.cloud.emulator.stats();
        let customer = &stats.customers[self.cloud.emulator.customer_id()];
        customer
            .services
            .get("monitor")
            .copied()
            .unwrap_or_default()
    }
}

/// Adds `[fleet]` and its key to a plan.
fn sharing(plan: Plan, settings: &str) -> Plan {
    plan.with(settings).set("CITRIX_AUTH_PROXY_FLEET__KEY", KEY)
}

async fn status(gateway: &Gateway) -> Value {
    serde_json::from_str(&gateway.admin(get("/status.json")).await.text()).unwrap()
}

async fn state(gateway: &Gateway) -> String {
    let status = status(gateway).await;
    status["fleet"]["state"].as_str().unwrap().to_owned()
}

async fn await_state(gateway: &Gateway, expected: &str) {
    wait_until(expected, || async { state(gateway).await == expected }).await;
}

/// Returns the value of a metric series.
async fn metric(gateway: &Gateway, series: &str) -> f64 {
    let series = format!("citrix_auth_proxy_{series} ");
    let text = gateway.metrics().await;
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0.0, |value| value.parse().unwrap())
}
