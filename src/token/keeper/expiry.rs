//! The end of a token's lifetime on the monotonic clock.

use std::convert::Infallible;
use std::future::pending;

use tokio::time::sleep_until;
use tracing::warn;

use crate::system::clock::Clock;
use crate::token::slot::TokenSlot;

/// Withdraws each token at the end of its usable lifetime on the monotonic clock: once the wall clock
/// was set back, it would be sent beyond. Runs besides the logins, which may take longer than the
/// token is valid.
pub(super) async fn withdraw_expired(slot: &TokenSlot, clock: Clock, customer: &str) -> Infallible {
    let mut changes = slot.changes();
    loop {
        let ends = changes.borrow_and_update().ends;
        let end = async {
            match ends {
                Some(end) => sleep_until(end).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            // The slot outlives the receiver.
            _ = changes.changed() => {}
            () = end => {
                let now = clock.now();
                if slot.usable(now).is_some() {
                    warn!(
                        customer,
                        "wall clock set back; token withdrawn at the end of its lifetime"
                    );
                }
                slot.expire(now);
            }
        }
    }
}
