//! A worker's customers and their tokens.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::limits::CustomerLimits;
use super::published::PublishedCustomer;
use super::route::{Destination, Destinations, Route, own_copy};
use crate::config::InstanceId;
use crate::limit::Limit;
use crate::site::slot::SiteSlot;
use crate::system::moment::Moment;
use crate::token::slot::{Token, TokenSlot};
use citrix_wire::citrix::AuthorizationScheme;
use citrix_wire::citrix::clouds::Cloud;
use citrix_wire::citrix::services::{self, BuiltInPrefix};
use citrix_wire::link_rewrite::{LinkMap, LinkRoute};

/// A worker's view of a customer.
pub struct Customer {
    /// The value of `Citrix-CustomerId`.
    pub id: HeaderValue,
    cloud: Cloud,
    /// The customer's site, shared by all workers.
    pub site: Arc<SiteSlot>,
    /// Whether the site's id is looked up at Citrix.
    looks_up_site: bool,
    /// The worker's copy of the site's id, once it is known.
    instance_id: OnceCell<HeaderValue>,
    /// The customer's token, shared by all workers.
    pub token: Arc<TokenSlot>,
    api: Destination,
    limits: CustomerLimits,
    held: RefCell<Option<Rc<HeldToken>>>,
    /// Built at first use.
    links: OnceCell<Rc<LinkMap>>,
}

/// A worker's copy of a token.
pub struct HeldToken {
    shared: Arc<Token>,
    cws: OnceCell<HeaderValue>,
    bearer: OnceCell<HeaderValue>,
}

impl Customer {
    pub(super) fn new(customer: &PublishedCustomer) -> Self {
        let credential = &customer.credential;
        Self {
            id: own_copy(&credential.customer_id),
            cloud: credential.cloud,
            site: Arc::clone(&customer.site),
            looks_up_site: credential.instance_id == InstanceId::Auto,
            instance_id: match &credential.instance_id {
                InstanceId::Fixed(id) => own_copy(id).into(),
                InstanceId::Auto | InstanceId::None => OnceCell::new(),
            },
            token: Arc::clone(&customer.token),
            api: Destination::new(&customer.api, credential.api.authorization),
            limits: customer.limits.clone(),
            held: RefCell::new(None),
            links: OnceCell::new(),
        }
    }

    /// Returns the customer's id as text.
    pub fn name(&self) -> &str {
        // The configuration admits visible ASCII only.
        self.id.to_str().unwrap_or_default()
    }

    /// Returns the value of `Citrix-InstanceId`, if it is configured or already known.
    pub fn instance_id(&self) -> Option<&HeaderValue> {
        if self.instance_id.get().is_none() && self.looks_up_site {
            let found = self.site.known()?;
            return Some(self.instance_id.get_or_init(|| own_copy(found)));
        }
        self.instance_id.get()
    }

    /// Returns `true` if the site has yet to be looked up at Citrix.
    pub fn must_find_site(&self) -> bool {
        self.looks_up_site && self.site.known().is_none()
    }

    /// Returns the token if it is usable at `now`; never an expired one.
    pub fn usable_token(&self, now: Moment) -> Option<Rc<HeldToken>> {
        let current = self.token.current();
        let mut held = self.held.borrow_mut();
        if !held.as_ref().is_some_and(|held| {
            current
                .as_ref()
                .is_some_and(|current| Arc::ptr_eq(current, &held.shared))
        }) {
            *held = current.as_ref().map(|token| Rc::new(HeldToken::new(token)));
        }
        held.as_ref()
            .filter(|held| held.shared.is_usable(now))
            .cloned()
    }

    /// Returns the upstream of the customer's requests on `route`; `None` if the customer's cloud
    /// has no host for it.
    pub fn destination<'s>(&'s self, route: &'s Route) -> Option<&'s Destination> {
        match &route.destinations {
            Destinations::CustomerApi => Some(&self.api),
            Destinations::ByCloud(known) => known
                .iter()
                .find(|(cloud, to)| {
                    *cloud == self.cloud && to.authorization == self.api.authorization
                })
                .map(|(_, to)| to),
            Destinations::Fixed(to) => Some(to),
        }
    }

    pub(super) fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// Returns the customer's API gateway.
    pub(super) fn api(&self) -> &Destination {
        &self.api
    }

