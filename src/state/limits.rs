//! The limits of each customer: one per service that Citrix limits.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::{Quota, RouteLimit, RouteSettings};
use crate::fleet::Fleet;
use crate::limit::Limit;
use fleet_protocol::Name;

/// A limit as routes name it. Routes with the same name and quota share it.
#[derive(Clone)]
struct LimitKey {
    shared_as: String,
    quota: Quota,
    /// The longest wait on any of the routes.
    timeout: Duration,
}

/// The distinct limits that the routes of a configuration name.
#[derive(Clone)]
pub(super) struct LimitKeys(Arc<[LimitKey]>);

/// The limits of one customer, shared by all workers: one for each of the keys, created at its first
/// use, because a gateway may have many customers that rarely use a service.
#[derive(Clone)]
pub(super) struct CustomerLimits {
    keys: LimitKeys,
    limits: Arc<[Arc<OnceLock<Limit>>]>,
}

/// A route's reference to the limit that each customer has there.
#[derive(Clone, Copy)]
pub(super) struct LimitRef {
    index: usize,
    queue_timeout: Duration,
}

impl LimitKey {
    fn of(limit: &RouteLimit) -> Self {
        Self {
            shared_as: limit.shared_as.clone(),
            quota: limit.quota,
            timeout: limit.queue_timeout,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.shared_as == other.shared_as && self.quota == other.quota
    }

    /// Returns the names of the service and of the quota.
    fn kind(&self) -> [String; 2] {
        let quota = match self.quota {
            Quota::AtOnce(count) => format!("{count} at once"),
            Quota::PerSecond(count) => format!("{count} per second"),
        };
        [self.shared_as.clone(), quota]
    }

    /// Returns a customer's limit, shared with other replicas in a `fleet`: the one that it had
    /// `before`, if any.
    fn limit(
        &self,
        customer: &str,
        fleet: Option<&Fleet>,
        before: Option<&Arc<OnceLock<Limit>>>,
    ) -> Arc<OnceLock<Limit>> {
        let limit = before.cloned().unwrap_or_default();
        let kind = self.kind();
        let kind = kind.each_ref().map(String::as_str);
        if let Some(sharing) = fleet.and_then(|fleet| fleet.sharing(customer, kind, self.timeout)) {
            match limit.get() {
                Some(limit) => limit.configure(sharing),
                None => drop(limit.set(Limit::shared(self.quota, sharing))),
            }
        }
        limit
    }
}

impl LimitKeys {
    pub(super) fn of<'r>(routes: impl Iterator<Item = &'r RouteSettings>) -> Self {
        let mut keys: Vec<LimitKey> = Vec::new();
        for key in routes.filter_map(|route| route.limit.as_ref().map(LimitKey::of)) {
            match keys.iter_mut().find(|other| other.is_same(&key)) {
                Some(same) => same.timeout = same.timeout.max(key.timeout),
                None => keys.push(key),
            }
        }
        Self(keys.into())
    }

    pub(super) fn find(&self, limit: &RouteLimit) -> Option<LimitRef> {
        Some(LimitRef {
            index: self.position(&LimitKey::of(limit))?,
            queue_timeout: limit.queue_timeout,
        })
    }

    fn position(&self, key: &LimitKey) -> Option<usize> {
        self.0.iter().position(|each| each.is_same(key))
    }
}

/// A queue that replicas share.
pub struct SharedQueue {
    pub customer: String,
    pub service: String,
    pub at_once: u32,
    /// Its name in the store.
    pub name: Name,
}

impl CustomerLimits {
    /// Returns the queues that a customer shares with other replicas.
    pub(super) fn shared_queues(
        &self,
        customer: &str,
        fleet: &Fleet,
    ) -> impl Iterator<Item = SharedQueue> {
        self.keys.0.iter().filter_map(move |key| {
            let Quota::AtOnce(count) = key.quota else {
                return None;
            };
            let kind = key.kind();
            let kind = kind.each_ref().map(String::as_str);
            Some(SharedQueue {
                customer: customer.to_owned(),
                service: key.shared_as.clone(),
                at_once: u32::try_from(count.get()).unwrap_or(u32::MAX),
                name: fleet.sharing(customer, kind, key.timeout)?.name,
            })
        })
    }

    /// Creates the limits of a customer. One that it had `before` is kept, with the requests that
    /// wait for it.
    pub(super) fn new(
        keys: &LimitKeys,
        customer: &str,
        fleet: Option<&Fleet>,
        before: Option<&Self>,
    ) -> Self {
        let limit = |key: &LimitKey| {
            let same = before.and_then(|before| before.limits.get(before.keys.position(key)?));
            key.limit(customer, fleet, same)
        };
        Self {
            keys: keys.clone(),
            limits: keys.0.iter().map(limit).collect(),
        }
    }

    /// Returns the limit that `limit_ref` names, and the longest wait for it.
    pub(super) fn get(&self, limit_ref: LimitRef) -> Option<(&Limit, Duration)> {
        let limit = self.limits.get(limit_ref.index)?;
        let quota = self.keys.0.get(limit_ref.index)?.quota;
        Some((
            limit.get_or_init(|| Limit::new(quota)),
            limit_ref.queue_timeout,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use crate::config;
    use crate::limit::Limit;
    use crate::observe::RequestLogs;
    use crate::observe::metrics::Metrics;
    use crate::state::{Published, Snapshot};
    use crate::upstream::dial::DialConfig;

    fn limit<'s>(snapshot: &'s Snapshot, path: &str, customer: &str) -> Option<&'s Limit> {
        let route = &snapshot.routes[snapshot.route_of(path).unwrap()];
        let customer = snapshot.customers.get(customer.as_bytes()).unwrap();
        customer.limit(route).map(|(limit, _)| limit)
    }

    #[test]
    fn gateways_and_workers_share_a_customers_limit_at_a_service() {
        let mut text =
            "[[route]]\nprefix = '/a'\nupstream = 'https://a'\nmax_concurrent = 1\n".to_owned();
        for id in ["acme", "contoso"] {
            text += &format!("[[customer]]\ncustomer_id = '{id}'\nclient_id = 'c'\n");
            text += "client_secret = { env = 'S' }\n";
        }
        let config = config::from_toml(&text, [("S".to_owned(), "s".to_owned())]).unwrap();
        let published = Arc::new(Published::initial(
            config.live,
            &DialConfig::unreachable(),
            None,
        ));
        let metrics = Metrics::new(2).unwrap();
        let workers: [Rc<Snapshot>; 2] = [0, 1].map(|worker| {
            Snapshot::new(
                Arc::clone(&published),
                metrics.worker(worker),
                RequestLogs::embedded(),
            )
        });
        let [one, other] = &workers;
        let acme = limit(one, "/monitorodata/Machines", "acme").unwrap();
        for same in [
            limit(one, "/region/eu/monitorodata", "acme"),
            limit(other, "/MONITORODATA", "acme"),
        ] {
            assert!(std::ptr::eq(acme, same.unwrap()));
        }
        for another in [
            limit(one, "/monitorodata", "contoso"),
            limit(one, "/accessSecurity", "acme"),
            limit(one, "/a", "acme"),
        ] {
            assert!(!std::ptr::eq(acme, another.unwrap()));
        }
        assert!(limit(one, "/cvad/manage/me", "acme").is_none());
    }
}
