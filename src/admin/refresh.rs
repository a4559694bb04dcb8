//! `POST /tokens/{customer}/refresh`: requests a new token.

use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::readiness::whole_seconds;
use super::{Admin, FullResponse, json, text};
use crate::token::slot::TokenSlot;
use crate::token::status::TokenStatus;

/// Added to `token.request_timeout`, so that a login that times out is reported as such.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// Returns the customer if the path is one of this endpoint.
pub(super) fn customer_of(path: &str) -> Option<&str> {
    customer_before(path, "/refresh")
}

/// Returns the customer of a path below `/tokens` with this end.
pub(super) fn customer_before<'a>(path: &'a str, end: &str) -> Option<&'a str> {
    let customer = path.strip_prefix("/tokens/")?.strip_suffix(end)?;
    (!customer.is_empty() && !customer.contains('/')).then_some(customer)
}

/// Requests a login from the customer's token keeper and waits for its outcome. The login continues
/// if the client disconnects.
pub(super) async fn respond(admin: &Admin, customer: &str) -> FullResponse {
    let Some((customer, slot, timeout)) = find(admin, customer) else {
        return text(StatusCode::NOT_FOUND, "no customer with this id\n");
    };
    let before = slot.status().generation;
    if let Err(wait) = slot.request_login() {
        let detail = "the last forced login is too recent, or the backoff after a failed login \
                      has not ended";
        let result = RefreshResult {
            detail,
            ..RefreshResult::new(&customer, "deferred", &slot.status(), admin)
        };
        return result.into_response(StatusCode::TOO_MANY_REQUESTS, Some(wait));
    }
    tracing::info!(customer, "token refresh requested by an operator");
    let newer = slot.wait_newer(before, admin.shared.clock, timeout).await;
    let status = slot.status();
    match (newer, status.current_failure()) {
        (Ok(_), _) => RefreshResult::new(&customer, "refreshed", &status, admin)
            .into_response(StatusCode::OK, None),
        (Err(_), Some(failure)) if !status.in_progress => RefreshResult {
            detail: failure.outcome.advice(),
            outcome: Some(failure.outcome.label()),
            transaction_id: failure
                .transaction_id
                .as_ref()
                .and_then(|id| id.to_str().ok()),
            ..RefreshResult::new(&customer, "failed", &status, admin)
        }
        .into_response(
            StatusCode::SERVICE_UNAVAILABLE,
            Some(status.next_login_in()),
        ),
        (Err(_), _) => {
            let result = RefreshResult {
                detail: "the login is still in progress; /readyz reports its result",
                ..RefreshResult::new(&customer, "pending", &status, admin)
            };
            result.into_response(StatusCode::GATEWAY_TIMEOUT, Some(status.next_login_in()))
        }
    }
}

/// Returns the id of the customer as configured, its token slot, and the timeout for a login.
fn find(admin: &Admin, id: &str) -> Option<(String, Arc<TokenSlot>, Duration)> {
    let published = admin.shared.published.load();
    let mut customers = published.customers.iter();
    let customer =
        customers.find(|customer| customer.credential.customer().eq_ignore_ascii_case(id))?;
    Some((
        customer.credential.customer().to_owned(),
        Arc::clone(&customer.token),
        published.live.token.request_timeout + GRACE_PERIOD,
    ))
}

/// Result of the request. It contains no secrets.
#[derive(Serialize)]
struct RefreshResult<'a> {
    customer: &'a str,
    result: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    /// Outcome of a failed login, as in the metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// Citrix's id of a failed login.
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<&'a str>,
    /// State of the current token.
    state: &'static str,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_s: Option<u64>,
    next_login_in_s: u64,
}

impl<'a> RefreshResult<'a> {
    fn new(customer: &'a str, result: &'static str, status: &TokenStatus, admin: &Admin) -> Self {
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

    fn into_response(self, status: StatusCode, retry_after: Option<Duration>) -> FullResponse {
        let mut response = json(status, &self);
        if let Some(wait) = retry_after {
            let wait = whole_seconds(wait.max(Duration::from_secs(1)));
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_names_one_customer() {
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
