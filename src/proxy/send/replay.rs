//! After a 401: a replay with a new token, or the 401 for the caller (interface §4.4).

use tracing::warn;

use super::outgoing::Outgoing;
use super::{Next, Resend, SendContext, Sent};
use crate::exchange::Exchange;
use crate::limit::scope::Scope;
use crate::observe::metrics::ReplayOutcome;
use crate::state::Customer;
use crate::system::moment::Moment;
use crate::token::events::EventKind;
use crate::token::rejections::Reaction;
use crate::token::slot::ForcedRefresh;

/// Replays of one request. One follows a forced refresh; others only if tokens are replaced
/// meanwhile.
const MAX_REPLAYS: u32 = 3;

impl SendContext<'_> {
    /// Returns the request for a replay, if it can be replayed and there is a newer token.
    pub(super) async fn replay(
        &self,
        unauthorized: Sent,
        resend: &mut Resend<'_>,
        customer: &Customer,
        exchange: &mut Exchange,
    ) -> Next {
        let replays = resend.replays;
        resend.replays += 1;
        let again = if replays < MAX_REPLAYS {
            resend.outgoing.body_again()
        } else {
            None
        };
        let newer = self
            .newer_token(
                &unauthorized,
                &resend.outgoing,
                customer,
                again.is_some(),
                exchange,
            )
            .await;
        let outcome = match (newer, again) {
            (Ok(()), Some(again)) => {
                unauthorized.response.discard().await;
                return Next::Again(again);
            }
            (_, _) if replays > 0 => ReplayOutcome::RefusedAgain,
            (Ok(()), None) => ReplayOutcome::NotReplayable,
            (Err(outcome), _) => outcome,
        };
        self.count_unauthorized(customer, outcome);
        Next::Done(unauthorized)
    }

    /// Ensures that there is a newer token than the rejected one. Forces a refresh if necessary,
    /// and waits for it only if the request is replayable.
    async fn newer_token(
        &self,
        unauthorized: &Sent,
        outgoing: &Outgoing<'_>,
        customer: &Customer,
        replayable: bool,
        exchange: &mut Exchange,
    ) -> Result<(), ReplayOutcome> {
        let generation = unauthorized.token.generation();
        if customer
            .usable_token(Moment::now(self.shared.clock))
            .is_some_and(|token| token.generation() > generation)
        {
            return Ok(());
        }
        let scope = self.suppression_scope(outgoing, customer, exchange);
        let rejections = &self.shared.rejections;
        match rejections.report(&customer.token, scope, generation) {
            Reaction::Reported(ForcedRefresh::Replaced) => Ok(()),
            Reaction::Reported(ForcedRefresh::Deferred(_)) => Err(ReplayOutcome::Deferred),
            Reaction::Reported(ForcedRefresh::InProgress) if !replayable => {
                Err(ReplayOutcome::NotReplayable)
            }
            Reaction::Reported(ForcedRefresh::InProgress) => {
                self.wait_for_refresh(generation, customer, exchange).await
            }
            Reaction::NewlySuppressed => {
                self.warn_of_suppression(customer, exchange);
                Err(ReplayOutcome::Suppressed)
            }
            Reaction::Suppressed => Err(ReplayOutcome::Suppressed),
        }
    }

    fn warn_of_suppression(&self, customer: &Customer, exchange: &Exchange) {
        warn!(
            customer = customer.name(),
            caller = exchange.caller_name(),
            route = self.route.config.name(),
            transaction_id = exchange.transaction_id().to_str().unwrap_or_default(),
            "Citrix rejected a fresh token (401): the API client lacks the permission, or the site or \
             customer id is wrong; forced refreshes of this caller suppressed for 60 s"
        );
    }

    /// Returns the scope in which a second 401 suppresses forced refreshes of the caller.
    fn suppression_scope(
        &self,
        outgoing: &Outgoing<'_>,
        customer: &Customer,
        exchange: &Exchange,
    ) -> Scope {
        let scope = self.rejection_scope(outgoing, customer);
        self.shared
            .rejections
            .scope_of_caller(scope, exchange.owner().key())
    }

    /// Waits for the token that replaces `generation`. The in-flight permit is released meanwhile,
    /// if fewer than `limits.max_queued` requests wait for this customer's token: a slow login does
    /// not exhaust the permits.
    async fn wait_for_refresh(
        &self,
        generation: u64,
        customer: &Customer,
        exchange: &mut Exchange,
    ) -> Result<(), ReplayOutcome> {
        let waiting = customer
            .token
            .waiting()
            .acquire(exchange.owner(), self.live.limits.max_queued);
        if waiting.is_ok() {
            exchange.release_in_flight_permit();
        }
        let timeout = self.live.token.request_timeout;
        let newer = customer
            .token
            .wait_newer(generation, self.shared.clock, timeout);
        let newer = exchange.count_wait(newer).await;
        newer.map(drop).map_err(|_| ReplayOutcome::RefreshFailed)
    }

    /// Counts the outcome of a 401, also in the history of the customer's token.
    fn count_unauthorized(&self, customer: &Customer, outcome: ReplayOutcome) {
        self.count_replay(outcome);
        let kind = EventKind::Unauthorized(outcome);
        let events = customer.token.events();
        events.record(kind, self.shared.clock.now());
    }

    /// Records that a replay was not rejected: the token was the only problem.
    pub(super) fn replay_accepted(
        &self,
        customer: &Customer,
        outgoing: &Outgoing<'_>,
        exchange: &Exchange,
    ) {
        let scope = self.suppression_scope(outgoing, customer, exchange);
        self.shared.rejections.accepted(scope);
        self.count_unauthorized(customer, ReplayOutcome::Accepted);
    }
}
