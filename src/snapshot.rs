//! What requests look up: published once for the whole program, resolved by each worker for itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderName, HeaderValue};

use crate::citrix::{AuthorizationScheme, services};
use crate::config::{self, InstanceId, Live};
use crate::metrics::{ANONYMOUS, NONE, RouteMetrics, WorkerMetrics};
use crate::token::slot::{Slot, Token};
use crate::upstream::origin::{BadHost, Origin};
use crate::wire::prefix_tree::PrefixTree;

/// The live configuration and the tokens that go with it. A reload publishes another one.
pub struct Published {
    /// The settings as they were checked.
    pub live: Arc<Live>,
    /// The slots of its credentials, in order.
    pub slots: Vec<Arc<Slot>>,
    origins: Vec<Arc<Origin>>,
}

impl Published {
    /// Puts settings and slots together.
    ///
    /// # Errors
    /// When an upstream's host is none a certificate could be for.
    pub fn new(live: Arc<Live>, slots: Vec<Arc<Slot>>) -> Result<Self, BadHost> {
        let mut origins: Vec<Arc<Origin>> = Vec::with_capacity(live.routes.len());
        for route in &live.routes {
            let same = origins.iter().find(|origin| origin.is_of(&route.upstream)).cloned();
            let id = origins.iter().map(|origin| origin.id + 1).max().unwrap_or_default();
            origins.push(same.map_or_else(|| Origin::new(id, &route.upstream).map(Arc::new), Ok)?);
        }
        Ok(Self { live, slots, origins })
    }
}

/// A worker's view of what is published. A request takes one and keeps it to its end, whatever is reloaded
/// meanwhile. Header values are the worker's own copies: cloning one that all workers share would pass its
/// reference count from core to core.
pub struct Snapshot {
    published: Arc<Published>,
    /// The settings as they were checked.
    pub live: Arc<Live>,
    /// In the configuration's order.
    pub routes: Vec<Route>,
    /// Where paths lead: to one of the routes, or nowhere.
    prefixes: PrefixTree<Option<usize>>,
    /// The first is the one meant when a request names none.
    pub customers: Vec<Customer>,
    /// The worker's metrics.
    pub metrics: WorkerMetrics,
    /// Handles for requests that got no route.
    pub unrouted: RouteMetrics,
}

/// A route, ready for use.
pub struct Route {
    /// As configured.
    pub config: config::Route,
    /// Where its connections go.
    pub origin: Arc<Origin>,
    /// For `Host`.
    pub host: HeaderValue,
    /// Headers for requests that do not have them.
    pub adds: Vec<(HeaderName, HeaderValue)>,
    /// Its metrics.
    pub metrics: RouteMetrics,
}

/// A customer with a credential.
pub struct Customer {
    /// For `Citrix-CustomerId`.
    pub id: HeaderValue,
    /// For `Citrix-InstanceId`, where it is configured.
    pub instance_id: Option<HeaderValue>,
    /// The token's slot.
    pub slot: Arc<Slot>,
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
        let routes = live.routes.iter().zip(&published.origins).map(|(route, origin)| Route {
            config: route.clone(),
            origin: Arc::clone(origin),
            host: own_copy(&origin.host),
            adds: route.adds.iter().map(|(name, value)| (name.clone(), own_copy(value))).collect(),
            metrics: metrics.route(route.name(), ANONYMOUS),
        });
        let customers = live.credentials.iter().zip(&published.slots).map(|(credential, slot)| Customer {
            id: own_copy(&credential.customer_id),
            instance_id: match &credential.instance_id {
                InstanceId::Fixed(id) => Some(own_copy(id)),
                InstanceId::Auto | InstanceId::None => None,
            },
            slot: Arc::clone(slot),
            held: RefCell::new(None),
        });
        Rc::new(Self {
            prefixes: prefixes(&live.routes),
            routes: routes.collect(),
            customers: customers.collect(),
            unrouted: metrics.route(NONE, NONE),
            metrics,
            live,
            published,
        })
    }

    /// The index of the route with the longest prefix of `path`. `None`: it leads nowhere.
    pub fn route_of(&self, path: &str) -> Option<usize> {
        self.prefixes.find(path).copied().flatten()
    }

    /// Whether this is a view of `published`.
    pub fn is_of(&self, published: &Arc<Published>) -> bool {
        Arc::ptr_eq(&self.published, published)
    }
}

/// The routes by their prefixes, and prefixes below which nothing else leads anywhere.
fn prefixes(routes: &[config::Route]) -> PrefixTree<Option<usize>> {
    let mut tree = PrefixTree::default();
    for prefix in services::reserved() {
        tree.insert(prefix, true, None);
    }
    for (index, route) in routes.iter().enumerate() {
        tree.insert(&route.prefix, route.any_case, Some(index));
    }
    tree
}

impl Customer {
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
