//! What replicas share of one customer's site. Each fact saves requests; none is needed.

use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::Name;
use fleet_protocol::command::Fact;
use fleet_protocol::machine::Request;
use fleet_protocol::reply::Body;

use super::handle::Fleet;
use super::keys::{NameKind, Purpose, record_buffer};
use super::metrics::TokenOutcome;

/// The lifetime of a site's id in the store.
const SITE_LIFETIME: Duration = Duration::from_hours(1);

/// The facts of one customer.
#[derive(Clone, Debug)]
pub struct SiteFacts {
    fleet: Arc<Fleet>,
    customer: String,
    /// The customer's API gateway: another one has other sites.
    gateway: String,
}

impl SiteFacts {
    /// Returns the facts of a customer of an API gateway.
    pub fn new(fleet: Arc<Fleet>, customer: &str, gateway: &str) -> Self {
        Self {
            fleet,
            customer: customer.to_owned(),
            gateway: gateway.to_owned(),
        }
    }

    fn name(&self) -> Name {
        let parts = [self.customer.as_bytes(), self.gateway.as_bytes()];
        self.fleet.keys().name(NameKind::Customer, &parts)
    }

    /// Returns the id of the site that another replica found.
    pub async fn site(&self) -> Option<String> {
        let name = self.name();
        let request = Request::Get(Fact::Site(name));
        let Body::Value(Some(record)) = self.fleet.request(request).await?.body else {
            return None;
        };
        let Ok(text) = self.fleet.keys().open(Purpose::Site, name, &record) else {
            let metrics = self.fleet.metrics();
            metrics.count_token(TokenOutcome::Undecipherable);
            return None;
        };
        Some(str::from_utf8(&text).ok()?.to_owned())
    }

    /// Shares the id of the customer's only site.
    pub async fn set_site(&self, id: &str) {
        let name = self.name();
        let mut text = record_buffer(id.len());
        text.extend_from_slice(id.as_bytes());
        let sealed = self.fleet.keys().seal(Purpose::Site, name, text);
        if let Ok(value) = sealed {
            let request = Request::Set {
                fact: Fact::Site(name),
                value,
                lifetime: SITE_LIFETIME,
            };
            self.fleet.request(request).await;
        }
    }

    /// Returns `true` if no other replica has requested the site's activation within `interval`, and
    /// without a store.
    pub async fn may_activate(&self, interval: Duration) -> bool {
        let request = Request::Mark {
            fact: Fact::Activation(self.name()),
            lifetime: interval,
        };
        let response = self.fleet.request(request).await;
        !response.is_some_and(|response| response.body == Body::Written(false))
    }
}
