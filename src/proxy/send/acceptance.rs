//! Records whether Citrix accepts the customer's requests.

use http::StatusCode;
use tokio::time::Instant;
use tracing::{info, warn};

use super::outgoing::Outgoing;
use super::{SendContext, Sent};
use crate::exchange::Exchange;
use crate::limit::scope::Scope;
use crate::state::Customer;

impl SendContext<'_> {
    /// Records the response that the caller gets: a success, or a rejection of the customer.
    pub(super) fn record_acceptance(
        &self,
        sent: &Sent,
        outgoing: &Outgoing<'_>,
        customer: &Customer,
        exchange: &Exchange,
    ) {
        match sent.response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.record_rejection(sent, outgoing, customer, exchange);
            }
            // The first success after a rejection is rare; others cost one atomic load.
            status
                if (status.is_success() || status == StatusCode::NOT_MODIFIED)
                    && customer.token.acceptance().awaits_success() =>
            {
                self.record_success(outgoing, customer);
            }
            _ => {}
        }
    }

    #[cold]
    fn record_success(&self, outgoing: &Outgoing<'_>, customer: &Customer) {
        if !self.leads_to_citrix(customer) {
            return;
        }
        let scope = self.rejection_scope(outgoing, customer);
        let ended = customer.token.acceptance().accept(scope, Instant::now());
        if let Some(ended) = ended {
            info!(
                customer = customer.name(),
                rejected_requests = ended.requests,
                "Citrix accepts requests of the customer again"
            );
        }
    }

    #[cold]
    fn record_rejection(
        &self,
        sent: &Sent,
        outgoing: &Outgoing<'_>,
        customer: &Customer,
        exchange: &Exchange,
    ) {
        if !self.leads_to_citrix(customer) {
            return;
        }
        let (slot, code) = (&customer.token, sent.response.status());
        if code == StatusCode::UNAUTHORIZED && sent.token.generation() < slot.generation() {
            // The current token may be accepted.
            return slot.acceptance().count(code);
        }
        let scope = self.rejection_scope(outgoing, customer);
        let (now, at) = (Instant::now(), self.shared.clock.now());
        let Some(begun) = slot.acceptance().reject(scope, code, now, at) else {
            return;
        };
        warn!(
            customer = customer.name(),
            code = code.as_u16(),
            rejected_requests = begun.requests,
            since = %humantime::format_rfc3339_seconds(begun.since),
            transaction_id = exchange.transaction_id().to_str().unwrap_or_default(),
            "Citrix rejects all requests of the customer; the customer id is wrong, or the API client has no access"
        );
    }

    /// Returns the scope of a request's rejections.
    pub(super) fn rejection_scope(&self, outgoing: &Outgoing<'_>, customer: &Customer) -> Scope {
        let route = self.route.config.name();
        self.shared
            .rejections
            .scope(customer.id.as_bytes(), route, outgoing.path())
    }
}
