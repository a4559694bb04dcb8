//! The path of a request: seven steps, each a file, in alphabetical order.
//!
//! `accept → admit → pick_route → prepare → queue → send → translate`
//!
//! Beside them is [`login`]: requests to the gateway's own token endpoints end there.
//!
//! A [`Proxy`] belongs to one worker; what workers share is in [`Shared`].

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

use http::{Request, Response};

use crate::error::Failure;
use crate::exchange::body::ForwardedBody;
use crate::exchange::{CallerResponseBody, Exchange};
use crate::inbound::body::CallerBody;
use crate::inbound::connection::Connection;
use crate::login;
use crate::observe::metrics::WorkerMetrics;
use crate::state::{Shared, Snapshot};
use crate::upstream::pool::Pool;
use citrix_wire::citrix;

/// One worker's end of the path.
pub struct Proxy {
    shared: Arc<Shared>,
    pool: Rc<Pool>,
    metrics: WorkerMetrics,
    snapshot: RefCell<Rc<Snapshot>>,
}

impl Proxy {
    /// A path over this worker's connections.
    pub fn new(shared: Arc<Shared>, pool: Rc<Pool>, metrics: WorkerMetrics) -> Rc<Self> {
        let snapshot = RefCell::new(Snapshot::new(shared.published.load_full(), metrics.clone()));
        Rc::new(Self {
            shared,
            pool,
            metrics,
            snapshot,
        })
    }

    /// The worker's view of what is published now. To be called now and then even when no request comes, so that what
    /// was replaced is let go.
    pub fn snapshot(&self) -> Rc<Snapshot> {
        let published = self.shared.published.load();
        let mut snapshot = self.snapshot.borrow_mut();
        if !snapshot.is_of(&published) {
            *snapshot = Snapshot::new(Arc::clone(&published), self.metrics.clone());
            self.pool.configure(Arc::clone(&snapshot.live));
        }
        Rc::clone(&snapshot)
    }

    /// Tells that its worker is at work.
    pub fn beat(&self, worker: usize) {
        self.shared.beats.beat(worker);
    }

    /// Answers a request, whatever happens.
    pub async fn serve(
        self: Rc<Self>,
        request: Request<CallerBody>,
        connection: Rc<Connection>,
        peer: Option<SocketAddr>,
    ) -> Response<CallerResponseBody> {
        let snapshot = self.snapshot();
        let mut exchange = Exchange::begin(
            Rc::clone(&snapshot),
            &self.shared.spans,
            connection,
            peer,
            &request,
        );
        if let Some(endpoint) = citrix::login::endpoint_at(request.uri().path()) {
            return Box::pin(login::log_in(
                endpoint,
                request,
                &snapshot,
                &self.shared,
                exchange,
            ))
            .await;
        }
        match self.exchange(&snapshot, request, &mut exchange).await {
            Ok(response) => exchange.answered(response),
            Err(failure) => {
                login::delay_bad_secret(&self.shared, &mut exchange).await;
                exchange.failed(failure)
            }
        }
    }

    /// The steps from a request's head to an answer's.
    async fn exchange(
        &self,
        snapshot: &Snapshot,
        request: Request<CallerBody>,
        exchange: &mut Exchange,
    ) -> Result<Response<ForwardedBody>, Failure> {
        let mut admitted = admit::admit(snapshot, &self.shared, request, exchange)?;
        let picked = pick_route::pick_route(snapshot, &admitted, exchange)?;
        let reader = translate::Reader {
            snapshot,
            customer: admitted.customer,
            picked,
            host: admitted.host.take(),
            secure: exchange.is_secure(),
        };
        let mut prepared = prepare::prepare(admitted, &picked, exchange)?;
        queue::queue(
            &mut prepared,
            picked.route,
            &self.shared,
            &snapshot.live,
            exchange,
        )
        .await?;
        let upstream = send::Upstream {
            route: picked.route,
            destination: picked.destination,
            gateways: snapshot.gateways(),
            pool: &self.pool,
            shared: &self.shared,
            live: &snapshot.live,
        };
        let sent = upstream.send(prepared, exchange).await?;
        translate::translate(sent, &reader)
    }
}