    /// Returns `true` if both customers have the same hosts, so that their [`Self::links`] are equal.
    pub(super) fn has_hosts_of(&self, other: &Self) -> bool {
        self.cloud == other.cloud
            && self.api.authorization == other.api.authorization
            && self.api.base_path == other.api.base_path
            && Arc::ptr_eq(&self.api.origin, &other.api.origin)
    }

    /// Returns the customer's limit on `route`, and the longest wait for it.
    pub fn limit(&self, route: &Route) -> Option<(&Limit, Duration)> {
        self.limits.get(route.limit?)
    }

    /// Returns the map that rewrites links in responses to the customer: the inverse of its routes.
    pub(super) fn links(&self, routes: &[Route]) -> Rc<LinkMap> {
        let map = self.links.get_or_init(|| {
            let replaced = self.replaced_hosts(routes);
            let replaced = replaced.iter().map(|(old, route)| LinkRoute {
                prefix: &route.config.prefix,
                strip_prefix: route.config.strip_prefix,
                upstream: split_url(&old.url).0,
                base_path: split_url(&old.url).1,
            });
            let routes = routes.iter().filter_map(|route| {
                let to = self.destination(route)?;
                Some(LinkRoute {
                    prefix: &route.config.prefix,
                    strip_prefix: route.config.strip_prefix,
                    upstream: to.origin.url.authority.as_str(),
                    base_path: &to.base_path,
                })
            });
            // The gateway of a region serves the same resources as the worldwide one.
            let gateways = self.cloud.gateways().iter();
            let gateways = gateways.filter(|&&it| it == self.cloud || it == Cloud::Commercial);
            let api = self.api.origin.url.authority.as_str();
            let aliases = gateways.map(|it| (split_url(it.api_url()).0, api));
            Rc::new(LinkMap::new(routes.chain(replaced), aliases))
        });
        Rc::clone(map)
    }

    /// Returns the built-in hosts to which no route leads, because a `[[route]]` replaces theirs.
    /// Responses of the new upstream, a test system or another proxy, still name the old host.
    fn replaced_hosts<'r>(&self, routes: &'r [Route]) -> Vec<(BuiltInPrefix, &'r Route)> {
        let replacement = |prefix: &str| {
            routes.iter().find(|route| {
                !route.config.built_in && route.config.prefix.eq_ignore_ascii_case(prefix)
            })
        };
        let is_reachable = |host: &str| {
            routes
                .iter()
                .filter_map(|route| self.destination(route))
                .any(|to| to.origin.url.authority.as_str() == host)
        };
        services::built_in_prefixes(self.cloud, [])
            .into_iter()
            .filter_map(|old| Some((replacement(&old.prefix)?, old)))
            .filter(|(_, old)| !is_reachable(split_url(&old.url).0))
            .map(|(route, old)| (old, route))
            .collect()
    }
}

/// Splits a built-in URL into host and path.
fn split_url(url: &str) -> (&str, &str) {
    let after_scheme = url.trim_start_matches("https://");
    let slash = after_scheme.find('/').unwrap_or(after_scheme.len());
    after_scheme.split_at(slash)
}

impl HeldToken {
    fn new(token: &Arc<Token>) -> Self {
        Self {
            shared: Arc::clone(token),
            cws: OnceCell::new(),
            bearer: OnceCell::new(),
        }
    }

    /// Returns the value of `Authorization`.
    pub fn authorization(&self, scheme: AuthorizationScheme) -> &HeaderValue {
        let copy = match scheme {
            AuthorizationScheme::Cws => &self.cws,
            AuthorizationScheme::Bearer => &self.bearer,
        };
        copy.get_or_init(|| own_copy(self.shared.authorization(scheme)))
    }

    /// Returns the token's generation, for [`TokenSlot::report_rejected`].
    pub fn generation(&self) -> u64 {
        self.shared.generation()
    }

    /// Removes fields that contain the token, from an upstream that echoes request fields.
    pub fn remove_echoes(&self, fields: &mut HeaderMap) {
        let echoes: Vec<HeaderName> = fields
            .iter()
            .filter(|(_, value)| self.shared.occurs_in(value.as_bytes()))
            .map(|(name, _)| name.clone())
            .collect();
        for name in echoes {
            fields.remove(&name);
        }
    }
}
