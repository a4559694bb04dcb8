//! Waiting for a customer's first token.

use super::customer::Customer;
use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::system::clock::Clock;
use crate::token::slot::Unavailable;

impl Customer {
    /// Waits up to `token.startup_wait` for a usable token.
    ///
    /// # Errors
    /// `token_unavailable` if there is none in time; at once if the last login was rejected, if the
    /// next is due later than that, or if `limits.max_queued` requests of the customer wait already.
    pub async fn wait_for_token(&self, live: &Live, clock: Clock) -> Result<(), Failure> {
        let (slot, timeout) = (&self.token, live.token.startup_wait);
        let limit = live.limits.max_queued;
        let Some(_permit) = slot.waiting().acquire(limit) else {
            let unavailable = slot.unavailable();
            let reason = format!(
                "{}; {limit} requests wait for it (limits.max_queued)",
                unavailable.reason
            );
            return Err(token_unavailable(Unavailable {
                reason,
                ..unavailable
            }));
        };
        let waited = slot.wait_usable(clock, timeout).await;
        waited.map(drop).map_err(token_unavailable)
    }
}

fn token_unavailable(unavailable: Unavailable) -> Failure {
    Failure::new(Reason::TokenUnavailable, unavailable.reason)
        .retry_after(unavailable.retry_after)
        .login_transaction_id(unavailable.transaction_id)
}
