//! Scope and lifetime of gateway tokens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use citrix_auth_proxy::system::clock::Clock;

use super::*;

#[tokio::test]
async fn gateway_token_in_every_form_authenticates_and_is_not_forwarded() {
    let (gateway, upstream) = gateway_for(&block("a", A, "")).await;
    let token = token(&gateway, "a", A).await;
    for value in [
        format!("CwsAuth Bearer={token}"),
        format!("CWSAuth bearer={token}"),
        format!("CWSAUTH BEARER= {token}"),
        format!("cwsauth bearer=\"{token}\""),
        format!("Bearer {token}"),
        format!("bearer {token}"),
    ] {
        assert_eq!(
            gateway
                .raw(get_with("/", &format!("Authorization: {value}\r\n")))
                .await
                .status(),
            200,
            "{value}"
        );
        let sent = String::from_utf8(upstream.request().await.head).unwrap();
        assert!(
            !sent.contains(&token) && sent.contains("c4nary-token"),
            "{sent}"
        );
    }
    assert!(
        gateway
            .metrics()
            .await
            .contains(r#"requests_total{caller="a",code="200",method="GET",route="/"} 6"#)
    );
    for value in [
        format!("X-Api-Key: {token}"),
        format!(
            "Authorization: Basic {}",
            STANDARD.encode(format!("a:{token}"))
        ),
        format!("Authorization: Bearer {token}\r\nX-Api-Key: wrong"),
        format!("Authorization: Negotiate {token}"),
        format!("Cookie: token={token}"),
    ] {
        gateway
            .raw(get_with("/", &format!("{value}\r\n")))
            .await
            .problem(401, "caller_unknown");
    }
    let twice = format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n");
    gateway
        .raw(get_with("/", &twice))
        .await
        .problem(400, "bad_request");
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn shared_key_keeps_tokens_valid_across_restarts_and_replicas() {
    let blocks = block("a", A, "") + KEY;
    let (first, _upstream) = gateway_for(&blocks).await;
    let shared = token(&first, "a", A).await;
    drop(first);
    let (second, _upstream) = gateway_for(&blocks).await;
    let (third, _upstream) = gateway_for(&blocks.replace("or-more", "or_more")).await;
    assert_eq!(second.raw(bearing(&shared)).await.status(), 200);
    third
        .raw(bearing(&shared))
        .await
        .problem(401, "caller_unknown");

    // Without a configured key, each process generates its own.
    let (one, _upstream) = gateway_for(&block("a", A, "")).await;
    let (other, _upstream) = gateway_for(&block("a", A, "")).await;
    let local_token = token(&one, "a", A).await;
    assert_eq!(one.raw(bearing(&local_token)).await.status(), 200);
    other
        .raw(bearing(&local_token))
        .await
        .problem(401, "caller_unknown");
}

#[tokio::test]
async fn removed_secret_invalidates_its_tokens() {
    let (before, _upstream) = gateway_for(&(block("a", A, "") + &block("b", B, "") + KEY)).await;
    let tokens = [token(&before, "a", A).await, token(&before, "b", B).await];
    for (blocks, statuses) in [
        (block("a", A, "") + &block("b", B, ""), [200, 200]),
        (block("b", B, "") + &block("a", A, ""), [200, 200]),
        (block("a", "new", "") + &block("b", B, ""), [401, 200]),
        (block("a", B, "") + &block("b", A, ""), [401, 401]),
        (block("b", B, ""), [401, 200]),
        (
            block("a", A, "networks = [\"192.0.2.1\"]")
                + &block("b", B, "networks = [\"127.0.0.1\"]"),
            [401, 200],
        ),
    ] {
        let (gateway, _upstream) = gateway_for(&(blocks.clone() + KEY)).await;
        for (token, status) in tokens.iter().zip(statuses) {
            assert_eq!(
                gateway.raw(bearing(token)).await.status(),
                status,
                "{blocks}"
            );
        }
    }
}

#[tokio::test]
async fn anonymous_token_is_invalid_once_callers_are_configured() {
    let (open, _upstream) = gateway_for(KEY).await;
    let token = token(&open, "a", A).await;
    let (closed, upstream) = gateway_for(&(block("a", A, "") + KEY)).await;
    closed
        .raw(bearing(&token))
        .await
        .problem(401, "caller_unknown");
    // Not even if the network matches: the token names another caller.
    let by_network = "[[caller]]\nname = \"network\"\nnetworks = [\"127.0.0.0/8\"]\n";
    let (named, upstream_of_named) = gateway_for(&(by_network.to_owned() + KEY)).await;
    named
        .raw(bearing(&token))
        .await
        .problem(401, "caller_unknown");
    upstream.assert_no_more_requests().await;
    upstream_of_named.assert_no_more_requests().await;
}

static ADVANCE_SECONDS: AtomicU64 = AtomicU64::new(0);

#[expect(
    clippy::disallowed_methods,
    reason = "the clock of the test starts at the system time"
)]
fn advanced_clock() -> SystemTime {
    SystemTime::now() + Duration::from_secs(ADVANCE_SECONDS.load(Ordering::SeqCst))
}

