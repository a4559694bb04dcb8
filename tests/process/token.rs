//! What callers notice while tokens expire, are revoked, or the gateway sleeps: nothing. Each figure is the
//! emulator's own count, from `/_emulator/stats`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::{Cloud, Load};
use testkit::wire::wait_until;

const GET: &str = "GET /echo/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
const POST: &str =
    "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n{\"name\":\"x\"}";

/// Every response was a 200, and there were some.
fn all_well(answers: &BTreeMap<u16, u64>) {
    assert_eq!(
        answers.keys().copied().collect::<Vec<_>>(),
        [200],
        "{answers:?}"
    );
}

/// Whether each thread of a process is stopped (`man 5 proc_pid_stat`).
fn stands_still(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads
        .map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap())
        .all(|stat| {
            let (_, state) = stat.rsplit_once(") ").unwrap();
            state.starts_with('T')
        })
}

#[tokio::test]
async fn tokens_that_live_three_seconds_roll_over_under_load_and_no_caller_notices() {
    let cloud = Cloud::start(&["--token-lifetime", "3s"]).await;
    let gateway = cloud.gateway(&[]).await;
    let began = tokio::time::Instant::now();
    let mut load = Load::start(gateway.address, 20, GET);
    load.add(gateway.address, 5, POST);
    wait_until("three rollovers", || async {
        cloud.count("tokens_issued").await >= 4
    })
    .await;
    let answers = load.end().await;
    all_well(&answers);
    assert_eq!(cloud.count("expired_token").await, 0);
    assert_eq!(cloud.count("valid").await, answers[&200]);
    // One is due after 1.8 s at the earliest; the first was there before the load.
    let most = 2 + began.elapsed().as_millis() / 1800;
    let logins = cloud.count("token_requests").await;
    assert!(
        u128::from(logins) <= most,
        "{logins} logins in {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_revocation_under_200_callers_costs_one_login_and_no_caller_notices() {
    for http2 in ["auto", "never"] {
        let cloud = Cloud::start(&[]).await;
        let gateway = cloud
            .gateway(&[("CITRIX_AUTH_PROXY_UPSTREAM__HTTP2", http2)])
            .await;
        let mut load = Load::start(gateway.address, 150, GET);
        load.add(gateway.address, 50, POST);
        wait_until("all are at work", || async {
            cloud.count("valid").await >= 400
        })
        .await;
        cloud.revoke().await;
        let before = cloud.count("valid").await;
        wait_until("work goes on", || async {
            cloud.count("valid").await >= before + 400
        })
        .await;
        let answers = load.end().await;
        let refused = cloud.count("revoked_token").await;
        all_well(&answers);
        assert!(
            refused > 0,
            "the revocation came at a moment without requests"
        );
        assert_eq!(
            cloud.count("valid").await,
            answers[&200],
            "http2 {http2}: each is answered once"
        );
        assert_eq!(
            cloud.count("token_requests").await,
            2,
            "http2 {http2}: {refused} were refused"
        );
    }
}

#[tokio::test]
async fn a_path_that_always_answers_401_forces_one_login_and_no_storm() {
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
    // As long as it takes to force several logins, if only the interval held them off.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let answers = load.end().await;
    assert_eq!(
        answers.keys().copied().collect::<Vec<_>>(),
        [200, 401],
        "{answers:?}"
    );
    assert_eq!(cloud.count("token_requests").await, 2);
}

#[tokio::test]
async fn a_gateway_that_stood_still_for_longer_than_its_token_lives_sends_no_dead_one() {
    let still = |http2| async move {
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
        // With nothing under way: a request that was being written at that moment would be written to its end.
        gateway.program.signal("STOP");
        wait_until("all of its threads stand still", || async {
            stands_still(gateway.program.id())
        })
        .await;
        for _ in 0..20 {
            callers.push(gateway.connect().await);
        }
        for caller in &mut callers {
            caller.write(GET).await;
        }
        // What is waited for is the end of the token's life.
        tokio::time::sleep(Duration::from_millis(3500)).await;
        assert_eq!(cloud.count("token_requests").await, logins, "http2 {http2}");
        gateway.program.signal("CONT");
        for caller in &mut callers {
            assert_eq!(caller.response().await.status(), 200, "http2 {http2}");
        }
        assert_eq!(cloud.count("expired_token").await, 0, "http2 {http2}");
    };
    tokio::join!(still("auto"), still("never"));
}
