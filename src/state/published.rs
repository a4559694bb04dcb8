//! The state that is published for all workers, and its transfer from one configuration to the
//! next.

use std::sync::Arc;

use tokio::time::Instant;

pub use super::limits::SharedQueue;
use super::limits::{CustomerLimits, LimitKeys, LimitRef};
use super::origins::{Origins, ResolvedUrl};
use crate::callers::caller_state::CallerState;
use crate::config::{Caller, Credential, Live, RouteSettings, RouteTarget};
use crate::fleet::Fleet;
use crate::site::slot::SiteSlot;
use crate::token::slot::TokenSlot;
use crate::upstream::dial::DialConfig;
use crate::upstream::origin::Origin;
use citrix_wire::citrix::AuthorizationScheme;
use citrix_wire::citrix::clouds::Cloud;

/// The live configuration with the state of its customers, callers and routes. A reload publishes
/// its successor.
pub struct Published {
    pub live: Arc<Live>,
    /// One per customer, in the order of the configuration.
    pub customers: Vec<PublishedCustomer>,
    /// One per caller, in the order of the configuration.
    pub callers: Vec<PublishedCaller>,
    /// One per route, in the order of [`Live::routes`].
    pub(super) routes: Vec<PublishedRoute>,
    /// [`Live::gateways`] with their origins.
    pub(super) gateways: Vec<(Option<Cloud>, ResolvedUrl)>,
    origins: Origins,
    /// The fleet, if replicas share a store.
    pub(super) fleet: Option<Arc<Fleet>>,
    /// Time of creation, shortly before publication.
    pub loaded_at: Instant,
}

/// A customer with its state.
pub struct PublishedCustomer {
    pub credential: Arc<Credential>,
    /// Requests that name no customer are for this one.
    pub is_default: bool,
    pub token: Arc<TokenSlot>,
    /// The observed state of the customer's site.
    pub site: Arc<SiteSlot>,
    pub(super) api: ResolvedUrl,
    pub(super) limits: CustomerLimits,
}

/// A caller with its state.
pub struct PublishedCaller {
    pub config: Arc<Caller>,
    /// The caller's limits with their use, and its requests while its mode is `observe`.
    pub state: CallerState,
}

/// A route with its origins.
pub(super) struct PublishedRoute {
    pub(super) config: Arc<RouteSettings>,
    pub(super) target: PublishedTarget,
    pub(super) limit: Option<LimitRef>,
}

/// A [`RouteTarget`] with its origins.
pub(super) enum PublishedTarget {
    CustomerApi,
    ByCloud(Vec<(Cloud, ResolvedUrl)>),
    Fixed(ResolvedUrl, AuthorizationScheme),
}

impl Published {
    /// Creates the state at start: no token, no known site.
    pub fn initial(live: Arc<Live>, dial_config: &DialConfig, fleet: Option<Arc<Fleet>>) -> Self {
        Self::new(live, dial_config, fleet, None)
    }

    /// Creates the successor of this state under a new configuration. State passes from one
    /// configuration to the next only here: tokens, sites, limits with the requests that wait for
    /// them, the state of callers, and origins with their connections. Each passes only to the same
    /// customer, caller, limit or origin. Regions, gates and rejected tokens are in
    /// [`super::Shared`] and outlive every configuration.
    pub fn successor(&self, live: Arc<Live>, dial_config: &DialConfig) -> Self {
        Self::new(live, dial_config, self.fleet.clone(), Some(self))
    }

    /// Returns the queues that replicas share.
    pub fn shared_queues(&self) -> Vec<SharedQueue> {
        let Some(fleet) = &self.fleet else {
            return Vec::new();
        };
        let queues = self.customers.iter().flat_map(|customer| {
            let id = customer.credential.customer();
            customer.limits.shared_queues(id, fleet)
        });
        queues.collect()
    }

    fn new(
        live: Arc<Live>,
        dial_config: &DialConfig,
        fleet: Option<Arc<Fleet>>,
        previous: Option<&Self>,
    ) -> Self {
        let mut origins = Origins::new(previous.map(|previous| &previous.origins), dial_config);
        let keys = LimitKeys::of(live.routes.iter().map(|route| &**route));
        let customers = live.credentials.iter().enumerate();
        let customers = customers.map(|(index, credential)| {
            let is_default = live.default_customer == Some(index);
            let keys = (&keys, fleet.as_deref());
            PublishedCustomer::new(credential, is_default, previous, keys, &mut origins)
        });
        let customers = customers.collect();
        let routes = live
            .routes
            .iter()
            .map(|route| PublishedRoute::new(route, &keys, &mut origins));
        let routes = routes.collect();
        let gateways = live
            .gateways
            .iter()
            .map(|gateway| (gateway.cloud, origins.resolve(&gateway.url)))
            .collect();
        origins.drop_previous();
        let callers = live
            .callers
            .iter()
            .map(|caller| PublishedCaller::new(caller, previous));
        Self {
            customers,
            callers: callers.collect(),
            routes,
            gateways,
            origins,
            fleet,
            live,
            loaded_at: Instant::now(),
        }
    }

