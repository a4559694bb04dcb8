//! Callers receive no errors while tokens expire, are revoked, or the gateway is suspended. All
//! counts are from the emulator's `/_emulator/stats`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::{Cloud, Load};
use testkit::wire::wait_until;

const GET: &str = "GET /echo/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
const POST: &str =
    "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n{\"name\":\"x\"}";

/// Asserts that there are responses and that all have status 200.
#[track_caller]
fn assert_only_200(responses: &BTreeMap<u16, u64>) {
    assert_eq!(
        responses.keys().copied().collect::<Vec<_>>(),
        [200],
        "{responses:?}"
    );
}

/// Returns `true` if all threads of a process are stopped (proc_pid_stat(5)).
fn is_stopped(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads
        .map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap())
        .all(|stat| {
            let (_, state) = stat.rsplit_once(") ").unwrap();
            state.starts_with('T')
        })
}

#[tokio::test]
async fn refreshes_of_3s_tokens_under_load_cause_no_errors() {
    let cloud = Cloud::start(&["--token-lifetime", "3s"]).await;
    let gateway = cloud.gateway(&[]).await;
    let start = tokio::time::Instant::now();
    let mut load = Load::start(gateway.address, 20, GET);
    load.add(gateway.address, 5, POST);
    wait_until("three refreshes", || async {
        cloud.count("tokens_issued").await >= 4
    })
    .await;
    let responses = load.stop().await;
    assert_only_200(&responses);
    assert_eq!(cloud.count("expired_token").await, 0);
    assert_eq!(cloud.count("valid").await, responses[&200]);
    // A refresh is due after 1.8 s at the earliest; the first login precedes the load.
    let max_logins = 2 + start.elapsed().as_millis() / 1800;
    let logins = cloud.count("token_requests").await;
    assert!(
        u128::from(logins) <= max_logins,
        "{logins} logins in {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn revocation_under_200_callers_causes_one_login_and_no_errors() {
    for http2 in ["auto", "never"] {
        let cloud = Cloud::start(&[]).await;
        let gateway = cloud
            .gateway(&[("CITRIX_AUTH_PROXY_UPSTREAM__HTTP2", http2)])
            .await;
        let mut load = Load::start(gateway.address, 150, GET);
        load.add(gateway.address, 50, POST);
        wait_until("all callers send requests", || async {
            cloud.count("valid").await >= 400
        })
        .await;
        cloud.revoke().await;
        let before = cloud.count("valid").await;
        wait_until("requests continue", || async {
            cloud.count("valid").await >= before + 400
        })
        .await;
        let responses = load.stop().await;
        let rejected = cloud.count("revoked_token").await;
        assert_only_200(&responses);
        assert!(rejected > 0, "no request was in progress at the revocation");
        assert_eq!(
            cloud.count("valid").await,
            responses[&200],
            "http2 {http2}: each request reaches Citrix with a valid token once"
        );
        assert_eq!(
            cloud.count("token_requests").await,
            2,
            "http2 {http2}: {rejected} requests were rejected"
        );
    }
}

#[tokio::test]
async fn path_with_only_401_responses_forces_one_login() {
    let cloud = Cloud::start(&[]).await;
    let gateway = cloud
        .gateway(&[("CITRIX_AUTH_PROXY_TOKEN__MIN_FORCED_INTERVAL", "500ms")])
        .await;
    let mut load = Load::start(
        gateway.address,
        4,
        "GET /status/401 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    load.add(gateway.address, 4, GET);
    // Long enough for several forced logins if only the interval limited them.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let responses = load.stop().await;
    assert_eq!(
        responses.keys().copied().collect::<Vec<_>>(),
        [200, 401],
        "{responses:?}"
    );
    assert_eq!(cloud.count("token_requests").await, 2);
}

#[tokio::test]
async fn suspension_beyond_the_token_lifetime_sends_no_expired_token() {
    let suspend = |http2| async move {
        let cloud = Cloud::start(&["--token-lifetime", "3s"]).await;
        let gateway = cloud
            .gateway(&[("CITRIX_AUTH_PROXY_UPSTREAM__HTTP2", http2)])
            .await;
        let mut callers = Vec::new();
        for _ in 0..20 {
            let mut caller = gateway.connect().await;
            caller.write(GET).await;
            assert_eq!(caller.response().await.status(), 200);
            callers.push(caller);
        }
        let logins = cloud.count("token_requests").await;
        // No request is in progress here: a partly written one would be completed with the expired
        // token.
        gateway.program.signal("STOP");
        wait_until("all threads are stopped", || async {
            is_stopped(gateway.program.id())
        })
        .await;
        for _ in 0..20 {
            callers.push(gateway.connect().await);
        }
        for caller in &mut callers {
            caller.write(GET).await;
        }
        // Outlasts the token.
        tokio::time::sleep(Duration::from_millis(3500)).await;
        assert_eq!(cloud.count("token_requests").await, logins, "http2 {http2}");
        gateway.program.signal("CONT");
        for caller in &mut callers {
            assert_eq!(caller.response().await.status(), 200, "http2 {http2}");
        }
        assert_eq!(cloud.count("expired_token").await, 0, "http2 {http2}");
    };
    tokio::join!(suspend("auto"), suspend("never"));
}
