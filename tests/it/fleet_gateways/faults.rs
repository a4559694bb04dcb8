//! No request fails because of the store, and limits are exact again once it is back.

use testkit::store::{Network, SentinelSetup, StoreProxy};

use super::*;

/// Three busy replicas behind a network with faults.
struct Rig {
    server: StoreServer,
    proxy: StoreProxy,
    fleet: Fleet,
    gated: Load,
    ungated: Load,
}

impl Rig {
    async fn start() -> Option<Self> {
        Self::joined(TIMES).await
    }

    /// Starts replicas with times that a busy machine keeps as well.
    async fn with_long_times() -> Option<Self> {
        Self::joined("lease = '10s'\ntimeout = '1500ms'").await
    }

    async fn joined(times: &str) -> Option<Self> {
        let rig = Self::with(Network::Up, times).await?;
        rig.fleet.await_state("joined").await;
        rig.gated.each_served(1).await;
        Some(rig)
    }

    async fn with(network: Network, times: &str) -> Option<Self> {
        let server = StoreServer::with_debug()?;
        let proxy = StoreProxy::start(server.socket()).await;
        proxy.set(network);
        let fleet = Fleet::start(3, &proxy.url(), times).await;
        let gated = fleet.load(3, GATED);
        let ungated = fleet.load(1, UNGATED);
        Some(Self {
            server,
            proxy,
            fleet,
            gated,
            ungated,
        })
    }

    /// Waits until all act alone and serve.
    async fn serves_alone(&self) {
        self.fleet.await_outage().await;
        self.ungated.each_served(10).await;
        self.gated.each_served(1).await;
    }

    /// Waits until all have joined, and checks that limits are exact from then on.
    async fn becomes_exact(&self) {
        self.fleet.await_state("joined").await;
        // What was granted before ends.
        self.gated.each_served(1).await;
        let before = self.fleet.monitor().rate_limited;
        self.gated.each_served(3).await;
        assert_eq!(self.fleet.monitor().rate_limited, before);
    }

    /// Ends the load; no request may have failed.
    async fn end(self) {
        self.gated.ends_without_failure().await;
        self.ungated.ends_without_failure().await;
    }

    async fn ends_exact(self) {
        self.becomes_exact().await;
        self.end().await;
    }
}

#[tokio::test]
async fn store_that_is_refused_at_the_start_fails_no_request() {
    // Without the number, two of them might leave no time for requests of the third.
    let times = format!("{TIMES}\nreplicas = 3");
    let Some(rig) = Rig::with(Network::Refused, &times).await else {
        return;
    };
    rig.serves_alone().await;
    rig.proxy.set(Network::Up);
    rig.ends_exact().await;
}

#[tokio::test]
async fn killed_store_that_returns_empty_fails_no_request() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    rig.server.kill();
    rig.serves_alone().await;
    rig.server.restart();
    rig.ends_exact().await;
}

#[tokio::test]
async fn store_that_is_killed_for_less_than_a_lease_stays_exact() {
    let Some(mut rig) = Rig::with_long_times().await else {
        return;
    };
    rig.server.kill();
    rig.fleet.await_outage().await;
    rig.server.restart();
    rig.becomes_exact().await;
    let monitor = rig.fleet.monitor();
    assert_eq!((monitor.concurrency_peak, monitor.rate_limited), (1, 0));
    rig.end().await;
}

#[tokio::test]
async fn stopped_store_fails_no_request() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    rig.server.stop();
    rig.serves_alone().await;
    rig.server.resume();
    rig.ends_exact().await;
}

#[tokio::test]
async fn slow_store_that_is_faster_than_the_timeout_stays_exact() {
    let Some(rig) = Rig::with_long_times().await else {
        return;
    };
    rig.proxy.set(Network::Slow(Duration::from_millis(50)));
    rig.gated.each_served(2).await;
    let monitor = rig.fleet.monitor();
    assert_eq!((monitor.concurrency_peak, monitor.rate_limited), (1, 0));
    rig.proxy.set(Network::Up);
    rig.ends_exact().await;
}

