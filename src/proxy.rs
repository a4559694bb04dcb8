//! The path of a request: seven steps, each a file, in alphabetical order.
//!
//! `accept → admit → pick_route → prepare → queue → send → translate`
//!
//! `accept` reads requests from connections and calls [`Proxy::serve`], which runs the other steps.
//! Each of them passes a value to the next one and calls no other step. Requests to the gateway's
//! own token endpoints skip the steps and are handled by [`login`].

pub mod accept;
pub mod admit;
pub mod pick_route;
pub mod prepare;
pub mod queue;
pub mod send;
pub mod translate;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request, Response};

use crate::error::{Failure, Reason};
use crate::exchange::body::ForwardedBody;
use crate::exchange::{CallerResponseBody, Exchange};
use crate::inbound::body::CallerBody;
use crate::inbound::connection::Connection;
use crate::inbound::intercepted::Intercepted;
use crate::intercept::{self, Tunnel};
use crate::login;
use crate::observe::metrics::WorkerMetrics;
use crate::state::{Shared, Snapshot};
use crate::upstream::pool::Pool;
use citrix_wire::citrix::{self, TokenDialect};
use citrix_wire::known_fields::KnownFields;
use citrix_wire::path_readings::{PathReadings, TooManyReadings};

/// Facts of a request head on which several steps depend, determined once.
pub struct HeadFacts {
    /// The fields that it has.
    pub fields: KnownFields,
    /// The readings of its path. One with too many is rejected by `admit`.
    pub readings: Result<PathReadings, TooManyReadings>,
}

impl HeadFacts {
    /// Returns the kind of the gateway's own token endpoint that `path`, that of the head, addresses.
    fn login_endpoint(&self, path: &str) -> Option<TokenDialect> {
        let readings = self.readings.as_ref().ok()?;
        citrix::login::endpoint_in(path, readings)
    }
}

/// The data path of one worker. State shared by the workers is in [`Shared`].
pub struct Proxy {
    shared: Arc<Shared>,
    pool: Rc<Pool>,
    metrics: WorkerMetrics,
    snapshot: RefCell<Rc<Snapshot>>,
}

impl Proxy {
    /// Creates the data path over the worker's upstream connections.
    pub fn new(shared: Arc<Shared>, pool: Rc<Pool>, metrics: WorkerMetrics) -> Rc<Self> {
        let published = shared.published.load_full();
        let snapshot = Snapshot::new(published, metrics.clone(), shared.logs.clone());
        let snapshot = RefCell::new(snapshot);
        Rc::new(Self {
            shared,
            pool,
            metrics,
            snapshot,
        })
    }

    /// Returns the worker's view of the published state. If that was replaced, creates a new view
    /// and configures the pool. Idle workers call it regularly, so that replaced state is dropped.
    pub fn snapshot(&self) -> Rc<Snapshot> {
        let published = self.shared.published.load();
        let mut snapshot = self.snapshot.borrow_mut();
        if !snapshot.is_view_of(&published) {
            *snapshot = Snapshot::new(
                Arc::clone(&published),
                self.metrics.clone(),
                self.shared.logs.clone(),
            );
            self.pool.configure(Arc::clone(&snapshot.live));
        }
        Rc::clone(&snapshot)
    }

    /// Records a heartbeat of the worker, and its connections to Citrix.
    pub fn record_heartbeat(&self, worker: usize, pool: &Pool) {
        self.shared.heartbeats.record(worker);
        let connections = &self.shared.upstream_connections;
        connections.set(worker, pool.by_origin());
    }

