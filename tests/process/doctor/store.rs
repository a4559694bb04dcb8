//! The fleet's store: each obstacle has one plain line, which a running gateway logs too.

use std::time::Duration;

use serde_json::Value;
use testkit::pki::TestCa;
use testkit::store::{SentinelSetup, StoreProxy, StoreServer};
use testkit::upstream::Upstream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::Findings;
use crate::cloud::Cloud;
use crate::gateway::{Gateway, environment, get};
use testkit::token_endpoint::TokenEndpoint;

const URL: &str = "CITRIX_AUTH_PROXY_FLEET__URL";
const KEY: &str = "CITRIX_AUTH_PROXY_FLEET__KEY";
const PASSWORD: &str = "CITRIX_AUTH_PROXY_FLEET__PASSWORD";
const CA_FILE: &str = "CITRIX_AUTH_PROXY_FLEET__TLS__CA_FILE";
const SECRET_KEY: &str = "c4nary-fleet-key-0123456789abcdef";
const OTHER_KEY: &str = "c4nary-other-key-0123456789abcdef";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Runs the doctor with a store at `url`; its other checks pass.
async fn examine(cloud: &Cloud, url: &str, more: &[(&str, &str)]) -> Findings {
    let mut settings = cloud.settings();
    settings.extend([(URL, url), (KEY, SECRET_KEY)]);
    settings.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    settings.extend(more);
    Findings::of(&settings).await
}

/// Returns the checks of the store, which come last.
fn of_store(found: &Findings) -> Vec<(&str, &str)> {
    let states = found.states();
    let site = states.iter().rposition(|(kind, _)| *kind == "site");
    states[site.unwrap() + 1..].to_vec()
}

/// Returns detail and advice of the last check of `kind`, which must be in `state`.
#[track_caller]
fn last(found: &Findings, kind: &str, state: &str) -> String {
    let check = found.checks.iter().rfind(|check| check["check"] == kind);
    let check = check.unwrap_or_else(|| panic!("no {kind} in {found:#?}"));
    assert_eq!(check["state"], state, "{check}");
    let text = |name: &str| check[name].as_str().unwrap_or_default();
    format!("{} | {}", text("detail"), text("advice"))
}

/// Asserts that a step failed with the texts, and that the others of Citrix passed.
#[track_caller]
fn assert_fails(found: &Findings, kind: &str, texts: &[&str]) {
    let line = last(found, kind, "failed");
    for text in texts {
        assert!(line.contains(text), "{text:?} is not in {line:?}");
    }
    let failed = found
        .states()
        .iter()
        .filter(|(_, state)| *state == "failed")
        .count();
    assert_eq!((failed, found.code()), (1, 1), "{found:#?}");
}

#[tokio::test]
async fn usable_store_has_an_ok_line_for_each_step() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let cloud = Cloud::start(&[]).await;
    let found = examine(&cloud, &server.url(), &[]).await;
    let steps = [
        "tcp", "auth", "role", "commands", "eviction", "skew", "records", "replicas",
    ];
    let expected: Vec<_> = steps.iter().map(|step| (*step, "ok")).collect();
    assert_eq!(
        (of_store(&found), found.code()),
        (expected, 0),
        "{found:#?}"
    );
    assert!(last(&found, "commands", "ok").contains("20 commands"));
    assert!(last(&found, "eviction", "ok").starts_with("noeviction (version "));
    // Nothing remains.
    assert_eq!(server.run("DBSIZE"), ":0");
}

#[tokio::test]
async fn replicas_are_listed_and_another_key_is_reported() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let cloud = Cloud::start(&[]).await;
    let replica = |name, key| {
        let cloud = &cloud;
        let url = server.url();
        async move {
            let name = ("CITRIX_AUTH_PROXY_FLEET__REPLICA", name);
            cloud.gateway(&[(URL, &url), (KEY, key), name]).await
        }
    };
    let _one = replica("gateway-1", SECRET_KEY).await;
    let end = Instant::now() + Duration::from_secs(30);
    let joined = async |count: usize| loop {
        assert!(Instant::now() < end, "{count} replicas do not join");
        let found = examine(&cloud, &server.url(), &[]).await;
        let records = found
            .checks
            .iter()
            .rfind(|check| check["check"] == "records");
        if records.unwrap()["facts"]["records"] == count {
            return found;
        }
        sleep(Duration::from_millis(50)).await;
    };
    let found = joined(1).await;
    assert!(
        last(&found, "replicas", "ok").contains("1 joined: gateway-1 ("),
        "{found:#?}"
    );
    assert!(last(&found, "records", "ok").contains("opens all: replicas 1"));
    let _other = replica("gateway-2", OTHER_KEY).await;
    let found = joined(2).await;
    assert_fails(
        &found,
        "records",
        &["1 of 2 replicas", "another key", "fleet.key_previous"],
    );
    let previous = ("CITRIX_AUTH_PROXY_FLEET__KEY_PREVIOUS", OTHER_KEY);
    let found = examine(&cloud, &server.url(), &[previous]).await;
    last(&found, "records", "ok");
}

