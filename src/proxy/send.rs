//! Step 6: sends the request and waits for the response head.
//!
//! `attempts` repeats an attempt whose connection failed. Three kinds of response make `send` send
//! the request again, each within a limit of its own: a 401 (`replay`, with a new token), a 429 or
//! 503 (`retry`, after a wait) and a 307 (`redirect`, to another region). The response of a frozen
//! site becomes a failure (`frozen`); every other response is for the caller.

mod acceptance;
mod attempts;
mod frozen;
mod outgoing;
mod redirect;
mod replay;
mod retry;
mod share;
#[cfg(test)]
mod simulation;

use std::rc::Rc;
use std::sync::Arc;

use fleet_protocol::spacing::Spacing;
use http::StatusCode;

use self::outgoing::Outgoing;
use self::redirect::{RegionRedirect, may_redirect};
use self::retry::{RetryBudget, may_request_wait};
use super::prepare::UpstreamRequest;
use crate::config::Live;
use crate::error::Failure;
use crate::exchange::Exchange;
use crate::inbound::body::CallerBody;
use crate::observe::metrics::ReplayOutcome;
use crate::state::{Customer, Destination, HeldToken, Route, Shared, Snapshot};
use crate::upstream::exchange::UpstreamResponse;
use crate::upstream::origin::Origin;
use crate::upstream::pool::Pool;
use citrix_wire::citrix::SITE_FROZEN;

/// A response for the caller.
pub struct Received {
    pub(super) response: UpstreamResponse,
    /// The token the request was sent with; `None` if another request was sent, whose response has
    /// been searched for its token.
    pub(super) token: Option<Rc<HeldToken>>,
    /// The gateway of another region that responded, if the request was redirected.
    pub(super) redirected_to: Option<Arc<Origin>>,
}

/// A response, and how its request was sent.
struct Sent {
    response: UpstreamResponse,
    /// The token the request was sent with.
    token: Rc<HeldToken>,
}

/// Dependencies of sending one request.
pub struct SendContext<'a> {
    pub route: &'a Route,
    pub destination: &'a Destination,
    pub snapshot: &'a Snapshot,
    /// Connections of this worker.
    pub pool: &'a Rc<Pool>,
    /// State shared by the workers.
    pub shared: &'a Shared,
    pub live: &'a Live,
}

/// Next action after a response.
enum Next {
    /// Send the request again, with this body.
    Again(CallerBody),
    /// Return the response to the caller.
    Done(Sent),
}

/// State of a request that outlasts one response.
struct Resend<'r> {
    outgoing: Outgoing<'r>,
    /// The redirect in effect: known from an earlier request, or from a response to this one.
    redirect: Option<Box<RegionRedirect>>,
    /// Replays after a 401.
    replays: u32,
    budget: RetryBudget,
}

impl SendContext<'_> {
    /// Sends a request, repeatedly if responses demand it, and returns the response for the caller.
    ///
    /// # Errors
    /// If there is no token, connection or response, if the caller's body fails, if there is no
    /// in-flight permit after a wait, or if the site is frozen.
    pub async fn send(
        &self,
        request: &mut UpstreamRequest<'_>,
        exchange: &mut Exchange,
    ) -> Result<Received, Failure> {
        if let Some(shared) = request.shared.take() {
            return Ok(share::follow(*shared, exchange));
        }
        let (customer, policy) = (request.customer, request.policy.as_ref());
        let redirect = self.known_redirect(&mut request.head, customer, policy);
        let mut body = std::mem::replace(&mut request.body, CallerBody::empty());
        let mut resend = Resend {
            redirect,
            outgoing: Outgoing::new(&mut request.head, &body, request.batch.take()),
            replays: 0,
            budget: RetryBudget::new(self.live.upstream.retry_budget, request.queue_left),
        };
        let sent = loop {
            if resend.budget.must_wait() || self.shared.gates.any_closed() {
                Box::pin(self.wait(&mut resend, customer, exchange)).await;
            }
            if !exchange.holds_in_flight_permit() {
                // `wait` or `replay` released the permit.
                let limit = self.live.limits.max_in_flight;
                exchange
                    .acquire_in_flight_permit(&self.shared.in_flight, limit)
                    .await?;
            }
            exchange.begin_permit_use(self.spacing(customer));
            let began = exchange.begin_upstream_time();
            let sent = {
                let redirected = self.redirected(&resend.redirect);
                let context = redirected.as_deref().unwrap_or(self);
                context
                    .attempts(&mut resend.outgoing, body, began, customer, exchange)
                    .await
            };
            exchange.end_upstream_time();
            if let Err(failure) = &sent {
                self.redirect_failed(&resend.redirect, failure);
            }
            let sent = sent?;
            // The branches before the last are rare and boxed, so that they do not enlarge the
            // future.
            let next = match sent.response.status() {
                StatusCode::UNAUTHORIZED => {
                    Box::pin(self.replay(sent, &mut resend, customer, exchange)).await
                }
                status if may_request_wait(status) => {
                    Box::pin(self.retry(sent, &mut resend, customer, exchange)).await
                }
                status if may_redirect(status, &resend.redirect) => {
                    Box::pin(self.redirect(sent, &mut resend, customer, policy)).await
                }
                _ => break sent,
            };
            match next {
                Next::Again(again) => body = again,
                Next::Done(sent) => break sent,
            }
        };
        self.record_acceptance(&sent, &resend.outgoing, customer, exchange);
        let redirected_to = self.finish(sent.response.status(), resend, customer, exchange);
        if sent.response.status().as_u16() == SITE_FROZEN && self.leads_to_citrix(customer) {
            return Err(Box::pin(frozen::request_activation(sent, customer)).await);
        }
        let received = Received {
            response: sent.response,
            token: Some(sent.token),
            redirected_to,
        };
        Ok(match request.followers.take() {
            Some(followers) => self.share(received, followers, &request.head.target, exchange),
            None => received,
        })
    }

    /// Returns the spacing of the route's permits, if other replicas use the limit as well.
    fn spacing(&self, customer: &Customer) -> Option<Spacing> {
        let replicas = self.live.fleet.as_ref()?.replicas?;
        let (_, queue_timeout) = customer.limit(self.route)?;
        Some(Spacing::new(replicas, queue_timeout))
    }

    /// Returns `true` if the route leads to Citrix as far as the configuration shows: if it is built in, or
    /// leads to a gateway of the customer. The upstream of another one neither redirects requests to
    /// Citrix nor reports a state of the customer there.
    fn leads_to_citrix(&self, customer: &Customer) -> bool {
        let is_origin = |(origin, _): (&Arc<Origin>, &str)| origin.id == self.destination.origin.id;
        self.route.config.built_in || self.snapshot.gateways(customer).any(is_origin)
    }

    /// Counts the outcomes of replays and waits, and releases the replay buffer. Returns the gateway
    /// of another region that responded, if the request was redirected.
    fn finish(
        &self,
        status: StatusCode,
        resend: Resend<'_>,
        customer: &Customer,
        exchange: &Exchange,
    ) -> Option<Arc<Origin>> {
        if resend.replays > 0 && status != StatusCode::UNAUTHORIZED {
            self.replay_accepted(customer, &resend.outgoing, exchange);
        }
        if resend.budget.wait_requested() && !may_request_wait(status) {
            self.count_replay(ReplayOutcome::Waited);
        }
        resend.outgoing.release();
        resend.redirect?.into_gateway()
    }

    fn count_replay(&self, outcome: ReplayOutcome) {
        self.shared
            .metrics
            .count_replay(self.route.config.name(), outcome);
    }
}