#[tokio::test]
async fn store_that_is_slower_than_the_timeout_fails_no_request() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    rig.proxy.set(Network::Slow(Duration::from_millis(500)));
    rig.serves_alone().await;
    rig.proxy.set(Network::Up);
    rig.ends_exact().await;
}

#[tokio::test]
async fn half_open_connections_fail_no_request() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    rig.proxy.set(Network::BlackHole);
    rig.serves_alone().await;
    rig.proxy.set(Network::Up);
    rig.ends_exact().await;
}

#[tokio::test]
async fn unreliable_connections_fail_no_request() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    for _ in 0..3 {
        for network in [Network::Unreliable, Network::Up, Network::Reset] {
            rig.proxy.set(network);
            rig.ungated.each_served(3).await;
        }
    }
    rig.proxy.set(Network::Up);
    rig.ends_exact().await;
}

#[tokio::test]
async fn store_that_is_flushed_under_load_stays_exact() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    for command in ["FLUSHALL", "SCRIPT FLUSH", "DEBUG RELOAD", "FLUSHALL"] {
        assert_eq!(rig.server.run(command), "+OK", "{command}");
        rig.gated.each_served(1).await;
    }
    rig.becomes_exact().await;
    let monitor = rig.fleet.monitor();
    assert_eq!((monitor.concurrency_peak, monitor.rate_limited), (1, 0));
    rig.end().await;
}

#[tokio::test]
async fn store_that_reads_its_data_again_grants_nothing_twice_and_loses_no_token() {
    let Some(rig) = Rig::with_long_times().await else {
        return;
    };
    for _ in 0..10 {
        assert_eq!(rig.server.run("DEBUG RELOAD"), "+OK");
        rig.gated.each_served(1).await;
    }
    rig.fleet.await_state("joined").await;
    let monitor = rig.fleet.monitor();
    assert_eq!((monitor.concurrency_peak, monitor.rate_limited), (1, 0));
    assert_eq!(rig.fleet.cloud.emulator.stats().token_requests, 1);
    rig.end().await;
}

#[tokio::test]
async fn store_that_evicts_keys_fails_no_request() {
    const EVICT: &str = "EVAL \"local key = redis.call('RANDOMKEY') \
                         return key and redis.call('DEL', key) or 0\" 0";
    let Some(rig) = Rig::start().await else {
        return;
    };
    for _ in 0..50 {
        assert!(rig.server.run(EVICT).starts_with(':'));
        rig.ungated.each_served(1).await;
    }
    rig.ends_exact().await;
}

#[tokio::test]
async fn store_without_memory_or_writes_fails_no_request() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    assert_eq!(rig.server.run("CONFIG SET maxmemory 1"), "+OK");
    rig.serves_alone().await;
    assert_eq!(rig.server.run("CONFIG SET maxmemory 0"), "+OK");
    rig.becomes_exact().await;
    assert_eq!(rig.server.run("REPLICAOF 127.0.0.1 1"), "+OK");
    rig.serves_alone().await;
    assert_eq!(rig.server.run("REPLICAOF NO ONE"), "+OK");
    rig.ends_exact().await;
}

#[tokio::test]
async fn dropped_messages_fail_no_request() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    rig.proxy.set(Network::WithoutMessages);
    rig.gated.each_served(1).await;
    let monitor = rig.fleet.monitor();
    assert_eq!((monitor.concurrency_peak, monitor.rate_limited), (1, 0));
    rig.proxy.set(Network::Up);
    rig.ends_exact().await;
}

#[tokio::test]
async fn failover_that_is_shorter_than_a_lease_stays_exact() {
    let Some(mut setup) = SentinelSetup::start() else {
        return;
    };
    let settings = format!(
        "sentinels = ['127.0.0.1:{}']\nsentinel_master = '{}'\nlease = '10s'",
        setup.port,
        SentinelSetup::MASTER
    );
    let fleet = Fleet::joined(3, "redis://ignored.example.net", &settings).await;
    let load = fleet.load(3, GATED);
    load.each_served(1).await;
    setup.kill_primary();
    fleet.await_outage().await;
    fleet.await_state("joined").await;
    load.each_served(3).await;
    load.ends_without_failure().await;
    let monitor = fleet.monitor();
    assert_eq!((monitor.concurrency_peak, monitor.rate_limited), (1, 0));
}
