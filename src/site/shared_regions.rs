//! Redirects to other regions that replicas share, off the request path.
//!
//! A record of the store names gateways; it is mapped onto those that the configuration knows, so
//! that it cannot add a destination.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::StoreTime;
use http::HeaderValue;
use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::regions::{LIFETIME, MAX_PREFIX_LEN, MAX_RELOCATIONS, Regions, Relocation};
use crate::config::UpstreamUrl;
use crate::fleet::Fleet;
use crate::fleet::facts::SiteFacts;
use crate::fleet::members::join;

/// Time between two reads of the store without a reason.
const INTERVAL: Duration = Duration::from_mins(10);
/// Ends of one lifetime that two replicas compute differ by less, in milliseconds.
const SLACK_MS: u64 = 60_000;

/// The regions of this replica, and the gateways to which they may lead.
pub trait RegionSource: Send + Sync + 'static {
    fn regions(&self) -> &Regions;

    /// Returns the known gateways of each customer.
    fn customers(&self) -> Vec<KnownGateways>;
}

/// The API gateways to which requests of a customer may be redirected.
#[derive(Clone, Debug)]
pub struct KnownGateways {
    pub customer: HeaderValue,
    /// The customer's own.
    pub api: UpstreamUrl,
    pub others: Vec<UpstreamUrl>,
}

/// A relocation in the store.
#[derive(Serialize, Deserialize)]
struct Stored {
    from: String,
    prefix: String,
    to: String,
    base: String,
    confirmed: bool,
    /// End of the lifetime, by the store's clock.
    until: u64,
}

impl Stored {
    fn new(known: &Relocation, now: StoreTime) -> Self {
        let remaining = known.until.saturating_duration_since(Instant::now());
        Self {
            from: origin(&known.from),
            prefix: known.from.base_path.clone(),
            to: origin(&known.to),
            base: known.to.base_path.clone(),
            confirmed: known.confirmed,
            until: (now + remaining).0,
        }
    }

    /// Returns `true` if this is `other`, or a later redirect to the same base.
    fn covers(&self, other: &Self) -> bool {
        let [here, there] = [self, other].map(|it| [&it.from, &it.prefix, &it.to, &it.base]);
        here == there && other.until <= self.until.saturating_add(SLACK_MS)
    }
}

fn origin(url: &UpstreamUrl) -> String {
    format!("{}://{}", url.scheme, url.authority)
}

impl KnownGateways {
    /// Returns a path of a known gateway.
    fn url(&self, named: &str, path: &str) -> Option<UpstreamUrl> {
        let is_path = path.len() <= MAX_PREFIX_LEN
            && (path.is_empty() || PathAndQuery::try_from(path).is_ok_and(|it| it.path() == path));
        let mut known = std::iter::once(&self.api).chain(&self.others);
        let known = known.find(|known| is_path && origin(known) == named)?;
        Some(known.with_path(path.to_owned()))
    }

    /// Returns a relocation of the store; `None` if it expired or names an unknown gateway.
    fn relocation(&self, stored: &Stored, now: StoreTime) -> Option<Relocation> {
        let remaining = stored.until.checked_sub(now.0).filter(|it| *it > 0)?;
        let (from, to) = (
            self.url(&stored.from, &stored.prefix)?,
            self.url(&stored.to, &stored.base)?,
        );
        (from != to).then(|| Relocation {
            customer: self.customer.clone(),
            from,
            to,
            confirmed: stored.confirmed,
            until: Instant::now() + Duration::from_millis(remaining).min(LIFETIME),
        })
    }
}

/// Shares the regions of all customers with other replicas.
pub async fn share(fleet: Arc<Fleet>, source: Arc<impl RegionSource>) -> Infallible {
    let mut joins = fleet.status();
    let mut sharing = Sharing {
        fleet,
        source,
        seen: HashMap::new(),
    };
    let mut only_learnt = false;
    loop {
        sharing.exchange_all(only_learnt).await;
        only_learnt = tokio::select! {
            () = sleep(INTERVAL) => false,
            () = join(&mut joins) => false,
            () = sharing.source.regions().learnt() => true,
        };
    }
}

struct Sharing<S> {
    fleet: Arc<Fleet>,
    source: Arc<S>,
    /// Relocations of each customer that were taken from the store or written to it: one that
    /// proved wrong here is not taken again.
    seen: HashMap<HeaderValue, Vec<Stored>>,
}

impl<S: RegionSource> Sharing<S> {
    async fn exchange_all(&mut self, only_learnt: bool) {
        for known in self.source.customers() {
            let is_due = !only_learnt || !self.source.regions().of(&known.customer).is_empty();
            if is_due && self.exchange(&known).await.is_none() {
                return;
            }
        }
    }

    /// Takes a customer's relocations from the store, and adds those of this replica. Returns
    /// `None` without a store.
    async fn exchange(&mut self, known: &KnownGateways) -> Option<()> {
        let customer = known.customer.to_str().unwrap_or_default();
        let facts = SiteFacts::new(Arc::clone(&self.fleet), customer, &known.api.to_string());
        let (record, now) = facts.regions().await?;
        let stored: Vec<Stored> = record
            .and_then(|record| serde_json::from_slice(record.as_slice()).ok())
            .unwrap_or_default();
        self.take(known, &stored, now);
        let own = self.source.regions().of(&known.customer);
        let own: Vec<_> = own.iter().map(|known| Stored::new(known, now)).collect();
        let is_new = |own: &Stored| !stored.iter().any(|stored| stored.covers(own));
        if own.iter().any(is_new)
            && let Ok(record) = serde_json::to_vec(&own)
        {
            facts.set_regions(&record, LIFETIME).await;
        }
        let seen = self.seen.entry(known.customer.clone()).or_default();
        let is_covered = |seen: &Stored| own.iter().any(|own| own.covers(seen));
        seen.retain(|seen| seen.until > now.0 && !is_covered(seen));
        seen.extend(own);
        // The oldest come first.
        seen.drain(..seen.len().saturating_sub(MAX_RELOCATIONS));
        self.seen.retain(|_, seen| !seen.is_empty());
        Some(())
    }

    fn take(&self, known: &KnownGateways, stored: &[Stored], now: StoreTime) {
        let regions = self.source.regions();
        let seen = self.seen.get(&known.customer);
        for stored in stored.iter().take(MAX_RELOCATIONS) {
            let is_seen = seen.is_some_and(|seen| seen.iter().any(|seen| seen.covers(stored)));
            let Some(new) = known.relocation(stored, now).filter(|_| !is_seen) else {
                continue;
            };
            let own = regions.of(&known.customer);
            let is_newer = |own: &Arc<Relocation>| own.from == new.from && own.until >= new.until;
            if !own.iter().any(is_newer) {
                regions.insert(new);
            }
        }
    }
}

#[cfg(test)]
mod tests;
