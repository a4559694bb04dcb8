//! Gateways that share logins through a real store.

use std::cell::Cell;
use std::time::Duration;

use citrix_auth_proxy::fleet::keys::NameKind;
use citrix_emulator::Options;
use citrix_wire::transaction_id;
use fleet_protocol::Name;
use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::store::StoreServer;
use tokio::time::{Instant, sleep};

use crate::harness::{Cloud, Gateway, OK, Plan, Upstream, get};
use crate::{callers, login};

const KEY: &str = "k";
const REPLICAS: usize = 6;
const RECORDS: &str = "/systemlog/records?Limit=1";

/// Returns the table `[fleet]`.
fn table(server: &StoreServer) -> String {
    format!(
        "[fleet]\nurl = 'redis+unix://{}'\nkey = '{}'\nlease = '2s'\ntimeout = '300ms'\n",
        server.socket().display(),
        KEY.repeat(32),
    )
}

fn plan(server: &StoreServer, cloud: &Cloud) -> Plan {
    Gateway::in_front_of_cloud(cloud).with(&table(server))
}

async fn start(server: &StoreServer, cloud: &Cloud, count: usize) -> Vec<Gateway> {
    join_all((0..count).map(|_| plan(server, cloud).start())).await
}

async fn status_of(gateway: &Gateway, path: &str) -> u16 {
    gateway.raw(get(path)).await.status()
}

async fn drain(gateway: Gateway) {
    gateway.into_app().drain(Duration::ZERO).await;
}

#[tokio::test]
async fn replicas_log_in_once_and_restarted_ones_not_at_all() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let cloud = Cloud::start().await;
    let mut replicas = start(&server, &cloud, REPLICAS).await;
    for replica in &replicas {
        assert_eq!(status_of(replica, RECORDS).await, 200);
    }
    assert_eq!(cloud.emulator.stats().token_requests, 1);
    for _ in 0..REPLICAS {
        drain(replicas.remove(0)).await;
        let restarted = plan(&server, &cloud).start().await;
        assert_eq!(status_of(&restarted, RECORDS).await, 200);
        replicas.push(restarted);
    }
    assert_eq!(cloud.emulator.stats().token_requests, 1);
}

#[tokio::test]
async fn replica_with_a_new_key_uses_the_token_of_those_with_the_previous_one() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let cloud = Cloud::start().await;
    let old = plan(&server, &cloud).start().await;
    assert_eq!(status_of(&old, RECORDS).await, 200);
    let (new_key, old_key) = ("n".repeat(32), KEY.repeat(32));
    let rotated = format!("key = '{new_key}'\nkey_previous = '{old_key}'");
    let rotated = table(&server).replace(&format!("key = '{old_key}'"), &rotated);
    let new = Gateway::in_front_of_cloud(&cloud)
        .with(&rotated)
        .start()
        .await;
    assert_eq!(status_of(&new, RECORDS).await, 200);
    assert_eq!(cloud.emulator.stats().token_requests, 1);
}

/// A token is in use for at least 60 % of its lifetime.
#[tokio::test]
async fn token_is_refreshed_by_one_login_of_all_replicas() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let lifetime = Duration::from_secs(5);
    let cloud = Cloud::with(Options {
        token_lifetime: lifetime,
        ..Options::default()
    })
    .await;
    let began = Instant::now();
    let replicas = start(&server, &cloud, REPLICAS).await;
    while cloud.emulator.stats().tokens_issued < 3 {
        for replica in &replicas {
            assert_eq!(status_of(replica, RECORDS).await, 200);
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() > 2 * lifetime.mul_f64(0.6));
}