#[tokio::test]
async fn wrong_password_and_missing_password_are_distinguished() {
    let Some(server) = StoreServer::with(&["--requirepass", "right"]) else {
        return;
    };
    let cloud = Cloud::start(&[]).await;
    let found = examine(&cloud, &server.url(), &[(PASSWORD, "c4nary")]).await;
    assert_fails(
        &found,
        "auth",
        &["rejects the user or the password", "fleet.password"],
    );
    let found = examine(&cloud, &server.url(), &[]).await;
    assert_fails(
        &found,
        "auth",
        &["requires a password", "set fleet.password"],
    );
    let found = examine(&cloud, &server.url(), &[(PASSWORD, "right")]).await;
    assert!(last(&found, "auth", "ok").contains("user default, with a password"));
}

#[tokio::test]
async fn each_command_that_the_acl_forbids_is_named() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let cloud = Cloud::start(&[]).await;
    let url = server.url().replace("redis+unix://", "redis+unix://cap@");
    let user = async |rules: &str| {
        let all = "ACL SETUSER cap reset on >right ~cap:1:{default}:* &cap:1:{default}:* +@all";
        assert_eq!(server.run(&format!("{all} {rules}")), "+OK");
        examine(&cloud, &url, &[(PASSWORD, "right")]).await
    };
    let found = user("").await;
    assert_eq!(found.code(), 0, "{found:#?}");
    let found = user("-zcount").await;
    assert_fails(
        &found,
        "commands",
        &["may not run zcount", "add +zcount to the ACL"],
    );
    let found = user("-hmget -subscribe -publish -evalsha").await;
    let rules = "+evalsha +subscribe +publish +hmget";
    assert_fails(
        &found,
        "commands",
        &["evalsha, subscribe, publish, hmget", rules],
    );
    let found = user("resetkeys ~other:*").await;
    assert_fails(
        &found,
        "commands",
        &["may not access the fleet's keys", "cap:1:{NAME}:*"],
    );
    let found = user("resetchannels &other:*").await;
    assert_fails(&found, "commands", &["may not access the fleet's channels"]);
    let found = user("-info -role").await;
    last(&found, "role", "warning");
    last(&found, "eviction", "skipped");
    assert_eq!(found.code(), 0, "{found:#?}");
}

#[tokio::test]
async fn user_with_the_documented_rights_passes() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let page = include_str!("../../../docs/fleet.md");
    let (_, rules) = page.split_once("redis-cli ACL SETUSER gateway").unwrap();
    let rules = rules.split("redis-cli").next().unwrap();
    let rules = rules
        .replace(['\'', '\\', '\n'], " ")
        .replace("PASSWORD", "right");
    assert_eq!(server.run(&format!("ACL SETUSER gateway {rules}")), "+OK");
    let cloud = Cloud::start(&[]).await;
    let url = server
        .url()
        .replace("redis+unix://", "redis+unix://gateway@");
    let found = examine(&cloud, &url, &[(PASSWORD, "right")]).await;
    let passed = of_store(&found).iter().all(|(_, state)| *state == "ok");
    assert!(passed && found.code() == 0, "{found:#?}");
}

#[tokio::test]
async fn replica_in_place_of_the_primary_is_named() {
    let Some(server) = StoreServer::with(&["--replicaof", "127.0.0.1", "1"]) else {
        return;
    };
    let cloud = Cloud::start(&[]).await;
    let found = examine(&cloud, &server.url(), &[]).await;
    assert_fails(
        &found,
        "role",
        &["a replica of 127.0.0.1:1", "fleet.sentinels"],
    );
    assert!(of_store(&found).contains(&("commands", "skipped")));
}

#[tokio::test]
async fn evicting_store_is_a_warning() {
    let Some(server) = StoreServer::with(&["--maxmemory-policy", "allkeys-lru"]) else {
        return;
    };
    let cloud = Cloud::start(&[]).await;
    let found = examine(&cloud, &server.url(), &[]).await;
    let line = last(&found, "eviction", "warning");
    assert!(
        line.starts_with("allkeys-lru") && line.contains("noeviction"),
        "{line}"
    );
    assert_eq!(found.code(), 0);
}

#[tokio::test]
async fn web_server_and_closed_port_are_named() {
    let cloud = Cloud::start(&[]).await;
    let url = web_server().await;
    let found = examine(&cloud, &url, &[]).await;
    assert_fails(
        &found,
        "auth",
        &["a web server responds at this port", "fleet.url"],
    );
    let found = examine(&cloud, &url.replace("redis:", "rediss:"), &[]).await;
    assert_fails(
        &found,
        "tls",
        &["a web server responds at this port", "fleet.url"],
    );
    let found = examine(&cloud, "redis+unix:///nonexistent/socket", &[]).await;
    assert_fails(&found, "tcp", &["no connection", "No such file"]);
    assert!(of_store(&found).contains(&("replicas", "skipped")));
}

