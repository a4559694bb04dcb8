//! `POST /tokens/{customer}/refresh`: a new token now, because an operator says so.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::readiness::whole_seconds;
use super::{Admin, Answer, text};
use crate::token::slot::TokenSlot;
use crate::token::status::TokenStatus;

/// How much longer than `token.request_timeout` the answer waits, so that a login which takes all of it is told as
/// what it is.
const GRACE: Duration = Duration::from_secs(1);

/// The customer in the path, if it is one of this endpoint's.
pub(super) fn customer_of(path: &str) -> Option<&str> {
    let customer = path.strip_prefix("/tokens/")?.strip_suffix("/refresh")?;
    (!customer.is_empty() && !customer.contains('/')).then_some(customer)
}

/// Asks the customer's keeper for a login and waits for what comes of it. A caller that leaves does not end the
/// login.
pub(super) async fn answer(admin: &Admin, customer: &str) -> Answer {
    let Some((customer, slot, patience)) = find(admin, customer) else {
        return text(
            StatusCode::NOT_FOUND,
            "the gateway has no customer with this id\n",
        );
    };
    let before = slot.status().generation;
    if let Err(wait) = slot.request_login() {
        let detail = "the last login that was asked for is too recent, or the token endpoint wants to be left alone";
        let told = Told {
            detail,
            ..Told::of(&customer, "deferred", &slot.status(), admin)
        };
        return told.answer(StatusCode::TOO_MANY_REQUESTS, Some(wait));
    }
    tracing::info!(customer, "an operator asks for a new token");
    let arrived = slot.wait_newer(before, admin.shared.clock, patience).await;
    let status = slot.status();
    match (arrived, status.current_failure()) {
        (Ok(_), _) => Told::of(&customer, "refreshed", &status, admin).answer(StatusCode::OK, None),
        (Err(_), Some(failure)) if !status.in_progress => Told {
            detail: failure.outcome.advice(),
            outcome: Some(failure.outcome.label()),
            transaction_id: failure
                .transaction_id
                .as_ref()
                .and_then(|id| id.to_str().ok()),
            ..Told::of(&customer, "failed", &status, admin)
        }
        .answer(
            StatusCode::SERVICE_UNAVAILABLE,
            Some(status.next_login_in()),
        ),
        (Err(_), _) => {
            let detail = "the login is still being made; /readyz tells what comes of it";
            let told = Told {
                detail,
                ..Told::of(&customer, "pending", &status, admin)
            };
            told.answer(StatusCode::GATEWAY_TIMEOUT, Some(status.next_login_in()))
        }
    }
}

/// The customer's id as it is configured, its slot, and how long to wait for a login.
fn find(admin: &Admin, named: &str) -> Option<(String, Arc<TokenSlot>, Duration)> {
    let published = admin.shared.published.load();
    let mut customers = published.customers.iter();
    let is_it = |id: &str| id.eq_ignore_ascii_case(named);
    let customer = customers.find(|customer| is_it(customer.credential.customer()))?;
    Some((
        customer.credential.customer().to_owned(),
        Arc::clone(&customer.token),
        published.live.token.request_timeout + GRACE,
    ))
}

/// What the operator is told; nothing of it is secret.
#[derive(Serialize)]
struct Told<'a> {
    customer: &'a str,
    result: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    /// How the login failed, as in the metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// Citrix's, of the failed login.
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<&'a str>,
    /// Of the token at hand.
    state: &'static str,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_s: Option<u64>,
    next_login_in_s: u64,
}

impl<'a> Told<'a> {
    fn of(customer: &'a str, result: &'static str, status: &TokenStatus, admin: &Admin) -> Self {
        let now = admin.shared.clock.now();
        let left = status.expires_at.and_then(|at| at.duration_since(now).ok());
        Self {
            customer,
            result,
            detail: "",
            outcome: None,
            transaction_id: None,
            state: status.state(now).name(),
            generation: status.generation,
            expires_in_s: left.map(|left| left.as_secs()),
            next_login_in_s: whole_seconds(status.next_login_in()),
        }
    }

    fn answer(&self, status: StatusCode, retry_after: Option<Duration>) -> Answer {
        // A struct of strings and numbers always serializes.
        let mut body = serde_json::to_vec(self).unwrap_or_default();
        body.push(b'\n');
        let mut answer = text(status, Bytes::from(body));
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = retry_after {
            let wait = whole_seconds(wait.max(Duration::from_secs(1)));
            answer
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_one_customer() {
        for (path, customer) in [
            ("/tokens/acme/refresh", Some("acme")),
            ("/tokens/a.b_c-1/refresh", Some("a.b_c-1")),
            ("/tokens//refresh", None),
            ("/tokens/refresh", None),
            ("/tokens/a/b/refresh", None),
            ("/tokens/acme/refresh/", None),
            ("/tokens/acme", None),
        ] {
            assert_eq!(customer_of(path), customer, "{path}");
        }
    }
}