#[tokio::test]
async fn revocation_under_load_causes_one_login_and_fails_no_request() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let cloud = Cloud::start().await;
    let replicas = start(&server, &cloud, REPLICAS).await;
    let (revoked, served) = (Cell::new(false), Cell::new(0));
    let poll = async |replica: &Gateway| {
        let mut after = 0;
        while after < 5 {
            assert_eq!(status_of(replica, RECORDS).await, 200);
            served.set(served.get() + 1);
            after += i32::from(revoked.get());
        }
    };
    let revoke = async {
        while served.get() < 5 * REPLICAS {
            sleep(Duration::from_millis(5)).await;
        }
        cloud.emulator.revoke_all();
        revoked.set(true);
    };
    tokio::join!(join_all(replicas.iter().map(poll)), revoke);
    assert_eq!(cloud.emulator.stats().tokens_issued, 2);
}

/// The logins of one replica start after 0, 1, 3 and 7 s, ±20 %.
#[tokio::test]
async fn invalid_secret_is_tried_as_often_as_by_one_replica() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let cloud = Cloud::start().await;
    let wrong = || plan(&server, &cloud).set("CITRIX_CLIENT_SECRET", "wrong");
    let replicas = join_all((0..REPLICAS).map(|_| wrong().start())).await;
    sleep(Duration::from_secs(5)).await;
    let tried = cloud.emulator.stats().token_requests;
    assert!((2..=4).contains(&tried), "{tried}");
    for replica in &replicas {
        assert_eq!(status_of(replica, RECORDS).await, 503);
    }
}

#[tokio::test]
async fn replica_without_the_store_logs_in_for_itself() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let upstream = Upstream::responding(OK).await;
    let table = table(&server);
    let start = || Gateway::in_front_of(&upstream).with(&table).start();
    let first = start().await;
    assert_eq!(status_of(&first, "/x").await, 200);
    drop(server);
    let second = start().await;
    for gateway in [&first, &second] {
        assert_eq!(status_of(gateway, "/x").await, 200);
        assert_eq!(gateway.logins.count(), 1);
    }
}

#[tokio::test]
async fn tokens_of_a_fleet_that_does_not_share_them_are_its_replicas_own() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let cloud = Cloud::start().await;
    let start = || plan(&server, &cloud).with("tokens = false").start();
    for replica in [start().await, start().await] {
        assert_eq!(status_of(&replica, RECORDS).await, 200);
    }
    assert_eq!(cloud.emulator.stats().token_requests, 2);
}

#[tokio::test]
async fn gateway_token_of_one_replica_is_valid_at_another() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let upstream = Upstream::responding(OK).await;
    let blocks = format!("{}{}", callers::block("a", "secret", ""), table(&server));
    let other_key = blocks.replace(&KEY.repeat(32), &"other-".repeat(6));
    let start = |blocks: &str| Gateway::in_front_of(&upstream).with(blocks).start();
    let issuer = start(&blocks).await;
    let token = login::token(&issuer, "a", "secret").await;
    for (blocks, status) in [(&blocks, 200), (&other_key, 401)] {
        let replica = start(blocks).await;
        let response = replica.raw(login::bearing(&token)).await;
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn transaction_of_another_replica_names_it() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let upstream = Upstream::responding(OK).await;
    let start = |name: &str| {
        let table = format!("{}replica = '{name}'", table(&server));
        Gateway::in_front_of(&upstream).with(&table).start()
    };
    let (owner, other) = (start("gateway-1").await, start("gateway-2").await);
    let response = owner.raw(get("/x")).await;
    let id = response.field("x-proxy-request-id").unwrap();
    let lookup = async |gateway: &Gateway, id: &str| {
        let response = gateway.admin(get(&format!("/transactions/{id}"))).await;
        let body: Value = serde_json::from_str(&response.text()).unwrap();
        (response.status(), body["owner"].clone())
    };
    let expected = json!({ "id": &id[28..], "replica": "gateway-1" });
    // Its description arrives in the store a moment after the start.
    let end = Instant::now() + Duration::from_secs(10);
    while lookup(&other, &id).await != (404, expected.clone()) {
        assert!(Instant::now() < end, "{:?}", lookup(&other, &id).await);
        sleep(Duration::from_millis(20)).await;
    }
    let unknown = transaction_id::generate();
    let unknown = unknown.to_str().unwrap();
    assert_eq!(lookup(&other, unknown).await, (404, Value::Null));
}

