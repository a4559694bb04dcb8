//! A Citrix 401 (interface §4.4): one login for all requests that got it, and a replay if that is
//! safe.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;

use crate::harness::{
    Cloud, Gateway, Message, OK, TOKEN, TokenEndpoint, Upstream, client, get, get_with, wait_until,
    within_timeout,
};

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: CWSAuth\r\n\
    X-Cws-TransactionId: citrix-401\r\nContent-Length: 6\r\n\r\ncitrix";

fn has_token(request: &Message, number: usize) -> bool {
    request.field("authorization") == Some(format!("CwsAuth Bearer={TOKEN}{number}"))
}

/// Returns an upstream that rejects the first token.
async fn after_a_revocation() -> Upstream {
    let response = |request: &Message| {
        if has_token(request, 1) {
            UNAUTHORIZED
        } else {
            OK
        }
    };
    Upstream::scripted_by_request(move |_, request| response(request).into()).await
}

fn assert_upstream_401(response: &Message) {
    assert_eq!(
        (response.status(), response.text().as_str()),
        (401, "citrix")
    );
    assert_eq!(
        response.field("www-authenticate").as_deref(),
        Some("CWSAuth")
    );
    assert_eq!(
        response.field("x-cws-transactionid").as_deref(),
        Some("citrix-401")
    );
    assert!(!response.has("x-proxy-error"));
}

async fn replays(gateway: &Gateway, outcome: &str) -> u64 {
    let series = format!("citrix_auth_proxy_replays_total{{outcome=\"{outcome}\",route=\"/\"}} ");
    let text = gateway.metrics().await;
    text.lines()
        .find_map(|line| line.strip_prefix(&series))
        .map_or(0, |count| count.parse().unwrap())
}

/// Returns once all requests that the upstream received wait for a login: then none is in flight.
async fn all_wait_for_a_login(gateway: &Gateway) {
    wait_until("nothing is in flight", || async {
        gateway
            .metrics()
            .await
            .contains("citrix_auth_proxy_in_flight_requests 0\n")
    })
    .await;
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn revoked_token_is_refreshed_and_the_request_replayed() {
    let upstream = after_a_revocation().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    assert_eq!(gateway.raw(get("/x?y=1")).await.status(), 200);
    assert_eq!(gateway.logins.count(), 2);
    let (first, second) = (upstream.request().await, upstream.request().await);
    assert!(has_token(&first, 1) && has_token(&second, 2));
    let without = |message: &Message| {
        let fields = message
            .all_fields()
            .into_iter()
            .filter(|(name, _)| name != "authorization");
        (message.line(), fields.collect::<Vec<_>>())
    };
    assert_eq!(without(&first), without(&second));
    upstream.assert_no_more_requests().await;
    assert_eq!(
        upstream.connections(),
        1,
        "the body of the 401 was not read to its end"
    );
    assert_eq!(replays(&gateway, "accepted").await, 1);
}

#[tokio::test]
async fn request_body_is_replayed_whole() {
    let upstream = after_a_revocation().await;
    for request in [
        post("/x", "request body"),
        "PUT /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
         8\r\nrequest \r\n4\r\nbody\r\n0\r\n\r\n"
            .to_owned(),
    ] {
        let gateway = Gateway::in_front_of(&upstream).start().await;
        assert_eq!(gateway.raw(request).await.status(), 200);
        let (first, second) = (upstream.request().await, upstream.request().await);
        assert!(has_token(&first, 1) && has_token(&second, 2));
        assert_eq!((first.line(), first.text()), (second.line(), second.text()));
        assert_eq!(second.text(), "request body");
        upstream.assert_no_more_requests().await;
    }
}

#[tokio::test]
async fn body_above_the_replay_buffer_returns_401_and_refreshes_the_token() {
    let upstream = after_a_revocation().await;
    for (setting, body) in [("10B", "eleven byte"), ("0B", "x")] {
        let chunked = format!(
            "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        for request in [post("/x", body), chunked] {
            let gateway = Gateway::in_front_of(&upstream)
                .with(&format!("[limits]\nreplay_buffer_bytes = \"{setting}\""))
                .start()
                .await;
            assert_upstream_401(&gateway.raw(request).await);
            gateway.logins.wait_for_logins(2).await;
            assert!(has_token(&upstream.request().await, 1));
            upstream.assert_no_more_requests().await;
            assert_eq!(replays(&gateway, "not_replayable").await, 1);
        }
    }
}

#[tokio::test]
async fn large_body_that_an_empty_frame_ends_is_not_replayed_as_an_empty_one() {
    let upstream = after_a_revocation().await;
    for is_declared in [false, true] {
        let gateway = Gateway::in_front_of(&upstream)
            .with("[limits]\nreplay_buffer_bytes = \"10B\"")
            .start()
            .await;
        let mut http2 = gateway.http2().await;
        let mut request = Request::post(gateway.url("/x"));
        if is_declared {
            request = request.header("content-length", 11);
        }
        let (response, mut upload) = http2
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        upload.send_data("eleven byte".into(), false).unwrap();
        upload.send_data(Bytes::new(), true).unwrap();
        let response = within_timeout(response).await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(upstream.request().await.text(), "eleven byte");
        upstream.assert_no_more_requests().await;
    }
}

#[tokio::test]
async fn body_of_announced_length_is_replayed_although_its_stream_has_not_ended() {
    let upstream = after_a_revocation().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    let request = Request::post(gateway.url("/x")).header("content-length", 4);
    let (response, mut upload) = http2
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    upload.send_data("body".into(), false).unwrap();
    assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    for token in [1, 2] {
        let request = upstream.request().await;
        assert!(has_token(&request, token));
        assert_eq!(request.text(), "body");
    }
}

#[tokio::test]
async fn late_401_for_a_replaced_token_requests_no_login() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let (mut slow, mut quick) = (gateway.connect().await, gateway.connect().await);
    slow.write(get("/slow")).await;
    let mut to_slow = upstream.connection().await;
    assert!(has_token(&to_slow.request().await, 1));
    quick.write(get("/quick")).await;
    let mut to_quick = upstream.connection().await;
    to_quick.request().await;
    to_quick.write(UNAUTHORIZED).await;
    assert!(has_token(&to_quick.request().await, 2));
    to_quick.write(OK).await;
    assert_eq!(quick.response().await.status(), 200);
    to_slow.write(UNAUTHORIZED).await;
    // The most recently used idle connection is taken.
    let replayed = tokio::select! {
        replayed = to_slow.request() => replayed,
        replayed = to_quick.request() => replayed,
    };
    assert!(has_token(&replayed, 2));
    to_slow.write(OK).await;
    to_quick.write(OK).await;
    assert_eq!(slow.response().await.status(), 200);
    assert_eq!(gateway.logins.count(), 2);
}

