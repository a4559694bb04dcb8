//! A worker's view of what is published.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;

use crate::callers::Callers;
use crate::callers::caller_state::CallerState;
use crate::callers::gateway_token::Signer;
use crate::config::{self, Credential, InstanceId, Live, Mode, RouteTarget, UpstreamUrl};
use crate::limit::Limit;
use crate::observe::metrics::{ANONYMOUS, NONE, RouteMetrics, WorkerMetrics};
use crate::observe::recent::CallerUse;
use crate::site;
use crate::token::slot::{Token, TokenSlot};
use crate::upstream::origin::Origin;
use citrix_wire::citrix::clouds::Cloud;
use citrix_wire::citrix::{AuthorizationScheme, services};
use citrix_wire::link_rewrite::{LinkMap, LinkRoute};
use citrix_wire::prefix_tree::PrefixTree;

use super::customers::Customers;
use super::limits::Limited;
use super::published::Published;

/// A worker's view of what is published. A request takes one and keeps it to its end, whatever is reloaded
/// meanwhile. Header values are the worker's own copies: cloning one that all workers share would pass its
/// reference count from core to core.
pub struct Snapshot {
    pub(super) published: Arc<Published>,
    /// The settings as they were checked.
    pub live: Arc<Live>,
    /// In the configuration's order.
    pub routes: Vec<Route>,
    /// Where paths lead: to one of the routes, or nowhere.
    prefixes: PrefixTree<Option<usize>>,
    /// With a credential each.
    pub customers: Customers,
    /// Who may come in.
    pub callers: Callers,
    /// Signs gateway tokens, if `login.signing_key` says with what.
    pub signer: Option<Signer>,
    /// The worker's metrics.
    pub metrics: WorkerMetrics,
    /// Handles for requests that got no route.
    pub unrouted: RouteMetrics,
    /// What was seen of callers: nobody in particular first, as in metrics.
    callers_use: Vec<Arc<CallerUse>>,
}

/// A route, ready for use.
pub struct Route {
    /// As configured.
    pub config: config::Route,
    /// Headers for requests that do not have them.
    pub adds: Vec<(HeaderName, HeaderValue)>,
    to: To,
    limit: Option<Limited>,
    /// Its metrics.
    pub metrics: RouteMetrics,
}

impl Route {
    /// Where a request of `customer` goes by this route; `None` when the customer's cloud has no host for it.
    pub fn destination<'s>(&'s self, customer: &'s Customer) -> Option<&'s Destination> {
        match &self.to {
            To::CustomerApi => Some(&customer.api),
            To::ByCloud(known) => known
                .iter()
                .find(|(cloud, to)| {
                    *cloud == customer.cloud && to.authorization == customer.api.authorization
                })
                .map(|(_, to)| to),
            To::Fixed(to) => Some(to),
        }
    }

    /// What Citrix allows `customer` here, and how long a request may wait for it.
    pub fn limit<'s>(&self, customer: &'s Customer) -> Option<(&'s Limit, Duration)> {
        let Limited {
            kind,
            queue_timeout,
        } = self.limit?;
        Some((customer.limits.get(kind)?, queue_timeout))
    }
}

/// A [`RouteTarget`], ready for use.
enum To {
    CustomerApi,
    /// For each way to write the token that a customer of the cloud has.
    ByCloud(Vec<(Cloud, Destination)>),
    Fixed(Destination),
}

