//! Bad secrets are throttled and counted; valid ones are not.

use super::*;
use crate::harness::wait_until;

/// Returns the value of a metric.
async fn counter(gateway: &Gateway, name: &str) -> u64 {
    let metrics = gateway.metrics().await;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("{metrics}"));
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn bad_secrets_are_delayed_and_a_valid_one_from_the_same_address_is_not() {
    let (gateway, upstream) = gateway_for(&block("a", A, "")).await;
    let late = r#"citrix_auth_proxy_wrong_secrets_total{answered="late"}"#;
    let basic = format!("Authorization: Basic {}\r\n", STANDARD.encode("a:wrong"));
    // In every form of credentials.
    let attempts = [
        form("a", "wrong"),
        in_json("a", "wrong"),
        form("unknown", A),
        get_with("/", &basic),
        get_with("/", "X-Api-Key: wrong\r\n"),
        get_with("/", "Authorization: Bearer wrong\r\n"),
    ];
    let mut waiting = Vec::new();
    for (number, attempt) in attempts.iter().cycle().take(60).enumerate() {
        let mut wire = gateway.connect().await;
        wire.write(attempt).await;
        waiting.push(wire);
        wait_until("the bad secret is counter", || async {
            counter(&gateway, late).await > number as u64
        })
        .await;
    }
    // The last of them wait five seconds each; meanwhile a valid secret is served.
    let token = token(&gateway, "a", A).await;
    assert_eq!(gateway.raw(bearing(&token)).await.status(), 200);
    assert_eq!(
        gateway
            .raw(get_with("/", &format!("X-Api-Key: {A}\r\n")))
            .await
            .status(),
        200
    );
    let access = gateway.metrics().await;
    let responded: u64 = access
        .lines()
        .filter(|line| line.contains(r#"requests_total{caller="none""#))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(
        responded < 60,
        "{responded} of 60 had a response before the valid secret"
    );
    for wire in &mut waiting {
        assert!(matches!(
            within_timeout(wire.response()).await.status(),
            400 | 401
        ));
    }
    assert_eq!(counter(&gateway, late).await, 60);
    assert_eq!(
        counter(
            &gateway,
            r#"citrix_auth_proxy_wrong_secrets_total{answered="at_once"}"#
        )
        .await,
        0
    );
    assert_eq!(
        counter(
            &gateway,
            r#"citrix_auth_proxy_logins_total{outcome="invalid_client"}"#
        )
        .await,
        30
    );
    assert_eq!(upstream.take_requests().await.len(), 2);
}

#[tokio::test]
async fn missing_credentials_and_citrix_tokens_are_not_throttled() {
    let (gateway, _upstream) = gateway_for(&block("a", A, "")).await;
    let old = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.AAAA";
    for fields in [
        String::new(),
        format!("Authorization: CwsAuth Bearer={old}\r\n"),
    ] {
        gateway
            .raw(get_with("/", &fields))
            .await
            .problem(401, "caller_unknown");
    }
    assert_eq!(
        counter(
            &gateway,
            r#"citrix_auth_proxy_wrong_secrets_total{answered="late"}"#
        )
        .await,
        0
    );
}

#[tokio::test]
async fn bad_secrets_without_configured_secrets_are_not_throttled() {
    let (gateway, _upstream) =
        gateway_for("[[caller]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\n").await;
    gateway
        .raw(get_with("/", "X-Api-Key: wrong\r\n"))
        .await
        .problem(403, "caller_forbidden");
    assert_eq!(gateway.raw(form("a", "wrong")).await.status(), 400);
    assert_eq!(
        counter(
            &gateway,
            r#"citrix_auth_proxy_wrong_secrets_total{answered="late"}"#
        )
        .await,
        0
    );
}
