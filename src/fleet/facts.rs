//! Facts about one customer's site that replicas share. Each saves requests; none is needed.

use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::command::Fact;
use fleet_protocol::machine::Request;
use fleet_protocol::reply::Body;
use fleet_protocol::{Name, StoreTime};
use secrecy::zeroize::Zeroizing;

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

    /// Returns the record of the customer's regions, if any, and the store's time; `None` without a
    /// store.
    pub async fn regions(&self) -> Option<(Option<Zeroizing<Vec<u8>>>, StoreTime)> {
        let name = self.name();
        let request = Request::Get(Fact::Regions(name));
        let response = self.fleet.request(request).await?;
        let Body::Value(value) = response.body else {
            return None;
        };
        let text = value.and_then(|record| self.open(Purpose::Regions, name, &record));
        Some((text, response.now))
    }

    /// Shares the record of the customer's regions.
    pub async fn set_regions(&self, record: &[u8], lifetime: Duration) {
        let name = self.name();
        let fact = Fact::Regions(name);
        self.set(Purpose::Regions, (fact, name), record, lifetime)
            .await;
    }

    fn open(&self, purpose: Purpose, name: Name, record: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let opened = self.fleet.keys().open(purpose, name, record).ok();
        if opened.is_none() {
            let metrics = self.fleet.metrics();
            metrics.count_token(TokenOutcome::Undecipherable);
        }
        opened
    }

    async fn set(
        &self,
        purpose: Purpose,
        (fact, name): (Fact, Name),
        record: &[u8],
        lifetime: Duration,
    ) {
        let mut text = record_buffer(record.len());
        text.extend_from_slice(record);
        let sealed = self.fleet.keys().seal(purpose, name, text);
        if let Ok(value) = sealed {
            let request = Request::Set {
                fact,
                value,
                lifetime,
            };
            self.fleet.request(request).await;
        }
    }

    /// Returns the id of the site that another replica found.
    pub async fn site(&self) -> Option<String> {
        let name = self.name();
        let request = Request::Get(Fact::Site(name));
        let Body::Value(Some(record)) = self.fleet.request(request).await?.body else {
            return None;
        };
        let text = self.open(Purpose::Site, name, &record)?;
        Some(str::from_utf8(&text).ok()?.to_owned())
    }

    /// Shares the id of the customer's only site.
    pub async fn set_site(&self, id: &str) {
        let name = self.name();
        let fact = Fact::Site(name);
        self.set(Purpose::Site, (fact, name), id.as_bytes(), SITE_LIFETIME)
            .await;
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
