//! Replicas that share a real store, as processes that are killed, stopped and drained.

use testkit::store::StoreServer;
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Wire, wait_until, within_timeout};

use crate::gateway::{Gateway, get};

const GATED: &str =
    "GET /monitorodata/Machines HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Two replicas: a request of the first is in progress, one of the second waits.
struct Pair {
    holder: Gateway,
    other: Gateway,
    /// The request of the first at the upstream, and its caller.
    in_progress: Wire,
    caller: Wire,
    waiting: Wire,
    upstream: Upstream,
    _server: StoreServer,
}

impl Pair {
    async fn start() -> Option<Self> {
        let server = StoreServer::start()?;
        let upstream = Upstream::manual().await;
        let url = server.url();
        let settings = [
            ("CITRIX_AUTH_PROXY_FLEET__URL", url.as_str()),
            (
                "CITRIX_AUTH_PROXY_FLEET__KEY",
                "k-of-32-bytes-or-more-0123456789",
            ),
            ("CITRIX_AUTH_PROXY_FLEET__LEASE", "2s"),
            ("CITRIX_AUTH_PROXY_FLEET__TIMEOUT", "300ms"),
        ];
        let holder = Gateway::in_front_of(&upstream, &settings).await;
        let other = Gateway::in_front_of(&upstream, &settings).await;
        for replica in [&holder, &other] {
            wait_until("both have joined", || async {
                fleet(replica).await["replicas"] == 2
            })
            .await;
        }
        let (mut caller, mut waiting) = (holder.connect().await, other.connect().await);
        caller.write(GATED).await;
        let mut in_progress = upstream.connection().await;
        in_progress.request().await;
        waiting.write(GATED).await;
        wait_until("the second waits", || async {
            let metrics = get(other.admin, "/metrics").await.text();
            metrics.contains("queue_depth{route=\"/monitorodata\"} 1\n")
        })
        .await;
        Some(Self {
            holder,
            other,
            in_progress,
            caller,
            waiting,
            upstream,
            _server: server,
        })
    }

    /// Responds to the request of the second, once it is sent.
    async fn other_is_served(&mut self) {
        let mut wire = self.upstream.connection().await;
        wire.request().await;
        wire.write(OK).await;
        assert_eq!(self.waiting.response().await.status(), 200);
    }
}

async fn fleet(replica: &Gateway) -> serde_json::Value {
    let status = get(replica.admin, "/status.json").await.text();
    serde_json::from_str::<serde_json::Value>(&status).unwrap()["fleet"].clone()
}

#[tokio::test]
async fn permit_of_a_killed_replica_is_passed_on_after_its_lease() {
    let Some(mut pair) = Pair::start().await else {
        return;
    };
    pair.holder.program.signal("KILL");
    pair.other_is_served().await;
    wait_until("one replica is left", || async {
        fleet(&pair.other).await["replicas"] == 1
    })
    .await;
}

#[tokio::test]
async fn permit_of_a_drained_replica_is_passed_on_and_the_replica_ends() {
    let Some(mut pair) = Pair::start().await else {
        return;
    };
    pair.holder.program.signal("TERM");
    pair.in_progress.write(OK).await;
    assert_eq!(pair.caller.response().await.status(), 200);
    pair.other_is_served().await;
    let holder = pair.holder;
    assert_eq!(holder.wait().await.code, Some(0));
    wait_until("one replica is left", || async {
        fleet(&pair.other).await["replicas"] == 1
    })
    .await;
}

#[tokio::test]
async fn replica_that_was_stopped_for_longer_than_its_lease_has_lost_its_permit() {
    let Some(mut pair) = Pair::start().await else {
        return;
    };
    pair.holder.program.signal("STOP");
    pair.other_is_served().await;
    pair.waiting = pair.other.connect().await;
    pair.waiting.write(GATED).await;
    let mut second = pair.upstream.connection().await;
    second.request().await;
    pair.holder.program.signal("CONT");
    wait_until("the permit is lost", || async {
        let metrics = within_timeout(get(pair.holder.admin, "/metrics")).await;
        let text = metrics.text();
        text.contains("citrix_auth_proxy_fleet_leases_lost_total 1\n")
    })
    .await;
    for (wire, caller) in [
        (&mut pair.in_progress, &mut pair.caller),
        (&mut second, &mut pair.waiting),
    ] {
        wire.write(OK).await;
        assert_eq!(caller.response().await.status(), 200);
    }
}