#[tokio::test]
async fn concurrent_401s_share_one_login() {
    let upstream = after_a_revocation().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let responses = join_all((0..50).map(|_| gateway.raw(get("/x")))).await;
    assert!(responses.iter().all(|response| response.status() == 200));
    assert_eq!(gateway.logins.count(), 2);
}

#[tokio::test]
async fn fresh_token_401_is_returned_without_another_login() {
    let upstream = Upstream::responding(UNAUTHORIZED).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[token]\nmin_forced_interval = \"1ms\"")
        .start()
        .await;
    assert_upstream_401(&gateway.raw(get("/forbidden/1")).await);
    for request in [get("/forbidden/2"), post("/forbidden/3", "x")] {
        assert_upstream_401(&gateway.raw(request).await);
    }
    assert_eq!(gateway.logins.count(), 2);
    for number in [1, 2, 2, 2] {
        assert!(has_token(&upstream.request().await, number));
    }
    upstream.assert_no_more_requests().await;
    assert_eq!(replays(&gateway, "refused_again").await, 1);
    assert_eq!(replays(&gateway, "suppressed").await, 2);
}

#[tokio::test]
async fn path_that_always_returns_401_affects_no_other() {
    let response = |request: &Message| match request.line() {
        line if line.contains("/forbidden") => UNAUTHORIZED,
        _ if has_token(request, 1) || has_token(request, 2) => UNAUTHORIZED,
        _ => OK,
    };
    let upstream = Upstream::scripted_by_request(move |_, request| response(request).into()).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[token]\nmin_forced_interval = \"1ms\"")
        .start()
        .await;
    assert_upstream_401(&gateway.raw(get("/forbidden")).await);
    assert_eq!(gateway.logins.count(), 2);
    assert_eq!(gateway.raw(get("/works")).await.status(), 200);
    assert_eq!(gateway.logins.count(), 3);
    assert_upstream_401(&gateway.raw(get("/forbidden")).await);
    assert_eq!(gateway.logins.count(), 3);
}

