//! What follows a 401 of Citrix: a replay with another token, or the 401 for the caller (design 4.4).

use tokio::time::Instant;
use tracing::warn;

use super::outgoing::{Outgoing, ReplayCopy};
use super::{Sent, Upstream};
use crate::exchange::Exchange;
use crate::observe::metrics::Replay;
use crate::state::snapshot::Customer;
use crate::token::rejections::RefreshDecision;
use crate::token::slot::ForcedRefresh;

/// Replays of one request. One follows a login that it waited for; others only when tokens were replaced
/// meanwhile.
const MAX_REPLAYS: u32 = 3;

impl Upstream<'_> {
    /// The request once more, when there is a token that it may fare better with.
    ///
    /// # Errors
    /// With the 401 when it is the caller's.
    pub(super) async fn replay(
        &self,
        unauthorized: Sent,
        spare: &ReplayCopy,
        customer: &Customer,
        replays: u32,
        exchange: &mut Exchange,
    ) -> Result<Outgoing, Sent> {
        let again = if replays < MAX_REPLAYS {
            spare.again()
        } else {
            None
        };
        let newer = self
            .newer_token(&unauthorized, spare, customer, again.is_some(), exchange)
            .await;
        let outcome = match (newer, again) {
            (Ok(()), Some(again)) => {
                unauthorized.response.into_body().discard().await;
                return Ok(again);
            }
            (_, _) if replays > 0 => Replay::RefusedAgain,
            (Ok(()), None) => Replay::NotReplayable,
            (Err(outcome), _) => outcome,
        };
        self.shared
            .metrics
            .replayed(self.route.config.name(), outcome);
        Err(unauthorized)
    }

    /// Sees to it that there is a newer token than the one that was refused, and waits for it if the request can
    /// be replayed. Whether it can or not, the login is asked for.
    async fn newer_token(
        &self,
        unauthorized: &Sent,
        spare: &ReplayCopy,
        customer: &Customer,
        replayable: bool,
        exchange: &mut Exchange,
    ) -> Result<(), Replay> {
        let generation = unauthorized.token.generation();
        if customer
            .usable_token(self.shared.clock.now())
            .is_some_and(|token| token.generation() > generation)
        {
            return Ok(());
        }
        let scope = self.shared.rejections.scope(
            customer.id.as_bytes(),
            self.route.config.name(),
            spare.path(),
        );
        let last_suspect = customer.slot.last_suspect(generation);
        match self
            .shared
            .rejections
            .may_refresh(scope, generation, last_suspect, Instant::now())
        {
            RefreshDecision::Allowed => {}
            RefreshDecision::NewlySuppressed => {
                warn!(
                    customer = customer.id.to_str().unwrap_or_default(),
                    route = self.route.config.name(),
                    transaction_id = exchange.transaction_id.to_str().unwrap_or_default(),
                    "Citrix answers 401 to a fresh token too: the API client may not do this, or the site or \
                     customer id is wrong. For 60 s no 401 from there leads to a login"
                );
                return Err(Replay::Suppressed);
            }
            RefreshDecision::Suppressed => return Err(Replay::Suppressed),
        }
        match customer.slot.report_rejected(generation) {
            ForcedRefresh::Replaced => Ok(()),
            ForcedRefresh::Deferred(_) => Err(Replay::Deferred),
            ForcedRefresh::InProgress if !replayable => Err(Replay::NotReplayable),
            ForcedRefresh::InProgress => self.wait_for_login(generation, customer, exchange).await,
        }
    }

    /// Waits for the token that replaces `generation`. Meanwhile it is not in flight, as far as there is room among
    /// those that wait for this customer's token: a login that hangs takes no places from other customers.
    async fn wait_for_login(
        &self,
        generation: u64,
        customer: &Customer,
        exchange: &mut Exchange,
    ) -> Result<(), Replay> {
        let waiting = customer.slot.waiting().acquire(self.live.limits.max_queued);
        if waiting.is_some() {
            exchange.place = None;
        }
        let began = Instant::now();
        let patience = self.live.token.request_timeout;
        let newer = customer
            .slot
            .wait_newer(generation, self.shared.clock, patience)
            .await;
        exchange.waited += began.elapsed();
        newer.map(drop).map_err(|_| Replay::RefreshFailed)
    }

    /// Counts a replay that did better, and remembers that a token was all it took.
    pub(super) fn replay_was_accepted(&self, customer: &Customer, spare: &ReplayCopy) {
        self.shared
            .rejections
            .accepted(self.shared.rejections.scope(
                customer.id.as_bytes(),
                self.route.config.name(),
                spare.path(),
            ));
        self.shared
            .metrics
            .replayed(self.route.config.name(), Replay::Accepted);
    }
}
