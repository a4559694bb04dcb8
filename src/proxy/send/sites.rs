//! What follows a 530 of Citrix: the site sleeps, and is woken up (design 4.4).

use std::time::Duration;

use super::Sent;
use crate::error::{Failure, Reason};
use crate::state::snapshot::Customer;

/// How soon the caller should come back. Citrix's own client looks every 30 s, for up to 20 minutes (contract 4).
const COME_BACK: Duration = Duration::from_secs(30);

/// Has the site woken up; what the caller is told meanwhile. Nothing is remembered: the next request is tried again.
pub(super) async fn is_frozen(answer: Sent, customer: &Customer) -> Failure {
    customer.site.report_frozen();
    answer.response.into_body().discard().await;
    let detail = "Citrix put the site to sleep because nobody used it (530); the gateway asked to wake it up, which may \
                  take up to 20 minutes";
    Failure::new(Reason::SiteFrozen, detail).retry_after(COME_BACK)
}
