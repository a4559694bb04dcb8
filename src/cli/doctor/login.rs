//! A login with each secret, and what its answer tells of clocks and customers.

use std::time::Duration;

use http::HeaderValue;
use secrecy::SecretString;
use tokio::time::Instant;

use super::check::{Check, Kind, State};
use crate::config::{Credential, SecretSource};
use crate::system::clock::Clock;
use crate::token::issuer::{HttpIssuer, IssuedToken, Issuer as _, LoginError, LoginRequest};
use crate::token::response::customer_of;
use crate::token::status::Skew;

/// From how many seconds on clocks that differ are worth a warning.
const MUCH: f64 = 30.0;

/// Logs in with both secrets of a rotation: each shall work before the other is taken away. The token of the first that
/// does.
///
/// # Errors
/// Why there is no token to go on with.
pub(super) async fn examine(
    credential: &Credential,
    endpoint_fails: Option<Kind>,
    issuer: &HttpIssuer,
    clock: Clock,
    tell: &mut dyn FnMut(Check),
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
            tell(Check::skipped(
                Kind::Token,
                &of,
                format!("{} failed at the token endpoint", failed.name()),
            ));
            continue;
        }
        match log_in(&of, credential, secret, issuer, clock, tell).await {
            Some(Ok(issued)) => {
                skew = skew.or(issued.skew);
                token = token.or(Some(issued.grant.token));
            }
            Some(Err(failure)) => skew = skew.or(failure.skew),
            None => {}
        }
    }
    tell(clocks(credential, skew));
    let whose = customer(credential, token.as_ref());
    // Of no use with another customer's id, and what Citrix would say then sounds like a wrong region.
    let known = if whose.state == State::Failed {
        Err("the token is another customer's")
    } else {
        token.ok_or("no token")
    };
    tell(whose);
    known
}

/// `None`: nothing was asked.
async fn log_in(
    of: &str,
    credential: &Credential,
    secret: &SecretSource,
    issuer: &HttpIssuer,
    clock: Clock,
    tell: &mut dyn FnMut(Check),
) -> Option<Result<IssuedToken, LoginError>> {
    let secret = match secret.read() {
        Ok(secret) => secret,
        Err(error) => {
            let advice = "check that it exists and who may read it";
            tell(Check::failed(Kind::Token, &of, error.to_string(), advice));
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
                "Citrix gave a token for {}{}",
                humantime::format_duration(Duration::from_secs(life.as_secs())),
                transaction(issued.transaction_id.as_ref())
            );
            let expires = humantime::format_rfc3339_seconds(expires).to_string();
            let check = Check::ok(Kind::Token, &of, detail).fact("expires", expires);
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
            let check = Check::failed(Kind::Token, &of, detail, failure.outcome.advice());
            with_id(
                check.fact("outcome", failure.outcome.label()),
                failure.transaction_id.as_ref(),
            )
        }
    };
    tell(check.took(began.elapsed()));
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
        return Check::skipped(Kind::Skew, &of, "no answer of Citrix's told its time");
    };
    let seconds = (skew.seconds() * 10.0).round() / 10.0;
    let (amount, direction) = (
        seconds.abs(),
        if seconds < 0.0 { "behind" } else { "ahead of" },
    );
    let detail = format!("this machine's clock is {amount} s {direction} Citrix's");
    let check = if amount < MUCH {
        Check::ok(Kind::Skew, &of, detail)
    } else {
        let advice =
            "set it by NTP; tokens' lives are corrected by it, certificates and logs are not";
        Check::warning(Kind::Skew, &of, detail, advice)
    };
    check.fact("seconds", seconds)
}

/// Whose the token is, by its own word; the signature is Citrix's to check.
fn customer(credential: &Credential, token: Option<&SecretString>) -> Check {
    let of = credential.customer();
    let Some(token) = token else {
        return Check::skipped(Kind::Customer, &of, "no token");
    };
    match customer_of(token) {
        None => Check::skipped(Kind::Customer, &of, "the token does not say whose it is"),
        Some(told) if told.eq_ignore_ascii_case(of) => {
            Check::ok(Kind::Customer, &of, "the token is this customer's").fact("told", told)
        }
        Some(told) => {
            let detail = format!("the token is that of the customer {told}");
            let advice =
                "set customer_id to that customer, or client_id and secret to a client of this one";
            Check::failed(Kind::Customer, &of, detail, advice).fact("told", told)
        }
    }
}
