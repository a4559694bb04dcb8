//! Step 6: the token goes in, and the request out, on a connection of this worker's pool.
//!
//! What goes wrong on the way is tried again by `Upstream::attempts`, and a 401 is replayed with another token
//! by [`Upstream::send`], which also makes the waits that 429 and 503 ask for and goes where a 307 sends; each has a
//! budget of its own.

mod outgoing;
mod regions;
mod replay;
mod retry;
mod sites;

use std::rc::Rc;
use std::sync::Arc;

use http::{Response, StatusCode};
use tokio::time::Instant;

use self::outgoing::{Outgoing, ReplayCopy};
use self::regions::may_lead_elsewhere;
use self::retry::{RetryBudget, may_ask_to_wait};
use super::prepare::UpstreamRequest;
use super::queue::{take_place, usable_token};
use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::inbound::body::BodyProgress;
use crate::observe::metrics::Replay;
use crate::state::Shared;
use crate::state::snapshot::{Customer, Destination, HeldToken, Route};
use crate::upstream::body::ResponseBody;
use crate::upstream::dial::ConnectError;
use crate::upstream::origin::Origin;
use crate::upstream::pool::{Lease, Pool};
use crate::upstream::{AttemptError, ResponseDeadline};
use citrix_wire::citrix::SITE_FROZEN;

/// Attempts with one token. After the first each dials anew, so more of them would only repeat what one has shown.
const MAX_ATTEMPTS: u32 = 3;

/// What came back, and with which token it was asked for.
pub struct Sent {
    pub(super) response: Response<ResponseBody>,
    pub(super) token: Rc<HeldToken>,
    /// Who answered, where that is another region's gateway than the route leads to.
    pub(super) elsewhere: Option<Arc<Origin>>,
}

/// Where a request goes, and what it is sent with.
pub struct Upstream<'a> {
    /// The route it took.
    pub route: &'a Route,
    /// What host, and in which scheme it wants the token.
    pub destination: &'a Destination,
    /// Where a redirect may lead.
    pub gateways: &'a [Arc<Origin>],
    /// This worker's connections.
    pub pool: &'a Rc<Pool>,
    /// The clock, the counters, where tokens were refused lately.
    pub shared: &'a Shared,
    /// Timeouts.
    pub live: &'a Live,
}