    /// Returns the response to a request: Citrix's, or a generated one.
    #[expect(
        clippy::manual_async_fn,
        reason = "it would store the head twice, as an argument and as a variable"
    )]
    pub fn serve(
        self: Rc<Self>,
        (mut head, body): (Parts, CallerBody),
        connection: Rc<Connection>,
        peer: Option<SocketAddr>,
    ) -> impl Future<Output = Response<CallerResponseBody>> {
        async move {
            let snapshot = self.snapshot();
            let plain_on_tls = connection.is_plain_on_tls();
            if plain_on_tls {
                connection.drain();
            }
            let (mut exchange, facts) = self.begin(&snapshot, connection, peer, &mut head);
            if plain_on_tls {
                let detail = "plain HTTP on an address that uses TLS; use https";
                return exchange.failed(Failure::new(Reason::BadRequest, detail));
            }
            let login = facts.login_endpoint(head.uri.path());
            // One without a path at the gateway is rejected by `admit`.
            if let Some(endpoint) = login.filter(|_| !exchange.has_no_path()) {
                // Boxed: rare.
                return Box::pin(login::log_in(
                    endpoint,
                    Request::from_parts(head, body),
                    &snapshot,
                    &self.shared,
                    exchange,
                ))
                .await;
            }
            match self
                .run_steps(&snapshot, (&mut head, body), facts, &mut exchange)
                .await
            {
                Ok(response) => exchange.forwarded(response),
                Err(failure) => {
                    login::delay_bad_secret(&self.shared, &mut exchange).await;
                    exchange.failed(failure)
                }
            }
        }
    }

    /// Begins the record of a request. The path of an intercepted one is replaced with that at the
    /// gateway.
    fn begin(
        &self,
        snapshot: &Rc<Snapshot>,
        connection: Rc<Connection>,
        peer: Option<SocketAddr>,
        head: &mut Parts,
    ) -> (Box<Exchange>, HeadFacts) {
        let intercepted = head.extensions.remove::<Arc<Intercepted>>();
        let paths = intercepted
            .as_ref()
            .map(|intercepted| intercept::enter(head, snapshot, intercepted));
        let facts = HeadFacts {
            fields: KnownFields::of(&head.headers),
            readings: PathReadings::of(head.uri.path()),
        };
        let spans = &self.shared.spans;
        let mut exchange = Exchange::begin(
            Rc::clone(snapshot),
            spans,
            connection,
            peer,
            head,
            facts.fields,
        );
        if let Some((intercepted, paths)) = intercepted.zip(paths) {
            exchange.set_intercepted(intercepted, paths);
        }
        (exchange, facts)
    }

    /// Returns the response to a request at an address of `[intercept]`, and the tunnel if it accepts
    /// a CONNECT request.
    pub async fn serve_as_proxy(
        self: Rc<Self>,
        (mut head, body): (Parts, CallerBody),
        connection: Rc<Connection>,
        peer: Option<SocketAddr>,
    ) -> (Response<CallerResponseBody>, Option<Tunnel>) {
        if head.method != Method::CONNECT {
            let intercepted = intercept::of_absolute_target(&head.uri);
            head.extensions.insert(Arc::new(intercepted));
            let response = self.serve((head, body), connection, peer);
            return (Box::pin(response).await, None);
        }
        let snapshot = self.snapshot();
        let mut exchange = Exchange::begin(
            Rc::clone(&snapshot),
            &self.shared.spans,
            connection,
            peer,
            &head,
            KnownFields::of(&head.headers),
        );
        let connected = intercept::connect(&head, &snapshot, &self.shared, &mut exchange);
        match Box::pin(connected).await {
            Ok(tunnel) => (exchange.connected(), Some(tunnel)),
            Err(failure) => (exchange.failed(failure), None),
        }
    }

    /// Runs the steps from `admit` to `translate`. The first failure skips the rest.
    async fn run_steps(
        &self,
        snapshot: &Snapshot,
        request: (&mut Parts, CallerBody),
        facts: HeadFacts,
        exchange: &mut Exchange,
    ) -> Result<Response<ForwardedBody>, Failure> {
        // A block, so that what these steps alone need takes no space during the waits below.
        let (mut prepared, picked) = {
            let admitted = admit::admit(snapshot, &self.shared, request, facts, exchange)?;
            let picked = pick_route::pick_route(snapshot, &admitted, exchange)?;
            let prepared = prepare::prepare(admitted, &picked, exchange)?;
            (prepared, picked)
        };
        queue::queue(&mut prepared, &picked, &self.shared, snapshot, exchange).await?;
        let context = send::SendContext {
            route: picked.route,
            destination: picked.destination,
            snapshot,
            pool: &self.pool,
            shared: &self.shared,
            live: &snapshot.live,
        };
        let sent = context.send(&mut prepared, exchange).await?;
        let links = translate::LinkContext {
            snapshot,
            customer: prepared.customer,
            picked,
            host: prepared.caller_authority,
            secure: exchange.is_secure(),
            is_intercepted: exchange.intercepted().is_some(),
        };
        translate::translate(sent, &links, exchange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the size of the futures that a function returns.
    fn size_of_future<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn request_in_progress_needs_little_memory() {
        let size = size_of_future(Proxy::serve);
        assert!(size <= 1400, "{size} bytes");
    }
}
