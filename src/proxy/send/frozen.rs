//! After a 530: requests the activation of a frozen site (interface §4.4).

use std::time::Duration;

use super::Sent;
use crate::error::{Failure, Reason};
use crate::state::Customer;

/// `Retry-After` for a frozen site. Citrix's own client polls every 30 s, for up to 20 minutes
/// (contract §4).
const FROZEN_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Requests the activation of the customer's site and returns the failure for the caller. The 530
/// is not remembered: the next request is tried.
pub(super) async fn request_activation(sent: Sent, customer: &Customer) -> Failure {
    customer.site.report_frozen();
    sent.response.discard().await;
    let detail = "Citrix has frozen the unused site (530); its activation is requested and may take 20 minutes";
    Failure::new(Reason::SiteFrozen, detail).retry_after(FROZEN_RETRY_AFTER)
}