#[tokio::test]
async fn upload_401s_with_an_unconfirmed_token_request_one_login() {
    let upstream = Upstream::responding(UNAUTHORIZED).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[token]\nmin_forced_interval = \"1ms\"\n[limits]\nreplay_buffer_bytes = \"0B\"")
        .start()
        .await;
    assert_upstream_401(&gateway.raw(post("/upload", "x")).await);
    gateway.logins.wait_for_logins(2).await;
    wait_until("the second token is sent", || async {
        assert_upstream_401(&gateway.raw(post("/upload", "x")).await);
        has_token(&upstream.request().await, 2)
    })
    .await;
    assert_upstream_401(&gateway.raw(post("/upload", "x")).await);
    assert_eq!(gateway.logins.count(), 2);
}

#[tokio::test]
async fn early_second_401_is_returned_and_the_login_deferred() {
    let revoked = |request: &Message| has_token(request, 1) || has_token(request, 2);
    let upstream = Upstream::scripted_by_request(move |_, request| {
        if revoked(request) { UNAUTHORIZED } else { OK }.into()
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[token]\nmin_forced_interval = \"2s\"")
        .start()
        .await;
    assert_upstream_401(&gateway.raw(get("/one")).await);
    assert_upstream_401(&gateway.raw(get("/two")).await);
    assert_eq!(replays(&gateway, "deferred").await, 1);
    assert_eq!(gateway.logins.count(), 2);
    gateway.logins.wait_for_logins(3).await;
    wait_until("the third token is used", || async {
        gateway.raw(get("/two")).await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn failed_login_returns_the_401_and_keeps_the_token() {
    let upstream = Upstream::scripted(|number| {
        if number == 1 {
            UNAUTHORIZED.into()
        } else {
            OK.into()
        }
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    wait_until("the first token is available", || async {
        gateway.admin(get("/readyz")).await.status() == 200
    })
    .await;
    gateway.logins.reject();
    assert_upstream_401(&gateway.raw(get("/")).await);
    assert_eq!(gateway.logins.count(), 2);
    assert_eq!(replays(&gateway, "refresh_failed").await, 1);
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    assert_eq!(gateway.admin(get("/readyz")).await.status(), 200);
}

#[tokio::test]
async fn long_401_body_is_not_read_to_its_end() {
    let long = format!(
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 10000000\r\n\r\n{}",
        "x".repeat(1000)
    );
    let response = move |request: &Message| {
        if has_token(request, 1) {
            long.clone()
        } else {
            OK.to_owned()
        }
    };
    let upstream = Upstream::scripted_by_request(move |_, request| response(request).into()).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let response = gateway.raw(get("/")).await;
    assert_eq!((response.status(), response.text().as_str()), (200, "{}"));
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn retries_and_replays_have_separate_budgets() {
    // The pooled connection breaks, the new one returns 401, and the pooled connection of the
    // replay breaks, too.
    let upstream = Upstream::scripted(|number| match number {
        2 | 4 => Vec::new(),
        3 => UNAUTHORIZED.into(),
        _ => OK.into(),
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    for number in [1, 1, 1, 2, 2] {
        assert!(has_token(&upstream.request().await, number));
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn http2_replay_uses_the_same_connection() {
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
    let client = client();
    let send = async |path| {
        client
            .post(gateway.url(path))
            .body("replayed")
            .send()
            .await
            .unwrap()
    };
    assert_eq!(send("/echo").await.status(), 200);
    assert_eq!(send("/_emulator/revoke").await.status(), 200);
    let response = send("/echo").await;
    assert_eq!(response.status(), 200);
    assert!(response.text().await.unwrap().contains("replayed"));
    assert_eq!(replays(&gateway, "accepted").await, 1);
}

#[tokio::test]
async fn replay_on_a_broken_connection_returns_502() {
    let upstream = Upstream::scripted(|number| {
        if number == 2 {
            Vec::new()
        } else {
            UNAUTHORIZED.into()
        }
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    gateway
        .raw(post("/x", "body"))
        .await
        .problem(502, "upstream_broken");
}

#[tokio::test]
async fn empty_body_is_replayed_with_content_length_0() {
    let upstream = after_a_revocation().await;
    for (method, length) in [("POST", Some("0")), ("DELETE", None)] {
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let head = format!(
            "{method} /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        assert_eq!(gateway.raw(head + "0\r\n\r\n").await.status(), 200);
        let (first, second) = (upstream.request().await, upstream.request().await);
        assert!(has_token(&first, 1) && has_token(&second, 2));
        assert_eq!(
            second.field("content-length").as_deref(),
            length,
            "{method}"
        );
        assert!(!second.has("transfer-encoding") && second.text().is_empty());
    }
}

#[tokio::test]
async fn hanging_login_holds_no_permits_of_other_customers() {
    let is_acme = |request: &Message| request.field("citrix-customerid").as_deref() == Some("acme");
    let upstream = Upstream::scripted_by_request(move |_, request| {
        if is_acme(request) { UNAUTHORIZED } else { OK }.into()
    })
    .await;
    let (acme, contoso) = (
        TokenEndpoint::granting().await,
        TokenEndpoint::granting().await,
    );
    let block = |id, logins: &TokenEndpoint| {
        format!(
            "[[customer]]\ncustomer_id = '{id}'\nclient_id = 'client'\nclient_secret = {{ env = 'SECRET' }}\n\
             api_url = '{}'\ntoken_url = '{}'\n",
            upstream.url(),
            logins.url(),
        )
    };
    let gateway = Gateway::for_customers(&(block("acme", &acme) + &block("contoso", &contoso)))
        .with("[limits]\nmax_in_flight = 2")
        .set("SECRET", "s3cret")
        .start()
        .await;
    wait_until("both have tokens", || async {
        gateway.admin(get("/readyz")).await.status() == 200
    })
    .await;
    acme.stall();
    let request = |id: &str| get_with("/", &format!("Citrix-CustomerId: {id}\r\n"));
    let mut waiting = [gateway.connect().await, gateway.connect().await];
    for caller in &mut waiting {
        caller.write(request("acme")).await;
        upstream.request().await;
    }
    all_wait_for_a_login(&gateway).await;
    assert_eq!(gateway.raw(request("contoso")).await.status(), 200);
    acme.reject();
    for caller in &mut waiting {
        assert_upstream_401(&caller.response().await);
    }
}

#[tokio::test]
async fn login_started_before_a_revocation_confirms_no_token() {
    let revoked = |request: &Message| has_token(request, 1) || has_token(request, 2);
    let upstream = Upstream::scripted_by_request(move |_, request| {
        if revoked(request) { UNAUTHORIZED } else { OK }.into()
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[token]\nmin_forced_interval = \"1ms\"")
        .start()
        .await;
    wait_until("the first token is available", || async {
        gateway.admin(get("/readyz")).await.status() == 200
    })
    .await;
    gateway.logins.stall();
    let refresh =
        "POST /tokens/acme/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let (_, response, ()) = tokio::join!(
        gateway.admin(refresh),
        async {
            gateway.logins.wait_for_logins(2).await;
            gateway.raw(get("/")).await
        },
        async {
            assert!(has_token(&upstream.request().await, 1));
            all_wait_for_a_login(&gateway).await;
            gateway.logins.grant();
        },
    );
    assert_eq!(response.status(), 200);
    assert_eq!(gateway.logins.count(), 3);
}

#[tokio::test]
async fn caller_that_provokes_401s_suppresses_no_refresh_for_another() {
    let revoked = Arc::new(AtomicBool::new(false));
    let is_revoked = Arc::clone(&revoked);
    let response = move |request: &Message| match request.line() {
        line if line.contains("/x/forbidden") => UNAUTHORIZED,
        _ if is_revoked.load(Ordering::Relaxed) && !has_token(request, 3) => UNAUTHORIZED,
        _ => OK,
    };
    let upstream = Upstream::scripted_by_request(move |_, request| response(request).into()).await;
    // The secrets of the callers are their names.
    let block = |name: &str| {
        let hash = citrix_auth_proxy::system::digest::Sha256::of(name.as_bytes()).to_hex();
        format!("[[caller]]\nname = \"{name}\"\nsecret_sha256 = \"{hash}\"\n")
    };
    let gateway = Gateway::in_front_of(&upstream)
        .with("[token]\nmin_forced_interval = \"1ms\"")
        .with(&block("greedy"))
        .with(&block("modest"))
        .start()
        .await;
    let request = |path: &str, name: &str| get_with(path, &format!("X-Api-Key: {name}\r\n"));
    assert_upstream_401(&gateway.raw(request("/x/forbidden", "greedy")).await);
    assert_eq!(gateway.logins.count(), 2);
    assert_eq!(gateway.raw(request("/x/1", "modest")).await.status(), 200);

    revoked.store(true, Ordering::Relaxed);
    for path in ["/x/forbidden", "/x/1"] {
        assert_upstream_401(&gateway.raw(request(path, "greedy")).await);
    }
    assert_eq!(gateway.logins.count(), 2);
    assert_eq!(gateway.raw(request("/x/1", "modest")).await.status(), 200);
    assert_eq!(gateway.logins.count(), 3);
    assert_eq!(gateway.raw(request("/x/1", "greedy")).await.status(), 200);
}