    /// Returns the fleet, if replicas share a store.
    pub fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.fleet.as_ref()
    }

    /// Returns the configuration of new connections.
    pub fn dial_config(&self) -> &DialConfig {
        self.origins.dial_config()
    }

    /// Returns the origins of requests.
    pub fn origins(&self) -> &[Arc<Origin>] {
        self.origins.all()
    }

    /// Returns `true` if requests may be sent to the origin with this id.
    pub(super) fn has_origin(&self, id: u64) -> bool {
        self.origins.contains(id)
    }
}

impl PublishedCustomer {
    /// Creates the customer of `credential`. Keeps the token, the site and the limits of
    /// `previous`, each if the settings that determine it are unchanged.
    fn new(
        credential: &Arc<Credential>,
        is_default: bool,
        previous: Option<&Published>,
        (keys, fleet): (&LimitKeys, Option<&Fleet>),
        origins: &mut Origins,
    ) -> Self {
        let find = |is_same: &dyn Fn(&Credential) -> bool| {
            let mut customers = previous?.customers.iter();
            customers.find(|customer| is_same(&customer.credential))
        };
        let same_token = find(&|other| credential.shares_token_with(other));
        let same_site = find(&|other| credential.shares_site_with(other));
        let same_id = find(&|other| credential.customer_id == other.customer_id);
        Self {
            credential: Arc::clone(credential),
            is_default,
            token: same_token.map_or_else(
                || Arc::new(TokenSlot::new()),
                |customer| Arc::clone(&customer.token),
            ),
            site: same_site
                .map(|customer| Arc::clone(&customer.site))
                .unwrap_or_default(),
            api: origins.resolve(&credential.api.url),
            limits: CustomerLimits::new(
                keys,
                credential.customer(),
                fleet,
                same_id.map(|customer| &customer.limits),
            ),
        }
    }
}

impl PublishedCaller {
    fn new(caller: &Arc<Caller>, previous: Option<&Published>) -> Self {
        let same = previous.and_then(|previous| {
            let mut callers = previous.callers.iter();
            callers.find(|other| other.config.name == caller.name)
        });
        Self {
            config: Arc::clone(caller),
            state: match same {
                Some(same) => same.state.successor(caller),
                None => CallerState::new(caller),
            },
        }
    }
}

impl PublishedRoute {
    fn new(route: &Arc<RouteSettings>, keys: &LimitKeys, origins: &mut Origins) -> Self {
        let target = match &route.target {
            RouteTarget::CustomerApi => PublishedTarget::CustomerApi,
            RouteTarget::ByCloud(urls) => {
                let resolved = urls
                    .iter()
                    .map(|(cloud, url)| (*cloud, origins.resolve(url)));
                PublishedTarget::ByCloud(resolved.collect())
            }
            RouteTarget::Fixed(endpoint) => {
                PublishedTarget::Fixed(origins.resolve(&endpoint.url), endpoint.authorization)
            }
        };
        Self {
            config: Arc::clone(route),
            target,
            limit: route.limit.as_ref().and_then(|limit| keys.find(limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(callers: &[(&str, usize)]) -> Arc<Live> {
        let mut text =
            "[citrix]\ncustomer_id = 'acme'\nclient_id = 'c'\nclient_secret = { env = 'S' }\n"
                .to_owned();
        for (network, (name, max_concurrent)) in ["10.0.0.1", "10.0.0.2"].iter().zip(callers) {
            text += &format!(
                "[[caller]]\nname = '{name}'\nnetworks = ['{network}']\nmax_concurrent = {max_concurrent}\n"
            );
        }
        let config = crate::config::from_toml(&text, [("S".to_owned(), "s".to_owned())]);
        config.unwrap().live
    }

    #[tokio::test(start_paused = true)]
    async fn caller_at_another_position_keeps_its_state() {
        let (now, dial_config) = (Instant::now(), DialConfig::unreachable());
        let first = Published::initial(live(&[("a", 2), ("b", 2)]), &dial_config, None);
        let _permit = first.callers[0].state.limits.acquire(now).unwrap();
        let second = first.successor(live(&[("c", 1), ("a", 2)]), &dial_config);
        let [c, a] = &second.callers[..] else {
            panic!("two callers");
        };
        let _other = a.state.limits.acquire(now).unwrap();
        assert!(a.state.limits.acquire(now).is_err());
        assert!(c.state.limits.acquire(now).is_ok(), "another caller");
    }
}
