//! Logs in with each secret, and compares clock and customer with the response.

use std::time::Duration;

use http::HeaderValue;
use secrecy::SecretString;
use tokio::time::Instant;

use super::check::{Check, CheckKind, CheckState};
use crate::config::{Credential, SecretSource};
use crate::system::clock::Clock;
use crate::token::issuer::{HttpIssuer, IssuedToken, Issuer as _, LoginError, LoginRequest};
use crate::token::response::{NamedCustomer, OTHER_CUSTOMER_ADVICE, named_customer};
use crate::token::status::Skew;

/// Clock difference in seconds from which a warning is due.
const MAX_SKEW_SECONDS: f64 = 30.0;

/// Logs in with both secrets of a rotation, as each must work before the other is removed. Returns
/// the token of the first login that succeeds.
///
/// # Errors
/// The reason why there is no token for the next step.
pub(super) async fn examine(
    credential: &Credential,
    endpoint_fails: Option<CheckKind>,
    issuer: &HttpIssuer,
    clock: Clock,
    report: &mut dyn FnMut(Check),
) -> Result<SecretString, &'static str> {
    let secrets = [
        ("client_secret", Some(&credential.client_secret)),
        ("client_secret_next", credential.client_secret_next.as_ref()),
    ];
    let (mut skew, mut token) = (None, None);
    for (name, secret) in secrets
        .into_iter()
        .filter_map(|(name, secret)| Some((name, secret?)))
    {
        let of = format!("{}, {name}", credential.customer());
        if let Some(failed) = endpoint_fails {
            report(Check::skipped(
                CheckKind::Token,
                &of,
                format!("{} failed at the token endpoint", failed.name()),
            ));
            continue;
        }
        match log_in(&of, credential, secret, issuer, clock, report).await {
            Some(Ok(issued)) => {
                skew = skew.or(issued.skew);
                token = token.or(Some(issued.grant.token));
            }
            Some(Err(failure)) => skew = skew.or(failure.skew),
            None => {}
        }
    }
    report(clocks(credential, skew));
    let ownership = customer(credential, token.as_ref());
    // With another customer's id, Citrix responds as for a wrong region.
    let known = if ownership.state == CheckState::Failed {
        Err("the token belongs to another customer")
    } else {
        token.ok_or("no token")
    };
    report(ownership);
    known
}

/// Logs in with one secret; `None` if the secret cannot be read.
async fn log_in(
    of: &str,
    credential: &Credential,
    secret: &SecretSource,
    issuer: &HttpIssuer,
    clock: Clock,
    report: &mut dyn FnMut(Check),
) -> Option<Result<IssuedToken, LoginError>> {
    let secret = match secret.read() {
        Ok(secret) => secret,
        Err(error) => {
            let advice = "check that it exists and is readable";
            report(Check::failed(
                CheckKind::Token,
                &of,
                error.to_string(),
                advice,
            ));
            return None;
        }
    };
    let login = LoginRequest {
        url: &credential.token_url,
        dialect: credential.token_dialect,
        client_id: &credential.client_id,
        client_secret: &secret,
    };
    let (began, sent) = (Instant::now(), clock.now());
    let outcome = issuer.log_in(login).await;
    let check = match &outcome {
        Ok(issued) => {
            let expires = issued.grant.lifetime.expires_at(sent, issued.skew);
            let life = expires.duration_since(sent).unwrap_or_default();
            let detail = format!(
                "token issued for {}{}",
                humantime::format_duration(Duration::from_secs(life.as_secs())),
                transaction(issued.transaction_id.as_ref())
            );
            let expires = humantime::format_rfc3339_seconds(expires).to_string();
            let check = Check::ok(CheckKind::Token, &of, detail).fact("expires", expires);
            with_id(check, issued.transaction_id.as_ref())
        }
        Err(failure) => {
            let cause = failure
                .cause
                .as_ref()
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            let detail = format!(
                "no token{cause}{}",
                transaction(failure.transaction_id.as_ref())
            );
            let check = Check::failed(CheckKind::Token, &of, detail, failure.outcome.advice());
            with_id(
                check.fact("outcome", failure.outcome.label()),
                failure.transaction_id.as_ref(),
            )
        }
    };
    report(check.took(began.elapsed()));
    Some(outcome)
}

fn text(id: Option<&HeaderValue>) -> Option<&str> {
    id.and_then(|id| id.to_str().ok())
}

fn transaction(id: Option<&HeaderValue>) -> String {
    text(id)
        .map(|id| format!(", transaction {id}"))
        .unwrap_or_default()
}

fn with_id(check: Check, id: Option<&HeaderValue>) -> Check {
    match text(id) {
        Some(id) => check.fact("transaction_id", id),
        None => check,
    }
}

fn clocks(credential: &Credential, skew: Option<Skew>) -> Check {
    let of = credential.customer();
    let Some(skew) = skew else {
        return Check::skipped(CheckKind::Skew, &of, "no response from Citrix had a Date");
    };
    let seconds = (skew.seconds() * 10.0).round() / 10.0;
    let (amount, direction) = (
        seconds.abs(),
        if seconds < 0.0 { "behind" } else { "ahead of" },
    );
    let detail = format!("this machine's clock is {amount} s {direction} Citrix's");
    let check = if amount < MAX_SKEW_SECONDS {
        Check::ok(CheckKind::Skew, &of, detail)
    } else {
        let advice =
            "synchronize it with NTP; token lifetimes are corrected, certificates and logs are not";
        Check::warning(CheckKind::Skew, &of, detail, advice)
    };
    check.fact("seconds", seconds)
}

/// Compares the customer that the token names; its signature is not verified here.
fn customer(credential: &Credential, token: Option<&SecretString>) -> Check {
    let of = credential.customer();
    let Some(token) = token else {
        return Check::skipped(CheckKind::Customer, &of, "no token");
    };
    match named_customer(token, of) {
        NamedCustomer::None => {
            Check::skipped(CheckKind::Customer, &of, "the token names no customer")
        }
        NamedCustomer::Configured(same) => Check::ok(
            CheckKind::Customer,
            &of,
            "the token belongs to this customer",
        )
        .fact("told", same),
        NamedCustomer::Other(other) => {
            let detail = format!("the token belongs to customer {other}");
            Check::failed(CheckKind::Customer, &of, detail, OTHER_CUSTOMER_ADVICE)
                .fact("told", other)
        }
    }
}
