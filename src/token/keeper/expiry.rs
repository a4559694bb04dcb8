//! The end of a token's lifetime on the monotonic clock.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::system::clock::Clock;
use crate::system::moment::Moment;
use crate::token::slot::TokenSlot;

/// Time between two looks at a slot without a token; a new one is a change, which is awaited anyway.
const WITHOUT_TOKEN: Duration = Duration::from_hours(24);

/// Withdraws each token at the end of its usable lifetime on the monotonic clock, so that the status
/// shows it. Runs besides the logins, which may take longer than the token is valid.
pub(super) async fn withdraw_expired(slot: &TokenSlot, clock: Clock, customer: &str) -> Infallible {
    let mut changes = slot.changes();
    loop {
        changes.mark_unchanged();
        let end = slot.ends().map(|ends| ends.instant);
        let end = end.unwrap_or_else(|| Instant::now() + WITHOUT_TOKEN);
        // An error would be the end of the slot, which outlives this.
        if timeout_at(end, changes.changed()).await.is_ok() {
            continue;
        }
        let Some(ends) = slot.ends() else {
            continue;
        };
        let now = Moment::now(clock);
        if now.wall < ends.wall {
            warn!(
                customer,
                "wall clock set back; token withdrawn at the end of its lifetime"
            );
        }
        slot.withdraw();
    }
}
