//! The limits of all customers: one per customer and service that Citrix limits.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Credential, Live, Quota, Route};
use crate::limit::Limit;

/// A name, and what it allows.
type Kind = (String, Quota);

/// What all workers share of limits.
pub(super) struct Limits {
    /// What a name allows. Routes with the same name that allow the same share a limit.
    kinds: Vec<Kind>,
    /// In the order of the credentials; each has the kinds in their order.
    pub(super) by_customer: Vec<Arc<[Arc<Limit>]>>,
}

/// A route's limit: which of a customer's, and how long a request may wait for it.
#[derive(Clone, Copy)]
pub(super) struct Limited {
    pub(super) kind: usize,
    pub(super) queue_timeout: Duration,
}

impl Limits {
    /// The limits of `live`. Where a customer had the same one `before`, it is that one, with all who wait there.
    pub(super) fn new(live: &Live, before: Option<(&Live, &Self)>) -> Self {
        let mut kinds: Vec<Kind> = Vec::new();
        for limit in live.routes.iter().filter_map(|route| route.limit.as_ref()) {
            if !kinds
                .iter()
                .any(|(name, allows)| *name == limit.shared_as && *allows == limit.quota)
            {
                kinds.push((limit.shared_as.clone(), limit.quota));
            }
        }
        let limits = |credential: &Credential| {
            let old = before.and_then(|(old, limits)| limits.of_customer(old, credential));
            let limit = |kind: &Kind| {
                let same = old
                    .and_then(|(kinds, old)| old.get(kinds.iter().position(|each| each == kind)?));
                same.map_or_else(|| Arc::new(Limit::new(kind.1)), Arc::clone)
            };
            kinds.iter().map(limit).collect()
        };
        let by_customer = live.credentials.iter().map(limits).collect();
        Self { kinds, by_customer }
    }

    /// What it has for a customer of `live`, by kind.
    fn of_customer(&self, live: &Live, customer: &Credential) -> Option<(&[Kind], &[Arc<Limit>])> {
        let is = |other: &Credential| other.customer_id == customer.customer_id;
        let index = live.credentials.iter().position(is)?;
        Some((&self.kinds, self.by_customer.get(index)?))
    }

    pub(super) fn of(&self, route: &Route) -> Option<Limited> {
        let limit = route.limit.as_ref()?;
        let is = |(name, allows): &Kind| *name == limit.shared_as && *allows == limit.quota;
        let kind = self.kinds.iter().position(is)?;
        Some(Limited {
            kind,
            queue_timeout: limit.queue_timeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use crate::config;
    use crate::limit::Limit;
    use crate::observe::metrics::Metrics;
    use crate::state::{Published, Snapshot};
    use crate::upstream::dial::DialConfig;

    fn limit<'s>(snapshot: &'s Snapshot, path: &str, customer: &str) -> Option<&'s Limit> {
        let route = &snapshot.routes[snapshot.route_of(path).unwrap()];
        let customer = snapshot.customers.named(customer.as_bytes()).unwrap();
        route.limit(customer).map(|(limit, _)| limit)
    }

    #[test]
    fn a_customer_has_one_limit_at_a_service_by_whatever_gateway_and_on_whatever_worker() {
        let mut text =
            "[[route]]\nprefix = '/a'\nupstream = 'https://a'\nmax_concurrent = 1\n".to_owned();
        for id in ["acme", "contoso"] {
            text += &format!("[[customer]]\ncustomer_id = '{id}'\nclient_id = 'c'\n");
            text += "client_secret = { env = 'S' }\n";
        }
        let config = config::from_toml(&text, [("S".to_owned(), "s".to_owned())]).unwrap();
        let published =
            Arc::new(Published::first(config.live, &DialConfig::unreachable()).unwrap());
        let metrics = Metrics::new(2).unwrap();
        let workers: [Rc<Snapshot>; 2] =
            [0, 1].map(|worker| Snapshot::new(Arc::clone(&published), metrics.worker(worker)));
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