#[tokio::test]
async fn request_id_names_the_replica() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let upstream = Upstream::responding(OK).await;
    let start = || {
        Gateway::in_front_of(&upstream)
            .with(&table(&server))
            .start()
    };
    let mut named = Vec::new();
    for gateway in [start().await, start().await] {
        for _ in 0..2 {
            let response = gateway.raw(get("/x")).await;
            let id = response.field("x-proxy-request-id").unwrap();
            assert_eq!(response.field("citrix-transactionid").unwrap(), id);
            let sent = upstream.request().await.field("citrix-transactionid");
            assert_eq!(sent, Some(id.clone()));
            named.push(transaction_id::replica_of(&id).unwrap());
        }
        let fleet = gateway.app().shared().fleet.as_ref().unwrap();
        assert_eq!(named[named.len() - 2..], [fleet.replica().0; 2]);
    }
    assert_ne!(named[0], named[2]);
}

/// Returns the name of the emulator's credential in the store.
fn identity(gateway: &Gateway, cloud: &Cloud) -> Name {
    let (emulator, fleet) = (&cloud.emulator, gateway.app().shared().fleet.as_ref());
    let url = emulator.token_url(emulator.customer_id());
    let parts = [emulator.customer_id(), emulator.client_id(), &url];
    let keys = fleet.unwrap().keys();
    keys.name(NameKind::Identity, &parts.map(str::as_bytes))
}

#[tokio::test]
async fn damaged_record_is_counted_and_never_used() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let cloud = Cloud::start().await;
    let first = plan(&server, &cloud).start().await;
    assert_eq!(status_of(&first, RECORDS).await, 200);
    let key = format!("cap:1:{{default}}:t:{}", identity(&first, &cloud));
    // The token is in use a moment before it is in the store.
    while server.run(&format!("SET {key} damaged XX")) != "+OK" {
        sleep(Duration::from_millis(5)).await;
    }
    let second = plan(&server, &cloud).start().await;
    assert_eq!(status_of(&second, RECORDS).await, 200);
    assert_eq!(cloud.emulator.stats().token_requests, 2);
    let series = "citrix_auth_proxy_fleet_tokens_total{outcome=\"undecipherable\"} ";
    let text = second.metrics().await;
    let count = text.lines().find_map(|line| line.strip_prefix(series));
    assert!(count.unwrap().parse::<u32>().unwrap() > 0);
}

#[tokio::test]
async fn region_that_one_replica_learnt_is_used_by_another() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let eu = Upstream::responding(OK).await;
    let location = format!("{}/accessSecurity/x", eu.url());
    let moved = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    );
    let api = Upstream::scripted_by_request(move |_, _| moved.clone().into()).await;
    let eu_url = eu.url();
    let blocks = format!(
        "[[route]]\nprefix = '/region/eu'\nupstream = '{eu_url}'\n{}",
        table(&server)
    );
    let start = || Gateway::in_front_of(&api).with(&blocks).start();
    let first = start().await;
    assert_eq!(status_of(&first, "/accessSecurity/x").await, 200);
    api.request().await;
    let regions = async |gateway: &Gateway| gateway.admin(get("/regions")).await.text();
    // The region is in use a moment before it is in the store.
    let end = Instant::now() + Duration::from_secs(10);
    let second = loop {
        let second = start().await;
        sleep(Duration::from_millis(200)).await;
        if regions(&second).await.contains(&eu_url) {
            break second;
        }
        assert!(Instant::now() < end);
    };
    assert_eq!(status_of(&second, "/accessSecurity/y").await, 200);
    api.assert_no_more_requests().await;
}
