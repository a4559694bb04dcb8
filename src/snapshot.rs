//! What requests look up: published once for the whole program, resolved by each worker for itself.

mod customers;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;

use crate::citrix::AuthorizationScheme;
use crate::config::{self, Credential, InstanceId, Live, Target, UpstreamUrl};
use crate::metrics::{ANONYMOUS, NONE, RouteMetrics, WorkerMetrics};
use crate::token::slot::{Slot, Token};
use crate::upstream::origin::{BadHost, Origin};

pub use customers::Customers;

/// The live configuration and the tokens that go with it. A reload publishes another one.
pub struct Published {
    /// The settings as they were checked.
    pub live: Arc<Live>,
    /// The slots of its credentials, in order.
    pub slots: Vec<Arc<Slot>>,
    /// Where the customers' API gateways are, in order.
    apis: Vec<Arc<Origin>>,
    /// Where the routes lead, in order; `None` to the customer's API gateway.
    fixed: Vec<Option<Arc<Origin>>>,
}

impl Published {
    /// Puts settings and slots together.
    ///
    /// # Errors
    /// When an upstream's host is none a certificate could be for.
    pub fn new(live: Arc<Live>, slots: Vec<Arc<Slot>>) -> Result<Self, BadHost> {
        let mut origins = Origins::default();
        let apis = live.credentials.iter().map(|credential| origins.of(&credential.api.url));
        let apis = apis.collect::<Result<_, _>>()?;
        let fixed = live.routes.iter().map(|route| match &route.target {
            Target::CustomerApi => Ok(None),
            Target::Fixed(destination) => origins.of(&destination.url).map(Some),
        });
        let fixed = fixed.collect::<Result<_, _>>()?;
        Ok(Self { live, slots, apis, fixed })
    }
}

/// Each origin once, at the place that its id says.
#[derive(Default)]
struct Origins(Vec<Arc<Origin>>);

impl Origins {
    fn of(&mut self, url: &UpstreamUrl) -> Result<Arc<Origin>, BadHost> {
        if let Some(known) = self.0.iter().find(|origin| origin.is_of(url)) {
            return Ok(Arc::clone(known));
        }
        let new = Arc::new(Origin::new(self.0.len(), url)?);
        self.0.push(Arc::clone(&new));
        Ok(new)
    }
}

/// A worker's view of what is published. A request takes one and keeps it to its end, whatever is reloaded
/// meanwhile. Header values are the worker's own copies: cloning one that all workers share would pass its
/// reference count from core to core.
pub struct Snapshot {
    published: Arc<Published>,
    /// The settings as they were checked.
    pub live: Arc<Live>,
    /// Longest prefix first.
    pub routes: Vec<Route>,
    /// With a credential each.
    pub customers: Customers,
    /// The worker's metrics.
    pub metrics: WorkerMetrics,
    /// Handles for requests that got no route.
    pub unrouted: RouteMetrics,
}

/// A route, ready for use.
pub struct Route {
    /// As configured.
    pub config: config::Route,
    /// `None`: to the API gateway of the request's customer.
    fixed: Option<Destination>,
    /// Its metrics.
    pub metrics: RouteMetrics,
}

impl Route {
    /// Where a request of `customer` goes by this route.
    pub fn destination<'s>(&'s self, customer: &'s Customer) -> &'s Destination {
        self.fixed.as_ref().unwrap_or(&customer.api)
    }
}

/// An upstream, ready for use.
pub struct Destination {
    /// Where its connections go.
    pub origin: Arc<Origin>,
    /// For `Host`.
    pub host: HeaderValue,
    /// The path put in front of the rest, without a slash at the end; often empty.
    pub base_path: String,
    /// How the token is written.
    pub authorization: AuthorizationScheme,
}

impl Destination {
    fn new(config: &config::Destination, origin: &Arc<Origin>) -> Self {
        Self {
            origin: Arc::clone(origin),
            host: own_copy(&origin.host),
            base_path: config.url.base_path.clone(),
            authorization: config.authorization,
        }
    }
}