#[tokio::test]
async fn tls_faults_name_what_to_set() {
    let (ca, other) = (TestCa::new("store authority"), TestCa::new("other"));
    let Some(server) = StoreServer::with_tls(&ca, &ca.issue("localhost", &["localhost"])) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, ca: &TestCa| {
        let path = folder.path().join(name);
        std::fs::write(&path, ca.pem()).unwrap();
        path.display().to_string()
    };
    let (own, foreign) = (file("own.pem", &ca), file("other.pem", &other));
    let cloud = Cloud::start(&[]).await;
    let url = format!("rediss://localhost:{}", server.tls_port());
    let found = examine(&cloud, &url, &[(CA_FILE, &own)]).await;
    assert!(
        last(&found, "tls", "ok").contains("signed by CN=store authority"),
        "{found:#?}"
    );
    assert_eq!(found.code(), 0, "{found:#?}");
    let found = examine(&cloud, &url, &[(CA_FILE, &foreign)]).await;
    let texts = [
        "issuer is not trusted",
        "CN=store authority",
        "fleet.tls.ca_file",
    ];
    assert_fails(&found, "tls", &texts);
    let address = url.replace("localhost", "127.0.0.1");
    let found = examine(&cloud, &address, &[(CA_FILE, &own)]).await;
    assert_fails(
        &found,
        "tls",
        &["for another host", "a host name in fleet.url"],
    );
    let plain = url.replace("rediss:", "redis:");
    let found = examine(&cloud, &plain, &[]).await;
    assert_fails(&found, "auth", &["rediss"]);
    let proxy = StoreProxy::start(server.socket()).await;
    let found = examine(&cloud, &format!("rediss://localhost:{}", proxy.port()), &[]).await;
    assert_fails(
        &found,
        "tls",
        &["does not use TLS at this port", "tls-port"],
    );
}

#[tokio::test]
async fn sentinels_name_the_primary() {
    let Some(setup) = SentinelSetup::start() else {
        return;
    };
    let cloud = Cloud::start(&[]).await;
    let sentinels = format!("127.0.0.1:{}", setup.port);
    let with = |master| {
        [
            ("CITRIX_AUTH_PROXY_FLEET__SENTINELS", sentinels.as_str()),
            ("CITRIX_AUTH_PROXY_FLEET__SENTINEL_MASTER", master),
        ]
    };
    let found = examine(&cloud, "redis://unused", &with(SentinelSetup::MASTER)).await;
    assert!(
        last(&found, "primary", "ok").contains("is 127.0.0.1:"),
        "{found:#?}"
    );
    assert!(of_store(&found).contains(&("replicas", "ok")), "{found:#?}");
    let found = examine(&cloud, "redis://unused", &with("unknown")).await;
    last(&found, "primary", "failed");
    let first = found
        .checks
        .iter()
        .find(|check| check["check"] == "primary")
        .unwrap();
    let detail = first["detail"].as_str().unwrap();
    assert_eq!(detail, "the sentinel does not know unknown");
    assert_eq!(found.code(), 1);
}

/// Starts a web server, which rejects what is not HTTP, and returns its address as that of a store.
async fn web_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let response = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            if socket.read(&mut request).await.is_ok() {
                let _ = socket.write_all(response).await;
            }
        }
    });
    format!("redis://127.0.0.1:{port}")
}

/// Returns the line that a gateway logs about a store at `url`, and checks that it serves.
async fn logged(url: &str, more: &[(&str, &str)]) -> Value {
    let (upstream, tokens) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let (api, token) = (upstream.url(), tokens.url());
    let mut settings = environment(&api, &token);
    settings.extend([(URL, url), (KEY, SECRET_KEY)]);
    settings.extend(more);
    let mut gateway = Gateway::start(&[], &settings).await;
    assert_eq!(get(gateway.address, "/x").await.status(), 200);
    let line = gateway.program.logged("fleet store unavailable").await;
    assert!(!line.to_string().contains("c4nary"), "{line}");
    line
}

#[tokio::test]
async fn running_gateway_logs_the_same_causes_and_serves() {
    let Some(server) = StoreServer::with(&["--requirepass", "right"]) else {
        return;
    };
    let replica = StoreServer::with(&["--replicaof", "127.0.0.1", "1"]).unwrap();
    let web = web_server().await;
    let plain = StoreProxy::start(server.socket()).await;
    let plain = format!("rediss://localhost:{}", plain.port());
    for (url, cause, advice) in [
        (
            server.url(),
            "rejects the user or the password",
            "fleet.password",
        ),
        (
            replica.url(),
            "a replica, not the primary",
            "fleet.sentinels",
        ),
        (
            web,
            "does not speak the Redis protocol",
            "port of fleet.url",
        ),
        // Without a newline in the ClientHello, the store waits for more.
        (plain, "TLS", "TLS"),
        (
            "redis+unix:///nonexistent".to_owned(),
            "no connection",
            "fleet.url",
        ),
        (
            "rediss://store.invalid".to_owned(),
            "host name not resolved",
            "host name in fleet.url",
        ),
    ] {
        let password = Some((PASSWORD, "c4nary")).filter(|_| url == server.url());
        let more: Vec<_> = password.into_iter().collect();
        let line = logged(&url, &more).await;
        let has = |name: &str, text: &str| line[name].as_str().unwrap().contains(text);
        assert!(
            has("cause", cause) && has("advice", advice),
            "{url}: {line}"
        );
    }
}
