//! Neither token nor secret is printed, whatever happens.

use super::*;
use crate::token::keeper::reader::SecretSources;

const TOKEN: &str = "CANARY-token";
const SECRET: &str = "CANARY-secret";

#[tokio::test(start_paused = true)]
async fn the_log_tells_everything_but_the_secrets() {
    let log = Log::start();
    let kept = Kept::with(
        secret(SECRET),
        Some(secret("CANARY-other")),
        Duration::ZERO,
        |call| match call.number {
            1 | 2 => refused(Outcome::InvalidClient),
            3 => refused(Outcome::Tls),
            4 => issued("CANARY\n", Lifetime::Assumed),
            5 => issued(TOKEN, Lifetime::Assumed),
            _ => refused(Outcome::Http5xx),
        },
    );
    seconds(4000.0).await;
    assert!(kept.logins() > 6);
    let text = log.text();
    for expected in [
        "obtained a token",
        "customer=\"acme\"",
        "generation=1",
        "lifetime_s=3600",
        "next_refresh_in_s=",
        "transaction_id=\"11111111-good\"",
        "transaction_id=\"22222222-bad\"",
        "outcome=\"invalid_client\"",
        "the id or secret is wrong, or the secret expired",
        "next_attempt_in_s=",
        "this secret works",
        "the login failed, and there is no usable token",
        "the login failed; the present token is still good",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(!text.contains("CANARY"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn nothing_prints_a_token_or_a_secret() {
    let kept = Kept::with(secret(SECRET), None, Duration::ZERO, |_| {
        issued(TOKEN, Lifetime::Assumed)
    });
    seconds(1.0).await;
    let token = kept.slot.usable(kept.clock.now()).unwrap();
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
    let look = SecretReader::default().look(&sources).await;
    let mut secrets = SecretSelector::new(sources);
    let reading = secrets.read(look);
    let printed = format!(
        "{token:?} {sent:?} {:?} {:?} {:?} {login:?} {secrets:?} {reading:?} {:?} {:?}",
        kept.slot,
        kept.slot.status(),
        kept.slot.unavailable(),
        issued(TOKEN, Lifetime::Assumed),
        refused(Outcome::InvalidClient),
    );
    assert!(!printed.contains("CANARY"), "{printed}");
}