#[tokio::test]
async fn expired_token_returns_401_invalid_token() {
    let upstream = Upstream::responding(OK).await;
    let lifetime = block("a", A, "") + "[login]\ntoken_lifetime = \"10m\"";
    let gateway = Gateway::in_front_of(&upstream)
        .with(&lifetime)
        .with_clock(Clock::custom(advanced_clock))
        .start()
        .await;
    assert!(
        gateway
            .raw(form("a", A))
            .await
            .text()
            .contains("\"expires_in\": \"600\"")
    );
    assert!(
        gateway
            .raw(in_json("a", A))
            .await
            .text()
            .contains("\"expiresIn\":600}")
    );
    let first = token(&gateway, "a", A).await;
    ADVANCE_SECONDS.store(590, Ordering::SeqCst);
    assert_eq!(gateway.raw(bearing(&first)).await.status(), 200);
    ADVANCE_SECONDS.store(601, Ordering::SeqCst);
    let response = gateway.raw(bearing(&first)).await;
    response.problem(401, "caller_unknown");
    assert!(
        response
            .field("www-authenticate")
            .unwrap()
            .starts_with("Basic realm=")
    );
    let second = token(&gateway, "a", A).await;
    assert_eq!(gateway.raw(bearing(&second)).await.status(), 200);
    // An expired token is not throttled.
    assert!(
        gateway
            .metrics()
            .await
            .contains(r#"wrong_secrets_total{answered="late"} 0"#)
    );
}

#[tokio::test]
async fn rfc8725_3_1_forged_tokens_are_rejected() {
    let (gateway, upstream) = gateway_for(&block("a", A, "")).await;
    let token = token(&gateway, "a", A).await;
    let parts: Vec<&str> = token.split('.').collect();
    let (payload, signature) = (parts[1], parts[2]);
    let header = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let mut forged = vec![
        format!("{}.{payload}.", header(r#"{"alg":"none"}"#)),
        format!("{}.{payload}.{signature}", header(r#"{"alg":"none"}"#)),
        format!(
            "{}.{payload}.{signature}",
            header(r#"{"alg":"HS512","typ":"JWT"}"#)
        ),
        format!(
            "{}.{payload}.{signature}",
            header(r#"{"alg":"RS256","typ":"JWT"}"#)
        ),
        format!(
            "{}.{}.{signature}",
            parts[0],
            header(r#"{"iss":"citrix-auth-proxy","sub":"a","exp":9999999999}"#)
        ),
        format!("{}.{payload}.{}", parts[0], "A".repeat(43)),
        format!("{}.{payload}.", parts[0]),
        format!("{token}x"),
        format!("{token}.{token}"),
        format!("x{token}"),
        format!(
            "eyJ{}.{}.{}",
            "a".repeat(20_000),
            "b".repeat(20_000),
            "c".repeat(10_000)
        ),
    ];
    forged
        .extend([1, 10, token.len() / 2, token.len() - 1].map(|length| token[..length].to_owned()));
    for forged in &forged {
        gateway
            .raw(bearing(forged))
            .await
            .problem(401, "caller_unknown");
    }
    assert_eq!(gateway.raw(bearing(&token)).await.status(), 200);
    assert_eq!(upstream.take_requests().await.len(), 1);
}

#[tokio::test]
async fn caller_rules_apply_to_its_token_but_not_to_its_login() {
    let rules = "methods = [\"GET\"]\npaths = [\"/systemlog/**\"]";
    let (gateway, upstream) = gateway_for(&block("a", A, rules)).await;
    let token = token(&gateway, "a", A).await;
    let to = |path: &str| bearing(&token).replace("GET / ", &format!("GET {path} "));
    assert_eq!(gateway.raw(to("/systemlog/records")).await.status(), 200);
    gateway
        .raw(to("/licensing/x"))
        .await
        .problem(403, "caller_forbidden");
    gateway
        .raw(to("/systemlog/records").replace("GET", "DELETE"))
        .await
        .problem(403, "caller_forbidden");
    assert_eq!(upstream.take_requests().await.len(), 1);
}

#[tokio::test]
async fn reload_invalidates_only_tokens_of_changed_keys_or_secrets() {
    let callers = block("a", A, "") + &block("b", B, "");
    let (mut gateway, _upstream) = gateway_for(&callers).await;
    let [token_a, token_b] = [token(&gateway, "a", A).await, token(&gateway, "b", B).await];
    let statuses = async |gateway: &Gateway| {
        [
            gateway.raw(bearing(&token_a)).await.status(),
            gateway.raw(bearing(&token_b)).await.status(),
        ]
    };
    // The key of the process is unchanged.
    gateway.reload(&(callers.clone() + "[limits]\nmax_queued = 7"));
    assert_eq!(statuses(&gateway).await, [200, 200]);
    gateway.reload(&(block("a", "new", "") + &block("b", B, "")));
    assert_eq!(statuses(&gateway).await, [401, 200]);
    gateway.reload(&(callers.clone() + KEY));
    assert_eq!(statuses(&gateway).await, [401, 401]);
    gateway.reload(&callers);
    assert_eq!(statuses(&gateway).await, [200, 200]);
}
