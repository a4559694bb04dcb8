//! The customer that a token names.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

/// Returns a JWT that names `customer`.
fn token_of(customer: Option<&str>) -> Result<IssuedToken, LoginError> {
    let claims = match customer {
        Some(customer) => format!(r#"{{"exp":1,"customer":"{customer}"}}"#),
        None => r#"{"exp":1}"#.to_owned(),
    };
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    issued(&token, Lifetime::FromRequest(Duration::from_secs(3600)))
}

fn other_customer(keeper: &TestKeeper) -> Option<String> {
    let other = keeper.slot.status().other_customer?;
    Some(other.to_string())
}

#[tokio::test(start_paused = true)]
async fn customer_of_the_token_is_compared_case_insensitively() {
    for (named, expected) in [
        (None, None),
        (Some("acme"), None),
        (Some("ACME"), None),
        (Some("contoso"), Some("contoso".to_owned())),
    ] {
        let keeper = TestKeeper::start(move |_| token_of(named));
        seconds(1.0).await;
        assert_eq!(keeper.usable(), 1, "the token is used all the same");
        assert_eq!(other_customer(&keeper), expected, "{named:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_customer_is_logged_once_per_change() {
    let log = CapturedLog::start();
    let keeper = TestKeeper::start(|call| match call.number {
        1 | 2 => token_of(Some("contoso")),
        3 => token_of(Some("fabrikam")),
        _ => token_of(Some("acme")),
    });
    let count = |text: &str| log.text().matches(text).count();
    let warning = "token belongs to another customer; Citrix will reject requests";
    for (login, warnings, named) in [
        (1, 1, Some("contoso")),
        (2, 1, Some("contoso")),
        (3, 2, Some("fabrikam")),
        (4, 2, None),
        (5, 2, None),
    ] {
        seconds(if login == 1 { 1.0 } else { 2656.0 }).await;
        assert_eq!(keeper.logins(), login);
        assert_eq!(count(warning), warnings, "login {login}");
        assert_eq!(other_customer(&keeper).as_deref(), named, "login {login}");
    }
    assert!(log.text().contains("token_customer=\"fabrikam\""));
    assert_eq!(count("token no longer belongs to another customer"), 1);
}
