//! Effects of the token state on callers: waits and failures (interface §4.2). For 401 see
//! `replay`.

use std::sync::Arc;

use crate::harness::{
    Gateway, OK, REJECTED_TRANSACTION_ID, TOKEN, TokenEndpoint, Upstream, get, get_with, wait_until,
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

/// A wait that no test lives to see the end of.
const ENDLESS_WAIT: &str = "[token]\nstartup_wait = \"1h\"";

async fn wait_for_failed_login(gateway: &Gateway) {
    wait_until("a login has failed", || async {
        let response = gateway.admin(get("/readyz")).await;
        response.text().contains("the last login failed")
    })
    .await;
}

#[tokio::test]
async fn rejected_login_returns_503_without_a_wait_until_another_succeeds() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(TokenEndpoint::rejecting().await)
        .with(ENDLESS_WAIT)
        .start()
        .await;
    wait_for_failed_login(&gateway).await;
    for _ in 0..3 {
        let response = gateway.raw(get("/")).await;
        response.problem(503, "token_unavailable");
        let retry_after = response.field("retry-after").unwrap();
        assert!((1..=15).contains(&retry_after.parse::<u64>().unwrap()));
        assert!(response.has("x-cws-transactionid"));
    }
    assert_eq!(upstream.connections(), 0);
    gateway.logins.grant();
    wait_until("a login succeeds", || async {
        gateway.raw(get("/")).await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn refusing_token_endpoint_is_waited_for_while_a_login_is_due_in_time() {
    let (upstream, logins) = (Upstream::responding(OK).await, Upstream::refusing());
    for (startup_wait, expected) in [("1h", None), ("0s", Some(503))] {
        let gateway = Gateway::in_front_of(&upstream)
            .set("CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL", &logins.url())
            .with(&format!("[token]\nstartup_wait = \"{startup_wait}\""))
            .start()
            .await;
        wait_for_failed_login(&gateway).await;
        let mut caller = gateway.connect().await;
        caller.write(get("/")).await;
        let slot = Arc::clone(&gateway.app().shared().published.load().customers[0].token);
        match expected {
            Some(status) => assert_eq!(caller.response().await.status(), status),
            None => {
                wait_until("the request waits for a token", || async {
                    slot.waiting().in_use() == 1
                })
                .await;
            }
        }
    }
}

#[tokio::test]
async fn customer_without_a_token_delays_no_other() {
    let upstream = Upstream::responding(OK).await;
    let (granting, rejecting) = (
        TokenEndpoint::granting().await,
        TokenEndpoint::rejecting().await,
    );
    let block = |id: &str, logins: &TokenEndpoint| {
        format!(
            "[[customer]]\ncustomer_id = '{id}'\nclient_id = 'c'\nclient_secret = {{ env = 'S' }}\n\
             api_url = '{}'\ntoken_url = '{}'\n",
            upstream.url(),
            logins.url()
        )
    };
    let blocks = block("acme", &granting) + &block("contoso", &rejecting);
    let gateway = Gateway::for_customers(&format!("{ENDLESS_WAIT}\n{blocks}"))
        .set("S", "s3cret")
        .start()
        .await;
    wait_for_failed_login(&gateway).await;
    let send = |customer: &str| {
        let request = get_with("/", &format!("Citrix-CustomerId: {customer}\r\n"));
        let gateway = &gateway;
        async move { gateway.raw(request).await.status() }
    };
    assert_eq!(send("contoso").await, 503);
    assert_eq!(send("acme").await, 200);
}

#[tokio::test]
async fn own_token_endpoint_waits_for_no_token_of_citrix() {
    let upstream = Upstream::responding(OK).await;
    for logins in [
        TokenEndpoint::rejecting().await,
        TokenEndpoint::stalling().await,
    ] {
        let gateway = Gateway::in_front_of(&upstream)
            .logging_in_at(logins)
            .with(ENDLESS_WAIT)
            .start()
            .await;
        let body = "grant_type=client_credentials&client_id=any&client_secret=any";
        let login = format!(
            "POST /cctrustoauth2/root/tokens/clients HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(gateway.raw(login).await.status(), 200);
    }
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
