//! After a 429, 502, 503 or 504: a retry after a wait, or the response for the caller (interface
//! §4.4). A hint of a 429 or 503 states the wait; without one, a GET or HEAD is retried once.

mod budget;
mod gate;
#[cfg(test)]
mod simulation;

use std::sync::Arc;
use std::time::Duration;

use self::budget::Allowance;
use self::gate::RequestedWait;
use super::outgoing::Outgoing;
use super::{Next, Resend, SendContext, Sent};
use crate::exchange::Exchange;
use crate::limit::owner::Owner;
use crate::limit::scope::Scope;
use crate::observe::metrics::ReplayOutcome;
use crate::state::Customer;
use crate::upstream::body::ResponseBody;
use citrix_wire::retry_after;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, Response, StatusCode};

pub(super) use self::budget::RetryBudget;
pub(super) use self::gate::RequestGate;

/// Maximum time that a hint closes the gate, unless the request may wait longer.
const MAX_GATE: Duration = Duration::from_mins(10);
/// Bytes of a body that are searched for a hint. Citrix's error bodies have a few hundred.
const MAX_PEEK: usize = 16 * 1024;
/// Timeout for these bytes.
const PEEK_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns `true` for the statuses after which a request may be retried.
pub(super) fn may_request_wait(status: StatusCode) -> bool {
    is_temporary_failure(status) || status == StatusCode::TOO_MANY_REQUESTS
}

/// Returns `true` for the statuses of a failure behind Citrix's gateway that may have passed with
/// the next request.
fn is_temporary_failure(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

impl SendContext<'_> {
    /// Returns the request for a retry, if the requested wait is within its budget;
    /// [`SendContext::wait`] makes it. Either way the gate closes for other requests.
    pub(super) async fn retry(
        &self,
        unavailable: Sent,
        resend: &mut Resend<'_>,
        customer: &Customer,
        exchange: &mut Exchange,
    ) -> Next {
        // Reading the rest of the response is Citrix's time.
        exchange.begin_upstream_time();
        let next = self
            .next_try(unavailable, resend, customer, exchange.owner())
            .await;
        exchange.end_upstream_time();
        next
    }

    async fn next_try(
        &self,
        mut unavailable: Sent,
        resend: &mut Resend<'_>,
        customer: &Customer,
        owner: &Arc<Owner>,
    ) -> Next {
        let status = unavailable.response.status();
        let too_many = status == StatusCode::TOO_MANY_REQUESTS;
        let retry_budget = self.live.upstream.retry_budget;
        let allowance = resend.budget.allowance(too_many);
        if allowance == Allowance::Retry && retry_budget.is_zero() {
            return Next::Done(unavailable);
        }
        let hint = if too_many || status == StatusCode::SERVICE_UNAVAILABLE {
            self.hint(&mut unavailable.response.message).await
        } else {
            None
        };
        if hint.is_none() && !too_many {
            return self
                .retry_failure(unavailable, resend, customer, owner)
                .await;
        }
        let gate = self.gate(customer, &resend.outgoing, owner);
        let budget = &mut resend.budget;
        let wait = gate.close(budget, too_many, hint, fastrand::f64());
        let again = if too_many || resend.outgoing.is_idempotent() {
            resend.outgoing.body_again()
        } else {
            None
        };
        let outcome = match again {
            None => ReplayOutcome::NotReplayable,
            Some(_) if !wait.is_permitted => ReplayOutcome::WaitTooLong,
            Some(again) if gate.plan(budget, wait) => {
                unavailable.response.discard().await;
                return Next::Again(again);
            }
            Some(_) => ReplayOutcome::TooManyWait,
        };
        self.count_replay(outcome);
        Next::Done(unavailable)
    }

    /// Returns the request for the one retry of a GET or HEAD that failed without a hint. The gate
    /// stays open: the failure may be that of this request alone. Another method may have been
    /// processed.
    async fn retry_failure(
        &self,
        failed: Sent,
        resend: &mut Resend<'_>,
        customer: &Customer,
        owner: &Arc<Owner>,
    ) -> Next {
        let is_safe = matches!(resend.outgoing.head.method, Method::GET | Method::HEAD);
        let budget = &mut resend.budget;
        if !is_safe || budget.failure_retried {
            return Next::Done(failed);
        }
        budget.failure_retried = true;
        let gate = self.gate(customer, &resend.outgoing, owner);
        let wait = RequestedWait::after_failure(budget);
        let outcome = match resend.outgoing.body_again() {
            None => ReplayOutcome::NotReplayable,
            Some(_) if !wait.is_permitted => ReplayOutcome::WaitTooLong,
            Some(again) if gate.plan(budget, wait) => {
                failed.response.discard().await;
                return Next::Again(again);
            }
            Some(_) => ReplayOutcome::TooManyWait,
        };
        self.count_replay(outcome);
        Next::Done(failed)
    }

    /// Waits as long as a response requested, and then while the gate is closed, within the budget;
    /// after that the request is sent anyway. The in-flight permit is released for the wait, the
    /// queue permit is kept.
    pub(super) async fn wait(
        &self,
        resend: &mut Resend<'_>,
        customer: &Customer,
        exchange: &mut Exchange,
    ) {
        let owner = Arc::clone(exchange.owner());
        let gate = self.gate(customer, &resend.outgoing, &owner);
        let Some(first) = gate.next_wait(&mut resend.budget) else {
            return;
        };
        exchange.release_in_flight_permit();
        let _waiting = exchange.begin_queue_wait();
        gate.wait(first, &mut resend.budget).await;
    }

    fn gate<'g>(
        &'g self,
        customer: &Customer,
        outgoing: &Outgoing<'_>,
        owner: &'g Arc<Owner>,
    ) -> RequestGate<'g> {
        RequestGate {
            gates: &self.shared.gates,
            fleet: self.shared.fleet.as_deref(),
            scope: self.gate_scope(customer, outgoing),
            owner,
            max_queued: self.live.limits.max_queued,
            retry_budget: self.live.upstream.retry_budget,
        }
    }

    fn gate_scope(&self, customer: &Customer, outgoing: &Outgoing<'_>) -> Scope {
        let (id, path) = (customer.id.as_bytes(), outgoing.path());
        let route = self.route.config.name();
        let fleet = self.shared.fleet.as_ref();
        let shared = fleet.and_then(|fleet| fleet.gate(id, route, path));
        shared.unwrap_or_else(|| self.shared.gates.scope(id, route, path))
    }

    /// Returns the wait that a response requests in its head, else in its body.
    async fn hint(&self, response: &mut Response<ResponseBody>) -> Option<Duration> {
        let now = retry_after::date(response.headers()).unwrap_or_else(|| self.shared.clock.now());
        if let Some(wait) = retry_after::from_header(response.headers(), now) {
            return Some(wait);
        }
        if !may_be_json(response.headers()) {
            return None;
        }
        retry_after::from_body(&response.body_mut().peek(MAX_PEEK, PEEK_TIMEOUT).await)
    }
}

/// Returns `true` for JSON, and for plain text: Monitor OData labels its JSON so (contract §3).
fn may_be_json(headers: &HeaderMap) -> bool {
    let json = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            let essence = value
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase();
            matches!(essence.as_str(), "application/json" | "text/plain")
                || essence.ends_with("+json")
        });
    json && !headers.contains_key(CONTENT_ENCODING)
}
