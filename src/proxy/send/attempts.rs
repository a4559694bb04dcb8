//! Attempts at one response head.

use std::sync::Arc;

use http_body::Body as _;
use tokio::time::Instant;

use super::outgoing::Outgoing;
use super::{SendContext, Sent};
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::inbound::body::CallerBody;
use crate::limit::owner::OwnerKey;
use crate::state::{Customer, Destination};
use crate::upstream::dial::ConnectError;
use crate::upstream::exchange::UpstreamResponse;
use crate::upstream::http1;
use crate::upstream::pool::Lease;
use crate::upstream::{AttemptError, BoxError, ResponseDeadline};
use citrix_wire::head_limit::HeadTooLarge;

/// Attempts for one response; more would only repeat what these have shown.
const MAX_ATTEMPTS: u32 = 3;

/// The reason that there is no response.
enum NoResponse {
    Connect(Arc<ConnectError>),
    /// See [`AttemptError::Unprocessed`].
    Unprocessed(BoxError),
    /// See [`AttemptError::Broken`].
    Broken(BoxError),
    /// See [`AttemptError::Malformed`].
    Malformed(BoxError),
    HeadTooLarge,
    TimedOut,
}

impl SendContext<'_> {
    /// Sends until there is a response head or another attempt is not safe.
    ///
    /// A request that was certainly not processed is sent again whatever it is, if its body is at
    /// hand. So is, once, one that crossed the 408 with which the upstream closes an idle connection;
    /// otherwise the 408 is for the caller. The upstream may also close a pooled connection while a
    /// request is written to it; then a copy is sent, once, if the method is idempotent and there is no
    /// body (RFC 9110 section 9.2.2). Any other failure is final.
    pub(super) async fn attempts(
        &self,
        outgoing: &mut Outgoing<'_>,
        mut body: CallerBody,
        began: Instant,
        customer: &Customer,
        exchange: &mut Exchange,
    ) -> Result<Sent, Failure> {
        let limit = self.live.upstream.response_timeout;
        let deadline = ResponseDeadline::new(limit, began, body.progress());
        let repeatable = outgoing.is_idempotent() && body.is_end_stream();
        let mut attempt = 0;
        let error = loop {
            attempt += 1;
            exchange.begin_attempt(&self.destination.origin, outgoing.head);
            let mut lease = match self.lease(attempt == 1, exchange.owner().key()).await {
                Ok(lease) => lease,
                Err(error) => break NoResponse::Connect(error),
            };
            // The token that `queue` waited for may have expired during the dial.
            let waited = exchange.waited();
            let token = exchange
                .usable_token(customer, self.live, self.shared.clock)
                .await?;
            let is_stale = exchange.waited() > waited && !lease.is_alive();
            outgoing.authorize(&mut body, &token, self.destination);
            exchange.count_attempt();
            let may_repeat = attempt < MAX_ATTEMPTS;
            // The copy may be on a used connection as well, if that is one of HTTP/2.
            let may_be_stale = attempt == 1 && repeatable && lease.reused;
            let was_idle = attempt == 1 && lease.reused && !lease.is_http2();
            let origin = &self.destination.origin;
            let result = match is_stale {
                true => Err(AttemptError::closed(body)),
                false => lease.exchange(outgoing.head, body, origin, &deadline).await,
            };
            let outcome = result.as_ref().map(UpstreamResponse::status);
            exchange.end_attempt(outcome.map_err(AttemptError::reason));
            let (error, again) = match result {
                Ok(response) => {
                    let crossed = was_idle && http1::is_idle_close(&response.message);
                    let Some(again) = crossed.then(|| outgoing.body_again()).flatten() else {
                        return Ok(Sent { response, token });
                    };
                    body = again;
                    continue;
                }
                Err(AttemptError::Unprocessed { body, error }) => (
                    NoResponse::Unprocessed(error),
                    // Boxed, because it is rare.
                    Box::pin(outgoing.unprocessed(body))
                        .await
                        .filter(|_| may_repeat),
                ),
                Err(AttemptError::Broken(error)) => (
                    NoResponse::Broken(error),
                    outgoing.body_again().filter(|_| may_be_stale),
                ),
                Err(AttemptError::Malformed(error)) => (
                    NoResponse::Malformed(error),
                    outgoing.body_again().filter(|_| may_be_stale),
                ),
                Err(AttemptError::HeadTooLarge) => break NoResponse::HeadTooLarge,
                Err(AttemptError::TimedOut) => break NoResponse::TimedOut,
            };
            match again {
                Some(again) => body = again,
                None => break error,
            }
        };
        Err(error.into_failure(self.destination, &deadline))
    }

    /// Leases a connection; after the first attempt, another one.
    async fn lease(&self, first: bool, owner: OwnerKey) -> Result<Lease, Arc<ConnectError>> {
        let origin = &self.destination.origin;
        // Boxed: dialling is rare and its future large.
        if !first {
            return Box::pin(self.pool.lease_another(origin, owner)).await;
        }
        match self.pool.reuse(origin, owner).await {
            Some(lease) => Ok(lease),
            None => Box::pin(self.pool.lease(origin, owner)).await,
        }
    }
}

impl NoResponse {
    /// Returns the failure for the caller. A fault of its own body takes precedence.
    fn into_failure(self, destination: &Destination, deadline: &ResponseDeadline) -> Failure {
        if let Some(fault) = deadline.upload_fault() {
            return fault.into();
        }
        let authority = &destination.origin.url.authority;
        match self {
            Self::Connect(error) => {
                let detail = format!("no connection to {authority}: {error}; {}", error.advice());
                Failure::new(Reason::UpstreamConnect, detail).with_source(error)
            }
            Self::TimedOut => {
                let limit = humantime::format_duration(deadline.limit());
                let detail = format!(
                    "no response head from {authority} within {limit} (upstream.response_timeout)"
                );
                Failure::new(Reason::UpstreamTimeout, detail)
            }
            Self::Malformed(error) => {
                let detail = format!(
                    "response of {authority}: {error}; the request may have been processed"
                );
                Failure::new(Reason::UpstreamBroken, detail)
            }
            Self::HeadTooLarge => {
                let detail = format!("response of {authority}: {HeadTooLarge}");
                Failure::new(Reason::UpstreamBroken, detail)
            }
            Self::Unprocessed(error) => {
                let detail = format!(
                    "{authority} refused the request or closed the connection before it; the request was not processed"
                );
                Failure::new(Reason::UpstreamBroken, detail).with_source(error)
            }
            Self::Broken(error) => {
                let detail = format!(
                    "{authority} broke the connection before its response head; the request may have been processed"
                );
                Failure::new(Reason::UpstreamBroken, detail).with_source(error)
            }
        }
    }
}
