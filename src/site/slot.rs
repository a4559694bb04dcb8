//! The site of one customer, shared between its agent and the data path.
//!
//! A request reads a known site with one atomic load; it waits only until the site is known.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::limit::owner::QueueSlots;

/// Time without another lookup after one that found no single site.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Result of a site lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// The only site, by its id.
    Known(HeaderValue),
    /// The ids of two or more sites.
    Several(Arc<[String]>),
    /// No result from Citrix, or not in time.
    Unknown,
}

/// One customer's site. Its agent writes; any thread and runtime may read.
#[derive(Debug, Default)]
pub struct SiteSlot {
    known: OnceLock<HeaderValue>,
    lookups: watch::Sender<Lookups>,
    lookup_wanted: Notify,
    frozen: Notify,
    waiting: QueueSlots,
}

/// Finished lookups.
#[derive(Debug, Default)]
struct Lookups {
    count: u64,
    /// Earliest time of the next lookup.
    not_before: Option<Instant>,
    several: Option<Arc<[String]>>,
}

impl Lookups {
    fn is_recent(&self) -> bool {
        self.not_before.is_some_and(|until| Instant::now() < until)
    }
}

impl SiteSlot {
    /// Returns the site's id if it is known, with one atomic load.
    pub fn known(&self) -> Option<&HeaderValue> {
        self.known.get()
    }

    /// Returns the slots of the requests that wait for this customer's site.
    pub const fn waiting(&self) -> &QueueSlots {
        &self.waiting
    }

    /// Returns the site. Waits up to `timeout` for a lookup, unless the last one is recent.
    pub async fn find(&self, timeout: Duration) -> Site {
        let mut lookups = self.lookups.subscribe();
        let before = {
            let state = lookups.borrow_and_update();
            (!state.is_recent()).then_some(state.count)
        };
        if let (None, Some(before)) = (self.known(), before) {
            self.lookup_wanted.notify_one();
            // A timeout is handled below; the sender lives as long as `self`.
            let finished = lookups.wait_for(|state| state.count > before);
            let _ = tokio::time::timeout(timeout, finished).await;
        }
        match self.known() {
            Some(id) => Site::Known(id.clone()),
            None => self
                .lookups
                .borrow()
                .several
                .clone()
                .map_or(Site::Unknown, Site::Several),
        }
    }

    /// Reports that Citrix responded with 530 (site frozen).
    pub fn report_frozen(&self) {
        self.frozen.notify_one();
    }

    /// Waits until a request needs the site and a lookup is permitted.
    pub(super) async fn lookup_wanted(&self) {
        loop {
            self.lookup_wanted.notified().await;
            // A request that arrived during a lookup already has its result.
            if self.known().is_none() && !self.lookups.borrow().is_recent() {
                return;
            }
        }
    }

    /// Waits until the site is reported as frozen; returns at once if that happened since the last
    /// call.
    pub(super) async fn reported_frozen(&self) {
        self.frozen.notified().await;
    }

    /// Publishes the result of a lookup. An id is final; any other result holds for
    /// [`RETRY_INTERVAL`].
    pub(super) fn publish(&self, site: Site) {
        let several = match site {
            Site::Known(id) => {
                // The only writer looks up no site after this.
                let _ = self.known.set(id);
                None
            }
            Site::Several(ids) => Some(ids),
            Site::Unknown => None,
        };
        self.lookups.send_modify(|lookups| {
            lookups.count += 1;
            lookups.not_before = Some(Instant::now() + RETRY_INTERVAL);
            lookups.several = several;
        });
    }
}