/// A customer with a credential.
pub struct Customer {
    /// For `Citrix-CustomerId`.
    pub id: HeaderValue,
    /// For `Citrix-InstanceId`, where it is configured.
    pub instance_id: Option<HeaderValue>,
    /// The token's slot.
    pub slot: Arc<Slot>,
    /// Its API gateway.
    api: Destination,
    held: RefCell<Option<Rc<HeldToken>>>,
}

/// A worker's copy of a token.
pub struct HeldToken {
    shared: Arc<Token>,
    cws: HeaderValue,
    bearer: HeaderValue,
}

impl Snapshot {
    /// Resolves what is published.
    pub fn new(published: Arc<Published>, metrics: WorkerMetrics) -> Rc<Self> {
        let live = Arc::clone(&published.live);
        let routes = live.routes.iter().zip(&published.fixed).map(|(route, origin)| Route {
            config: route.clone(),
            fixed: match (&route.target, origin) {
                (Target::Fixed(destination), Some(origin)) => Some(Destination::new(destination, origin)),
                _ => None,
            },
            metrics: metrics.route(route.name(), ANONYMOUS),
        });
        let customers = live.credentials.iter().zip(&published.slots).zip(&published.apis);
        let customers = customers.map(|((credential, slot), origin)| Customer::new(credential, slot, origin));
        Rc::new(Self {
            routes: routes.collect(),
            customers: Customers::new(customers, live.default_customer),
            unrouted: metrics.route(NONE, NONE),
            metrics,
            live,
            published,
        })
    }

    /// Whether this is a view of `published`.
    pub fn is_of(&self, published: &Arc<Published>) -> bool {
        Arc::ptr_eq(&self.published, published)
    }
}

impl Customer {
    fn new(credential: &Credential, slot: &Arc<Slot>, api: &Arc<Origin>) -> Self {
        Self {
            id: own_copy(&credential.customer_id),
            instance_id: match &credential.instance_id {
                InstanceId::Fixed(id) => Some(own_copy(id)),
                InstanceId::Auto | InstanceId::None => None,
            },
            slot: Arc::clone(slot),
            api: Destination::new(&credential.api, api),
            held: RefCell::new(None),
        }
    }

    /// The token, if there is one that may be sent at `now`; never one beyond its life.
    pub fn usable_token(&self, now: SystemTime) -> Option<Rc<HeldToken>> {
        let current = self.slot.current();
        let mut held = self.held.borrow_mut();
        if !held
            .as_ref()
            .is_some_and(|held| current.as_ref().is_some_and(|now| Arc::ptr_eq(now, &held.shared)))
        {
            *held = current.as_ref().map(|token| Rc::new(HeldToken::new(token)));
        }
        held.as_ref().filter(|held| held.shared.is_usable(now)).cloned()
    }
}

impl HeldToken {
    fn new(token: &Arc<Token>) -> Self {
        Self {
            shared: Arc::clone(token),
            cws: own_copy(token.authorization(AuthorizationScheme::Cws)),
            bearer: own_copy(token.authorization(AuthorizationScheme::Bearer)),
        }
    }

    /// The value of `Authorization`.
    pub fn authorization(&self, scheme: AuthorizationScheme) -> &HeaderValue {
        match scheme {
            AuthorizationScheme::Cws => &self.cws,
            AuthorizationScheme::Bearer => &self.bearer,
        }
    }

    /// The token's number, for [`Slot::refused`].
    pub fn generation(&self) -> u64 {
        self.shared.generation()
    }

    /// Whether a header value holds the token.
    pub fn is_in(&self, value: &[u8]) -> bool {
        self.shared.is_in(value)
    }
}

fn own_copy(value: &HeaderValue) -> HeaderValue {
    // The bytes of a header value always make one; the original is only a formal way out.
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    copy.set_sensitive(value.is_sensitive());
    copy
}