impl To {
    fn new(target: &RouteTarget, origins: &[Arc<Origin>], customers: &[Credential]) -> Self {
        match (target, origins) {
            (RouteTarget::Fixed(to), [origin, ..]) => {
                Self::Fixed(Destination::new(&to.url, to.authorization, origin))
            }
            (RouteTarget::ByCloud(urls), origins) => {
                let schemes = [AuthorizationScheme::Cws, AuthorizationScheme::Bearer];
                let used = |cloud: Cloud, scheme: AuthorizationScheme| {
                    customers
                        .iter()
                        .any(|each| each.cloud == cloud && each.api.authorization == scheme)
                };
                let known = urls.iter().zip(origins).flat_map(|((cloud, url), origin)| {
                    let schemes = schemes.into_iter().filter(|&scheme| used(*cloud, scheme));
                    schemes.map(|scheme| (*cloud, Destination::new(url, scheme, origin)))
                });
                Self::ByCloud(known.collect())
            }
            _ => Self::CustomerApi,
        }
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
    /// Another gateway, to which the token is written as for this one.
    pub fn moved_to(&self, origin: &Arc<Origin>) -> Self {
        Self {
            origin: Arc::clone(origin),
            host: origin.host.clone(),
            base_path: String::new(),
            authorization: self.authorization,
        }
    }

    fn new(url: &UpstreamUrl, authorization: AuthorizationScheme, origin: &Arc<Origin>) -> Self {
        Self {
            origin: Arc::clone(origin),
            host: own_copy(&origin.host),
            base_path: url.base_path.clone(),
            authorization,
        }
    }
}

/// A customer with a credential.
pub struct Customer {
    /// For `Citrix-CustomerId`.
    pub id: HeaderValue,
    /// Whose hosts are the customer's.
    cloud: Cloud,
    /// What is known of its site, and who finds out more.
    pub site: Arc<site::slot::SiteSlot>,
    /// Whether Citrix is asked for the site's id.
    finds_site: bool,
    /// The worker's copy of the site's id.
    instance_id: OnceCell<HeaderValue>,
    /// The token's slot.
    pub slot: Arc<TokenSlot>,
    /// Its API gateway.
    api: Destination,
    /// Shared with the other workers.
    limits: Arc<[Arc<Limit>]>,
    held: RefCell<Option<Rc<HeldToken>>>,
    /// Made when first needed.
    links: OnceCell<Rc<LinkMap>>,
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
        let names: Rc<[String]> = live
            .callers
            .iter()
            .map(|caller| caller.name.clone())
            .collect();
        let routes = live
            .routes
            .iter()
            .zip(&published.hosts)
            .map(|(route, origins)| Route {
                config: route.clone(),
                adds: route
                    .default_headers
                    .iter()
                    .map(|(name, value)| (name.clone(), own_copy(value)))
                    .collect(),
                to: To::new(&route.target, origins, &live.credentials),
                limit: published.limits.of(route),
                metrics: metrics.route(route.name(), ANONYMOUS, &names),
            });
        for caller in live
            .callers
            .iter()
            .filter(|caller| caller.mode == Mode::Observe)
        {
            // Before anything would be denied, so that the count is seen to be 0.
            metrics.would_deny(&caller.name);
        }
        let slots = published.slots.iter().zip(&published.sites);
        let shared = slots.zip(&published.limits.by_customer);
        let customers = live.credentials.iter().zip(shared).zip(&published.apis);
        let customers = customers.map(|((credential, ((slot, site), limits)), api)| {
            let shared = (Arc::clone(slot), Arc::clone(site), Arc::clone(limits));
            Customer::new(credential, shared, api)
        });
        Rc::new(Self {
            prefixes: prefixes(&live.routes),
            routes: routes.collect(),
            customers: Customers::new(customers, live.default_customer),
            callers: Callers::new(live.callers.clone()),
            signer: live
                .login
                .signing_key
                .as_ref()
                .map(|key| Signer::new(key.expose_secret().as_bytes())),
            unrouted: metrics.route(NONE, NONE, &names),
            callers_use: callers_use(&metrics, &names),
            metrics,
            live,
            published,
        })
    }

    /// The index of the route with the longest prefix of `path`. `None`: it leads nowhere.
    pub fn route_of(&self, path: &str) -> Option<usize> {
        self.prefixes.find(path).copied().flatten()
    }

    /// What was seen of a caller, by its place in the configuration.
    pub fn caller_use(&self, caller: Option<usize>) -> Option<&Arc<CallerUse>> {
        self.callers_use.get(caller.map_or(0, |number| number + 1))
    }

    /// What is known about links in answers to `customer`: where its routes lead, read backwards.
    pub fn links(&self, customer: &Customer) -> Rc<LinkMap> {
        let map = customer.links.get_or_init(|| {
            let routes = self.routes.iter().filter_map(|route| {
                let to = route.destination(customer)?;
                Some(LinkRoute {
                    prefix: &route.config.prefix,
                    strip_prefix: route.config.strip_prefix,
                    upstream: to.origin.authority.as_str(),
                    base_path: &to.base_path,
                })
            });
            // A region's gateway has for its customers what the worldwide one has.
            let names = customer.cloud.gateways().iter();
            let names = names.filter(|&&name| name == customer.cloud || name == Cloud::Commercial);
            let api = customer.api.origin.authority.as_str();
            let aliases = names.map(|name| (name.api_url().trim_start_matches("https://"), api));
            Rc::new(LinkMap::new(routes, aliases))
        });
        Rc::clone(map)
    }