impl Upstream<'_> {
    /// Sends a request and waits for the head of its response. A 401 leads to a replay with another token where
    /// that is safe and another can be had, a 429 or 503 to a wait and another try, a 307 to another region to one
    /// there.
    ///
    /// # Errors
    /// Without a token, a connection, or a response; when the caller's body fails on the way; when a wait
    /// ends and there is no place in flight any more; when the site is frozen.
    pub async fn send(
        &self,
        request: UpstreamRequest<'_>,
        exchange: &mut Exchange,
    ) -> Result<Sent, Failure> {
        let UpstreamRequest {
            method,
            target,
            headers,
            body,
            customer,
            batch,
            ..
        } = request;
        let mut outgoing = Outgoing {
            method,
            target,
            headers,
            body,
        };
        let mut detour = self.known_detour(&mut outgoing, customer);
        let mut spare = outgoing.spare(batch);
        let mut replays = 0;
        let mut patience = RetryBudget::new(self.live.upstream.retry_budget);
        let mut sent = loop {
            if patience.must_wait() || self.shared.gates.any_closed() {
                Box::pin(self.wait(&spare, customer, &mut patience, exchange)).await;
            }
            if exchange.place.is_none() {
                // It was given up for a wait.
                take_place(self.shared, self.live, exchange).await?;
            }
            exchange.upstream_begins();
            let sent = self
                .with_redirect(&detour)
                .attempts(outgoing, &spare, customer, exchange)
                .await;
            exchange.upstream_ends();
            let sent = sent.inspect_err(|failure| self.detour_failed(&detour, failure))?;
            // Boxed: nearly all requests end here.
            let again = match sent.response.status() {
                StatusCode::UNAUTHORIZED => {
                    let replay =
                        Box::pin(self.replay(sent, &spare, customer, replays, exchange)).await;
                    replays += 1;
                    replay
                }
                status if may_ask_to_wait(status) => {
                    Box::pin(self.wait_out(sent, &spare, customer, &mut patience, exchange)).await
                }
                status if may_lead_elsewhere(status, &detour) => {
                    Box::pin(self.detour(sent, &mut detour, &mut spare, customer)).await
                }
                _ => Err(sent),
            };
            match again {
                Ok(again) => outgoing = again,
                Err(last) => break last,
            }
        };
        let status = sent.response.status();
        if replays > 0 && status != StatusCode::UNAUTHORIZED {
            self.replay_was_accepted(customer, &spare);
        }
        if patience.was_told() && !may_ask_to_wait(status) {
            self.shared
                .metrics
                .replayed(self.route.config.name(), Replay::Waited);
        }
        spare.forget();
        if status.as_u16() == SITE_FROZEN {
            return Err(Box::pin(sites::is_frozen(sent, customer)).await);
        }
        sent.elsewhere = detour.and_then(|detour| detour.into_origin());
        Ok(sent)
    }

    /// Sends until a response's head comes or trying again is not safe.
    ///
    /// A connection from the pool may have been closed by the upstream at the moment we used it. If nothing was
    /// written the request itself comes back; if it was, a copy goes out again where that is harmless: an
    /// idempotent method without a body (RFC 9110 section 9.2.2). A new connection that breaks is not tried
    /// again.
    async fn attempts(
        &self,
        mut outgoing: Outgoing,
        spare: &ReplayCopy,
        customer: &Customer,
        exchange: &mut Exchange,
    ) -> Result<Sent, Failure> {
        let upload = outgoing.body.progress();
        let limit = self.live.upstream.response_timeout;
        let deadline = ResponseDeadline::new(limit, Instant::now(), upload.clone());
        let failure =
            |failed: Failed| failed.into_failure(self.destination, upload.as_deref(), &deadline);
        let harmless = outgoing.is_harmless();
        let mut attempt = 0;
        loop {
            attempt += 1;
            exchange.begin_attempt(
                &self.destination.origin,
                &outgoing.target,
                &mut outgoing.headers,
            );
            let lease = self
                .lease(attempt == 1)
                .await
                .map_err(|error| failure(Failed::Connect(error)))?;
            // The dial that this lease waited for, its own or another's, may have outlasted a token.
            let token = usable_token(customer, self.live, self.shared.clock, exchange).await?;
            spare.authorize(&mut outgoing, &token, self.destination.authorization);
            exchange.attempts += 1;
            let again = attempt < MAX_ATTEMPTS;
            let stale = again && harmless && lease.reused;
            let answer = lease
                .exchange_of(outgoing, self.destination, &deadline)
                .await;
            exchange.end_attempt(
                answer
                    .as_ref()
                    .map(Response::status)
                    .map_err(AttemptError::reason),
            );
            outgoing = match answer {
                Ok(response) => {
                    return Ok(Sent {
                        response,
                        token,
                        elsewhere: None,
                    });
                }
                Err(AttemptError::Unsent { request, .. }) if again => {
                    Outgoing::taken_back(*request)
                }
                Err(error) if stale && error.is_loss() => spare
                    .again()
                    .ok_or_else(|| failure(Failed::Attempt(error)))?,
                Err(error) => return Err(failure(Failed::Attempt(error))),
            };
        }
    }

    /// A connection for an attempt. Pooled connections go stale together, so only the first attempt takes one.
    async fn lease(&self, first: bool) -> Result<Lease, Arc<ConnectError>> {
        let origin = &self.destination.origin;
        // Boxed: dialling is rare and its future large.
        if !first {
            return Box::pin(self.pool.dial(origin)).await;
        }
        match self.pool.at_hand(origin).await {
            Some(lease) => Ok(lease),
            None => Box::pin(self.pool.lease(origin)).await,
        }
    }
}

/// Why all attempts together brought no response.
enum Failed {
    Connect(Arc<ConnectError>),
    Attempt(AttemptError),
}

impl Lease {
    async fn exchange_of(
        self,
        outgoing: Outgoing,
        destination: &Destination,
        deadline: &ResponseDeadline,
    ) -> Result<Response<ResponseBody>, AttemptError> {
        let request = if self.speaks_http2() {
            outgoing.into_http2(destination)
        } else {
            outgoing.into_http1(destination)
        };
        self.exchange(request, deadline).await
    }
}

impl Failed {
    fn into_failure(
        self,
        destination: &Destination,
        upload: Option<&BodyProgress>,
        deadline: &ResponseDeadline,
    ) -> Failure {
        let authority = &destination.origin.authority;
        match (upload.and_then(|upload| upload.fault.get()), self) {
            (Some(fault), _) => fault.into(),
            (None, Self::Connect(error)) => {
                let detail = format!("no connection to {authority}: {error}; {}", error.advice());
                Failure::new(Reason::UpstreamConnect, detail).with_source(error)
            }
            (None, Self::Attempt(AttemptError::TimedOut)) => {
                let limit = humantime::format_duration(deadline.limit());
                let detail = format!(
                    "{authority} did not answer within {limit} (upstream.response_timeout)"
                );
                Failure::new(Reason::UpstreamTimeout, detail)
            }
            (
                None,
                Self::Attempt(
                    AttemptError::Broken(error)
                    | AttemptError::Refused(error)
                    | AttemptError::Unsent { error, .. },
                ),
            ) => {
                let detail =
                    format!("{authority} broke the connection off before its answer began");
                Failure::new(Reason::UpstreamBroken, detail).with_source(error)
            }
        }
    }
}
