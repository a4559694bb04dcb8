//! Waiting for a customer's first token.

use std::sync::Arc;

use super::customer::Customer;
use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::limit::owner::Owner;
use crate::system::clock::Clock;
use crate::token::slot::Unavailable;

impl Customer {
    /// Waits up to `token.startup_wait` for a usable token.
    ///
    /// # Errors
    /// `token_unavailable` if there is none in time; at once if the last login was rejected, if the
    /// next is due later than that, or if `limits.max_queued` requests of the customer, or too many of
    /// the owner, wait already.
    pub async fn wait_for_token(
        &self,
        live: &Live,
        clock: Clock,
        owner: &Arc<Owner>,
    ) -> Result<(), Failure> {
        let (slot, timeout) = (&self.token, live.token.startup_wait);
        let limit = live.limits.max_queued;
        let _slot = slot.waiting().acquire(owner, limit).map_err(|exceeded| {
            let unavailable = slot.unavailable();
            let detail = exceeded.detail(limit, "requests wait for it", "limits.max_queued");
            token_unavailable(Unavailable {
                reason: format!("{}; {detail}", unavailable.reason),
                ..unavailable
            })
        })?;
        let waited = slot.wait_usable(clock, timeout).await;
        waited.map(drop).map_err(token_unavailable)
    }
}

fn token_unavailable(unavailable: Unavailable) -> Failure {
    Failure::new(Reason::TokenUnavailable, unavailable.reason)
        .retry_after(unavailable.retry_after)
        .login_transaction_id(unavailable.transaction_id)
}
