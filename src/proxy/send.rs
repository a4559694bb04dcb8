//! Step 6: the token goes in, and the request out, on a connection of this worker's pool.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HOST, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use tokio::time::Instant;

use super::prepare::UpstreamRequest;
use crate::clock::Clock;
use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::inbound::body::{BodyFault, BodyProgress, CallerBody};
use crate::snapshot::{Customer, Destination, HeldToken};
use crate::token::slot::Unavailable;
use crate::upstream::body::ResponseBody;
use crate::upstream::dial::ConnectError;
use crate::upstream::pool::{Lease, Pool};
use crate::upstream::{AttemptError, ResponseDeadline};

/// Attempts in all. After the first each dials anew, so more of them would only repeat what one has shown.
const MAX_ATTEMPTS: u32 = 3;

/// What came back, and with which token it was asked for.
pub struct Sent {
    pub(super) response: Response<ResponseBody>,
    pub(super) token: Rc<HeldToken>,
}

/// Where a request goes, and what it is sent with.
pub struct Upstream<'a> {
    /// What host, and in which scheme it wants the token.
    pub destination: &'a Destination,
    /// This worker's connections.
    pub pool: &'a Rc<Pool>,
    /// Whether tokens have expired.
    pub clock: Clock,
    /// Timeouts.
    pub live: &'a Live,
}