    /// The caller at this place of the configuration, and what all workers know of it.
    pub fn caller(&self, number: usize) -> Option<(&config::Caller, &CallerState)> {
        self.live
            .callers
            .get(number)
            .zip(self.published.usage.get(number))
    }

    /// Where a redirect may lead: the API gateways that are known.
    pub fn gateways(&self) -> &[Arc<Origin>] {
        &self.published.gateways
    }

    /// Whether requests that begin now may go to the origin of this id.
    pub fn knows_origin(&self, id: u64) -> bool {
        self.published.knows_origin(id)
    }

    /// Whether this is a view of `published`.
    pub fn is_of(&self, published: &Arc<Published>) -> bool {
        Arc::ptr_eq(&self.published, published)
    }
}

fn callers_use(metrics: &WorkerMetrics, names: &[String]) -> Vec<Arc<CallerUse>> {
    let nobody = if names.is_empty() { ANONYMOUS } else { NONE };
    let names = std::iter::once(nobody).chain(names.iter().map(String::as_str));
    names.map(|name| metrics.recent.caller(name)).collect()
}

/// The routes by their prefixes, and prefixes below which nothing else leads anywhere.
fn prefixes(routes: &[config::Route]) -> PrefixTree<Option<usize>> {
    let mut tree = PrefixTree::default();
    for prefix in services::reserved_prefixes() {
        tree.insert(prefix, true, None);
    }
    for (index, route) in routes.iter().enumerate() {
        tree.insert(&route.prefix, route.ignore_case, Some(index));
    }
    tree
}

impl Customer {
    fn new(
        credential: &Credential,
        (slot, site, limits): (Arc<TokenSlot>, Arc<site::slot::SiteSlot>, Arc<[Arc<Limit>]>),
        api: &Arc<Origin>,
    ) -> Self {
        Self {
            id: own_copy(&credential.customer_id),
            site,
            finds_site: credential.instance_id == InstanceId::Auto,
            instance_id: match &credential.instance_id {
                InstanceId::Fixed(id) => own_copy(id).into(),
                InstanceId::Auto | InstanceId::None => OnceCell::new(),
            },
            cloud: credential.cloud,
            slot,
            api: Destination::new(&credential.api.url, credential.api.authorization, api),
            limits,
            held: RefCell::new(None),
            links: OnceCell::new(),
        }
    }

    /// Its id as text.
    pub fn name(&self) -> &str {
        // It was text in the configuration.
        self.id.to_str().unwrap_or_default()
    }

    /// For `Citrix-InstanceId`, where it is configured or known by now.
    pub fn instance_id(&self) -> Option<&HeaderValue> {
        if self.instance_id.get().is_none() && self.finds_site {
            let found = self.site.known()?;
            return Some(self.instance_id.get_or_init(|| own_copy(found)));
        }
        self.instance_id.get()
    }

    /// Whether its site is not known yet and Citrix is to be asked.
    pub fn must_find_site(&self) -> bool {
        self.finds_site && self.site.known().is_none()
    }

    /// The token, if there is one that may be sent at `now`; never one beyond its life.
    pub fn usable_token(&self, now: SystemTime) -> Option<Rc<HeldToken>> {
        let current = self.slot.current();
        let mut held = self.held.borrow_mut();
        if !held.as_ref().is_some_and(|held| {
            current
                .as_ref()
                .is_some_and(|now| Arc::ptr_eq(now, &held.shared))
        }) {
            *held = current.as_ref().map(|token| Rc::new(HeldToken::new(token)));
        }
        held.as_ref()
            .filter(|held| held.shared.is_usable(now))
            .cloned()
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

    /// The token's number, for [`TokenSlot::report_rejected`].
    pub fn generation(&self) -> u64 {
        self.shared.generation()
    }

    /// Whether a header value holds the token.
    pub fn occurs_in(&self, value: &[u8]) -> bool {
        self.shared.occurs_in(value)
    }
}

fn own_copy(value: &HeaderValue) -> HeaderValue {
    // The bytes of a header value always make one; the original is only a formal way out.
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    copy.set_sensitive(value.is_sensitive());
    copy
}
