//! A worker's view of the published state.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use secrecy::ExposeSecret as _;

use super::customer::Customer;
use super::customer_index::CustomerIndex;
use super::known_hosts::KnownHosts;
use super::published::Published;
use super::route::Route;
use crate::callers::Callers;
use crate::callers::caller_state::CallerState;
use crate::callers::gateway_token::Signer;
use crate::config::{self, Live, Mode};
use crate::observe::RequestLogs;
use crate::observe::metrics::{ANONYMOUS, NONE, RouteMetrics, WorkerMetrics};
use crate::observe::recent::CallerActivity;
use crate::upstream::dial::DialConfig;
use crate::upstream::origin::Origin;
use citrix_wire::citrix::clouds::Cloud;
use citrix_wire::citrix::{AuthorizationScheme, services};
use citrix_wire::link_rewrite::LinkMap;
use citrix_wire::prefix_tree::PrefixTree;
use citrix_wire::transaction_id::IdGenerator;

/// A worker's view of the published state. A request holds one until it ends, whatever is reloaded
/// meanwhile. Header values are the worker's own copies: cloning one that all workers share would
/// pass its reference count from core to core.
pub struct Snapshot {
    pub(super) published: Arc<Published>,
    pub live: Arc<Live>,
    /// In the order of the configuration.
    pub routes: Vec<Route>,
    /// Route indices by path prefix; `None` below reserved prefixes.
    prefixes: PrefixTree<Option<usize>>,
    /// The customers that have a credential.
    pub customers: CustomerIndex,
    pub callers: Callers,
    /// The signer of gateway tokens, if `login.signing_key` is set or replicas share a key.
    pub signer: Option<Signer>,
    /// Built at first use.
    pub(super) known_hosts: OnceCell<Rc<KnownHosts>>,
    /// The generator of request ids.
    pub ids: IdGenerator,
    pub metrics: WorkerMetrics,
    pub logs: RequestLogs,
    /// Metrics of requests without a route.
    pub unrouted: RouteMetrics,
    anonymous_activity: Arc<CallerActivity>,
    /// In the order of the configuration.
    callers_activity: Vec<Arc<CallerActivity>>,
}

impl Snapshot {
    /// Resolves the published state for one worker.
    pub fn new(published: Arc<Published>, metrics: WorkerMetrics, logs: RequestLogs) -> Rc<Self> {
        let live = Arc::clone(&published.live);
        let names: Rc<[String]> = live.callers.iter().map(|it| it.name.clone()).collect();
        let observed = |caller: &&Arc<config::Caller>| caller.mode == Mode::Observe;
        for caller in live.callers.iter().filter(observed) {
            // Creates the series, so that it is exported as 0 before the first such request.
            metrics.would_deny(&caller.name);
        }
        let is_used = |cloud: Cloud, scheme: AuthorizationScheme| {
            let mut credentials = live.credentials.iter();
            credentials.any(|it| it.cloud == cloud && it.api.authorization == scheme)
        };
        let routes = published.routes.iter().map(|route| {
            let metrics = metrics.route(route.config.name(), ANONYMOUS, &names);
            Route::new(route, is_used, metrics)
        });
        let unidentified = if names.is_empty() { ANONYMOUS } else { NONE };
        let callers = live.callers.iter().map(|it| config::Caller::clone(it));
        let ids = published.fleet.as_ref().map(|fleet| fleet.ids());
        Rc::new(Self {
            prefixes: prefixes(published.routes.iter().map(|route| &*route.config)),
            routes: routes.collect(),
            customers: CustomerIndex::new(&published.customers),
            callers: Callers::new(callers.collect()),
            signer: signer(&published),
            known_hosts: OnceCell::new(),
            ids: ids.unwrap_or_default(),
            unrouted: metrics.route(NONE, NONE, &names),
            anonymous_activity: metrics.recent.caller(unidentified),
            callers_activity: names
                .iter()
                .map(|name| metrics.recent.caller(name))
                .collect(),
            metrics,
            logs,
            live,
            published,
        })
    }

    /// Returns the index of the route with the longest prefix of `path`; `None` if the path belongs
    /// to no route.
    pub fn route_of(&self, path: &str) -> Option<usize> {
        self.prefixes.find(path).copied().flatten()
    }

    /// Returns the activity of the caller with this index, or of requests without a caller.
    pub fn caller_activity(&self, caller: Option<usize>) -> Option<&Arc<CallerActivity>> {
        match caller {
            Some(index) => self.callers_activity.get(index),
            None => Some(&self.anonymous_activity),
        }
    }

    /// Returns the map that rewrites links in responses to `customer`.
    pub fn links(&self, customer: &Customer) -> Rc<LinkMap> {
        customer.links(&self.routes)
    }

    /// Returns the caller with this index, and its state, which all workers share.
    pub fn caller(&self, index: usize) -> Option<(&config::Caller, &CallerState)> {
        let caller = self.published.callers.get(index)?;
        Some((&caller.config, &caller.state))
    }

    /// Returns the API gateways to which requests of `customer` may be redirected, each with its
    /// base path: `api_url`, those of the customer's cloud, and those of `/region` routes.
    pub fn gateways<'s>(
        &'s self,
        customer: &'s Customer,
    ) -> impl Iterator<Item = (&'s Arc<Origin>, &'s str)> {
        let known = self.published.gateways.iter();
        let known = known.filter(|(cloud, _)| cloud.is_none_or(|cloud| cloud == customer.cloud()));
        let known = known.map(|(_, url)| (&url.origin, url.base_path.as_str()));
        let api = customer.api();
        [(&api.origin, api.base_path.as_str())]
            .into_iter()
            .chain(known)
    }

    /// Returns the configuration of new connections.
    pub fn dial_config(&self) -> &DialConfig {
        self.published.dial_config()
    }

    /// Returns `true` if new requests may be sent to the origin with this id.
    pub fn has_origin(&self, id: u64) -> bool {
        self.published.has_origin(id)
    }

    /// Returns a number that views of the same published state share, and no other as long as the
    /// snapshot exists.
    pub fn published_id(&self) -> usize {
        Arc::as_ptr(&self.published).addr()
    }

    /// Returns `true` if this is a view of `published`.
    pub fn is_view_of(&self, published: &Arc<Published>) -> bool {
        Arc::ptr_eq(&self.published, published)
    }
}

/// Returns the signer of gateway tokens. A fleet's key is reloaded before the configuration is
/// published.
fn signer(published: &Published) -> Option<Signer> {
    match (&published.live.login.signing_key, &published.fleet) {
        (Some(key), _) => Some(Signer::new(key.expose_secret().as_bytes())),
        (None, Some(fleet)) => Some(Signer::new(fleet.keys().signing_key())),
        (None, None) => None,
    }
}

/// Indexes the routes by prefix. Below a reserved prefix only a longer one has a route.
fn prefixes<'r>(
    routes: impl Iterator<Item = &'r config::RouteSettings>,
) -> PrefixTree<Option<usize>> {
    let mut tree = PrefixTree::default();
    for prefix in services::reserved_prefixes() {
        tree.insert(prefix, true, None);
    }
    for (index, route) in routes.enumerate() {
        tree.insert(&route.prefix, route.ignore_case, Some(index));
    }
    tree
}