impl Upstream<'_> {
    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// Without a token, a connection, or a response; when the caller's body fails on the way.
    pub async fn send(&self, request: UpstreamRequest<'_>, exchange: &mut Exchange) -> Result<Sent, Failure> {
        let customer = request.customer;
        // Before a connection is taken: it would stand idle for as long as there is no token.
        self.usable_token(customer, exchange).await?;
        let began = Instant::now();
        let outcome = self.attempts(request, began, exchange).await;
        exchange.upstream_time += began.elapsed();
        let sent = outcome?;
        if sent.response.status() == StatusCode::UNAUTHORIZED {
            // Not replayed yet, but the next request shall find a new token.
            customer.slot.refused(sent.token.generation());
        }
        Ok(sent)
    }

    /// The token at hand, or the first one as soon as it is there.
    async fn usable_token(
        &self,
        customer: &Customer,
        exchange: &mut Exchange,
    ) -> Result<Rc<HeldToken>, Failure> {
        loop {
            if let Some(token) = customer.usable_token(self.clock.now()) {
                return Ok(token);
            }
            let patience = self.live.token.startup_wait;
            let status = customer.slot.status();
            let unavailable = customer.slot.unavailable();
            if status.consecutive_failures > 0 && !status.in_progress && unavailable.retry_after > patience {
                // Waiting cannot help, and would take a place from somebody it can.
                return Err(no_token(unavailable));
            }
            let began = Instant::now();
            let waited = Box::pin(customer.slot.wait_usable(self.clock, patience)).await;
            exchange.waited += began.elapsed();
            waited.map_err(no_token)?;
        }
    }

    /// Sends until a response's head comes or trying again is not safe.
    ///
    /// A connection from the pool may have been closed by the upstream at the moment we used it. If nothing was
    /// written the request itself comes back; if it was, a copy goes out again where that is harmless: an
    /// idempotent method without a body (RFC 9110 section 9.2.2). A new connection that breaks is not tried
    /// again.
    async fn attempts(
        &self,
        request: UpstreamRequest<'_>,
        began: Instant,
        exchange: &mut Exchange,
    ) -> Result<Sent, Failure> {
        let UpstreamRequest { method, target, headers, body, upload, customer, .. } = request;
        let deadline = ResponseDeadline::new(self.live.upstream.response_timeout, began, upload.clone());
        let failure = |failed: Failed| failed.into_failure(self.destination, upload.as_deref(), &deadline);
        let harmless = method.is_idempotent() && body.is_end_stream();
        let mut outgoing = Outgoing { method, target, headers, body };
        loop {
            let first = exchange.attempts == 0;
            let lease = self.lease(first).await.map_err(|error| failure(Failed::Connect(error)))?;
            // The dial that this lease waited for, its own or another's, may have outlasted a token.
            let token = self.usable_token(customer, exchange).await?;
            let authorization = token.authorization(self.destination.authorization).clone();
            outgoing.headers.insert(AUTHORIZATION, authorization);
            exchange.attempts += 1;
            let again = exchange.attempts < MAX_ATTEMPTS;
            let copy = (again && harmless && lease.reused).then(|| outgoing.copy_without_body());
            outgoing = match (lease.exchange_of(outgoing, self.destination, &deadline).await, copy) {
                (Ok(response), _) => return Ok(Sent { response, token }),
                (Err(AttemptError::Unsent { request, .. }), _) if again => Outgoing::taken_back(*request),
                (Err(AttemptError::Broken(_) | AttemptError::Refused(_)), Some(copy)) => copy,
                (Err(error), _) => return Err(failure(Failed::Attempt(error))),
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

fn no_token(unavailable: Unavailable) -> Failure {
    Failure::new(Reason::TokenUnavailable, unavailable.reason)
        .retry_after(unavailable.retry_after)
        .login_transaction_id(unavailable.transaction_id)
}

/// Why all attempts together brought no response.
enum Failed {
    Connect(Arc<ConnectError>),
    Attempt(AttemptError),
}

/// A request in the form both versions of HTTP share.
struct Outgoing {
    method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
    body: CallerBody,
}

impl Outgoing {
    fn copy_without_body(&self) -> Self {
        Self {
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            body: CallerBody::empty(),
        }
    }

    /// What hyper gave back unsent.
    fn taken_back(request: Request<CallerBody>) -> Self {
        let (head, body) = request.into_parts();
        // It was made with a path, in either version.
        let target = head.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Self { method: head.method, target, headers: head.headers, body }
    }

    /// HTTP/1.1 names the host in a field and the path in the request line.
    fn into_http1(mut self, destination: &Destination) -> Request<CallerBody> {
        self.headers.insert(HOST, destination.host.clone());
        self.into_request(Version::HTTP_11, Uri::from)
    }

    /// HTTP/2 names scheme and authority in the target and knows neither `Host` nor codings of the transfer.
    fn into_http2(mut self, destination: &Destination) -> Request<CallerBody> {
        self.headers.remove(HOST);
        self.headers.remove(TRANSFER_ENCODING);
        let origin = Arc::clone(&destination.origin);
        self.into_request(Version::HTTP_2, move |target| {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(origin.scheme.clone());
            parts.authority = Some(origin.authority.clone());
            parts.path_and_query = Some(target);
            // All three are there, so they make a URI.
            Uri::from_parts(parts).unwrap_or_default()
        })
    }

    fn into_request(self, version: Version, uri: impl FnOnce(PathAndQuery) -> Uri) -> Request<CallerBody> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri(self.target);
        *request.version_mut() = version;
        *request.headers_mut() = self.headers;
        request
    }
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
            (Some(fault), _) => caller_body_failed(fault),
            (None, Self::Connect(error)) => {
                let detail = format!("no connection to {authority}: {error}; {}", error.advice());
                Failure::new(Reason::UpstreamConnect, detail).because(error)
            }
            (None, Self::Attempt(AttemptError::TimedOut)) => {
                let limit = humantime::format_duration(deadline.limit());
                let detail = format!("{authority} did not answer within {limit} (upstream.response_timeout)");
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
                let detail = format!("{authority} broke the connection off before its answer began");
                Failure::new(Reason::UpstreamBroken, detail).because(error)
            }
        }
    }
}

fn caller_body_failed(fault: BodyFault) -> Failure {
    let reason = match fault {
        BodyFault::TooLarge => Reason::BodyTooLarge,
        BodyFault::Stalled => Reason::RequestTimeout,
        BodyFault::Broken => Reason::BadRequest,
    };
    Failure::new(reason, fault.to_string())
}
