//! Tokens and secrets never appear in logs or debug output.

use super::*;
use crate::token::keeper::reader::SecretSources;

const TOKEN: &str = "CANARY-token";
const SECRET: &str = "CANARY-secret";

#[tokio::test(start_paused = true)]
async fn log_has_all_fields_but_no_secret() {
    let log = CapturedLog::start();
    let keeper = TestKeeper::with(
        secret(SECRET),
        Some(secret("CANARY-other")),
        Duration::ZERO,
        |call| match call.number {
            1 | 2 => login_error(Outcome::InvalidClient),
            3 => login_error(Outcome::Tls),
            4 => issued("CANARY\n", Lifetime::Assumed),
            5 => issued(TOKEN, Lifetime::Assumed),
            _ => login_error(Outcome::Http5xx),
        },
    );
    seconds(4000.0).await;
    assert!(keeper.logins() > 6);
    let text = log.text();
    for expected in [
        "token obtained",
        "customer=\"acme\"",
        "generation=1",
        "lifetime_s=3600",
        "next_refresh_in_s=",
        "transaction_id=\"11111111-good\"",
        "transaction_id=\"22222222-bad\"",
        "outcome=\"invalid_client\"",
        "the id or secret is wrong, or the secret expired",
        "next_attempt_in_s=",
        "client secret accepted",
        "login failed; no usable token",
        "login failed; current token still valid",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(!text.contains("CANARY"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn debug_output_has_no_token_or_secret() {
    let keeper = TestKeeper::with(secret(SECRET), None, Duration::ZERO, |_| {
        issued(TOKEN, Lifetime::Assumed)
    });
    seconds(1.0).await;
    let token = keeper.slot.usable(Moment::now(keeper.clock)).unwrap();
    let sent = token.authorization(AuthorizationScheme::Cws);
    assert_eq!(sent.to_str().unwrap(), "CwsAuth Bearer=CANARY-token");
    assert_eq!(
        token
            .authorization(AuthorizationScheme::Bearer)
            .to_str()
            .unwrap(),
        "Bearer CANARY-token"
    );
    let client_secret = SecretString::from(SECRET);
    let credential = credential(secret(SECRET), None);
    let login = LoginRequest {
        url: &credential.token_url,
        dialect: credential.token_dialect,
        client_id: &credential.client_id,
        client_secret: &client_secret,
    };
    let sources = SecretSources {
        current: secret(SECRET),
        next: None,
    };
    let files = FileReader::register(&Registry::new()).unwrap();
    let snapshot = SecretReader::new("acme", sources, &files).read().await;
    let mut secrets = SecretSelector::new();
    let reading = secrets.select(snapshot);
    let printed = format!(
        "{token:?} {sent:?} {:?} {:?} {:?} {login:?} {secrets:?} {reading:?} {:?} {:?}",
        keeper.slot,
        keeper.slot.status(),
        keeper.slot.unavailable(),
        issued(TOKEN, Lifetime::Assumed),
        login_error(Outcome::InvalidClient),
    );
    assert!(!printed.contains("CANARY"), "{printed}");
}
