//! Effects of the token state on callers: waits and failures (interface §4.2). For 401 see
//! `replay`.

use crate::harness::{
    Gateway, OK, REJECTED_TRANSACTION_ID, TOKEN, TokenEndpoint, Upstream, get, wait_until,
};

#[tokio::test]
async fn request_before_the_first_token_waits() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(TokenEndpoint::stalling().await)
        .start()
        .await;
    gateway.logins.wait_for_logins(1).await;
    let mut caller = gateway.connect().await;
    caller.write(get("/")).await;
    let waiting = || {
        gateway.app().shared().published.load().customers[0]
            .token
            .waiting()
            .in_use()
    };
    wait_until("the request waits for a token", || async { waiting() == 1 }).await;
    assert_eq!(upstream.connections(), 0);
    // It holds no permit that another customer could use.
    assert!(
        gateway
            .metrics()
            .await
            .contains("citrix_auth_proxy_in_flight_requests 0\n")
    );
    gateway.logins.grant();
    assert_eq!(caller.response().await.status(), 200);
    assert_eq!(
        upstream.request().await.field("authorization"),
        Some(format!("CwsAuth Bearer={TOKEN}1"))
    );
    assert_eq!(gateway.logins.count(), 1);
}

#[tokio::test]
async fn missing_token_forwards_nothing_and_never_returns_401() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(TokenEndpoint::rejecting().await)
        .with("[token]\nstartup_wait = \"50ms\"")
        .start()
        .await;
    let send = || async {
        let response = gateway.raw(get("/")).await;
        let problem = response.problem(503, "token_unavailable");
        assert!(
            response
                .field("retry-after")
                .unwrap()
                .parse::<u64>()
                .unwrap()
                >= 1
        );
        (response, problem)
    };
    wait_until("a login has failed", || async {
        send().await.0.has("x-cws-transactionid")
    })
    .await;
    let (response, problem) = send().await;
    assert_eq!(
        response.field("x-cws-transactionid").as_deref(),
        Some(REJECTED_TRANSACTION_ID)
    );
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("invalid_client"),
        "{problem}"
    );
    assert_ne!(
        response.field("citrix-transactionid").as_deref(),
        Some(REJECTED_TRANSACTION_ID)
    );
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn zero_queue_timeout_before_the_first_token_returns_503_at_once() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(TokenEndpoint::stalling().await)
        .with("[token]\nstartup_wait = \"0s\"")
        .start()
        .await;
    gateway
        .raw(get("/"))
        .await
        .problem(503, "token_unavailable");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn request_beyond_max_queued_for_a_token_returns_503_at_once() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(TokenEndpoint::stalling().await)
        .with("[limits]\nmax_queued = 1")
        .start()
        .await;
    let mut first = gateway.connect().await;
    first.write(get("/")).await;
    let waiting = || {
        gateway.app().shared().published.load().customers[0]
            .token
            .waiting()
            .in_use()
    };
    wait_until("the first request waits for a token", || async {
        waiting() == 1
    })
    .await;
    let problem = gateway
        .raw(get("/"))
        .await
        .problem(503, "token_unavailable");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("limits.max_queued"),
        "{problem}"
    );
    gateway.logins.grant();
    assert_eq!(first.response().await.status(), 200);
}

#[tokio::test]
async fn citrix_403_requests_no_new_token() {
    let upstream =
        Upstream::responding("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for _ in 0..3 {
        assert_eq!(gateway.raw(get("/")).await.status(), 403);
    }
    assert_eq!(gateway.logins.count(), 1);
}

#[tokio::test]
async fn restart_during_a_login_outage_serves_from_the_token_cache() {
    let upstream = Upstream::responding(OK).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let configured = || {
        Gateway::in_front_of(&upstream)
            .with("[token]\nstartup_wait = \"10s\"")
            .set(
                "CITRIX_AUTH_PROXY_TOKEN__CACHE_FILE",
                file.to_str().unwrap(),
            )
            .set(
                "CITRIX_AUTH_PROXY_TOKEN__CACHE_KEY",
                "a key of more than thirty-two bytes",
            )
    };
    let logins = {
        let gateway = configured().start().await;
        assert_eq!(gateway.raw(get("/")).await.status(), 200);
        wait_until("the token cache is written", || async { file.exists() }).await;
        gateway.logins
    };
    logins.reject();
    upstream.request().await;
    let gateway = configured().logging_in_at(logins).start().await;
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    assert_eq!(
        upstream.request().await.field("authorization"),
        Some(format!("CwsAuth Bearer={TOKEN}1"))
    );
    assert_eq!(gateway.logins.count(), 1);
}
