//! What callers notice of the token's life: waiting, failing, being refused (design 4.2 and 4.4).

use crate::harness::{Gateway, Logins, OK, REFUSED_ID, TOKEN, Upstream, eventually, get};

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: CWSAuth\r\n\
    X-Cws-TransactionId: citrix-401\r\nContent-Length: 6\r\n\r\ntheirs";

#[tokio::test]
async fn a_request_before_the_first_token_waits_for_it() {
    let upstream = Upstream::answering(OK).await;
    let gateway = Gateway::in_front_of(&upstream).logging_in_at(Logins::held_back().await).start().await;
    gateway.logins.reach(1).await;
    let mut caller = gateway.connect().await;
    caller.write(get("/")).await;
    // In flight, so it is waiting, and nothing has left.
    eventually("the request waits", || async {
        gateway.metrics().await.contains("citrix_auth_proxy_in_flight_requests 1\n")
    })
    .await;
    assert_eq!(upstream.connections(), 0);
    gateway.logins.give();
    assert_eq!(caller.answer().await.status(), 200);
    assert_eq!(upstream.request().await.field("authorization"), Some(format!("CwsAuth Bearer={TOKEN}1")));
    assert_eq!(gateway.logins.count(), 1);
}

#[tokio::test]
async fn without_a_token_nothing_leaves_and_the_answer_is_never_401() {
    let upstream = Upstream::answering(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(Logins::refused().await)
        .with("[token]\nstartup_wait = \"50ms\"")
        .start()
        .await;
    let refused = || async {
        let answer = gateway.raw(get("/")).await;
        let problem = answer.problem(503, "token_unavailable");
        assert!(answer.field("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        (answer, problem)
    };
    eventually("the login has failed", || async { refused().await.0.has("x-cws-transactionid") }).await;
    let (answer, problem) = refused().await;
    assert_eq!(answer.field("x-cws-transactionid").as_deref(), Some(REFUSED_ID));
    assert!(problem["detail"].as_str().unwrap().contains("invalid_client"), "{problem}");
    assert_ne!(answer.field("citrix-transactionid").as_deref(), Some(REFUSED_ID));
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn without_a_wait_a_request_before_the_first_token_is_answered_at_once() {
    let upstream = Upstream::answering(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(Logins::held_back().await)
        .with("[token]\nstartup_wait = \"0s\"")
        .start()
        .await;
    gateway.raw(get("/")).await.problem(503, "token_unavailable");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_401_passes_untouched_and_the_next_request_finds_a_new_token() {
    let upstream =
        Upstream::scripted(|number| if number == 1 { UNAUTHORIZED.into() } else { OK.into() }).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let answer = gateway.raw(get("/")).await;
    assert_eq!((answer.status(), answer.text().as_str()), (401, "theirs"));
    assert_eq!(answer.field("www-authenticate").as_deref(), Some("CWSAuth"));
    assert_eq!(answer.field("x-cws-transactionid").as_deref(), Some("citrix-401"));
    assert!(!answer.has("x-proxy-error"));
    gateway.logins.reach(2).await;
    eventually("the new token is sent", || async {
        gateway.raw(get("/")).await;
        let sent = upstream.request().await.field("authorization");
        sent == Some(format!("CwsAuth Bearer={TOKEN}2"))
    })
    .await;
}

#[tokio::test]
async fn a_403_asks_for_no_new_token() {
    let upstream = Upstream::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for _ in 0..3 {
        assert_eq!(gateway.raw(get("/")).await.status(), 403);
    }
    assert_eq!(gateway.logins.count(), 1);
}

#[tokio::test]
async fn many_401_ask_for_one_login() {
    let upstream = Upstream::answering(UNAUTHORIZED).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for _ in 0..5 {
        assert_eq!(gateway.raw(get("/")).await.status(), 401);
    }
    gateway.logins.reach(2).await;
    for _ in 0..5 {
        assert_eq!(gateway.raw(get("/")).await.status(), 401);
    }
    // Within min_forced_interval (10 s) there is no other.
    assert_eq!(gateway.logins.count(), 2);
}

#[tokio::test]
async fn a_failed_refresh_leaves_the_present_token_in_use() {
    let upstream =
        Upstream::scripted(|number| if number == 1 { UNAUTHORIZED.into() } else { OK.into() }).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    gateway.logins.reach(1).await;
    eventually("the first token is there", || async { gateway.admin(get("/readyz")).await.status() == 200 })
        .await;
    gateway.logins.refuse();
    assert_eq!(gateway.raw(get("/")).await.status(), 401);
    gateway.logins.reach(2).await;
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    assert_eq!(gateway.admin(get("/readyz")).await.status(), 200);
}

#[tokio::test]
async fn a_restart_while_nobody_can_log_in_still_serves() {
    let upstream = Upstream::answering(OK).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let plan = || {
        Gateway::in_front_of(&upstream)
            .with("[token]\nstartup_wait = \"10s\"")
            .set("CITRIX_AUTH_PROXY_TOKEN__CACHE_FILE", file.to_str().unwrap())
            .set("CITRIX_AUTH_PROXY_TOKEN__CACHE_KEY", "a key of more than thirty-two bytes")
    };
    let logins = {
        let gateway = plan().start().await;
        assert_eq!(gateway.raw(get("/")).await.status(), 200);
        eventually("the token is in the file", || async { file.exists() }).await;
        gateway.logins
    };
    logins.refuse();
    upstream.request().await;
    let gateway = plan().logging_in_at(logins).start().await;
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    assert_eq!(upstream.request().await.field("authorization"), Some(format!("CwsAuth Bearer={TOKEN}1")));
    assert_eq!(gateway.logins.count(), 1);
}
