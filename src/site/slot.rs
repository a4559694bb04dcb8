//! Where the data path finds a customer's site, and tells that it is frozen.
//!
//! Reading a known site is one atomic load; everything else here is for the rare moments before it is known.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::limit::permits::PermitCounter;

/// How long after an answer that was no single site Citrix is not asked again.
pub const PAUSE: Duration = Duration::from_secs(30);

/// What is known of a customer's site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// Its id.
    Known(HeaderValue),
    /// There are several, with these ids: never fewer than two.
    Several(Arc<[String]>),
    /// Citrix did not say, or not in time.
    Unknown,
}

/// One customer's site. Its agent writes, everybody else reads, on whatever thread and runtime.
#[derive(Debug, Default)]
pub struct SiteSlot {
    known: OnceLock<HeaderValue>,
    progress: watch::Sender<Progress>,
    wanted: Notify,
    frozen: Notify,
    waiting: Arc<PermitCounter>,
}

/// How far asking has come.
#[derive(Debug, Default)]
struct Progress {
    /// How often Citrix was asked, to the end.
    asked: u64,
    /// Until when it is not asked again.
    rests_until: Option<Instant>,
    several: Option<Arc<[String]>>,
}

impl Progress {
    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }
}

impl SiteSlot {
    /// The site's id, once it is known: one atomic load.
    pub fn known(&self) -> Option<&HeaderValue> {
        self.known.get()
    }

    /// The places for those who wait.
    pub const fn waiting(&self) -> &Arc<PermitCounter> {
        &self.waiting
    }

    /// The site, waiting up to `patience` for Citrix's word where it has not been asked lately.
    pub async fn find(&self, patience: Duration) -> Site {
        let mut progress = self.progress.subscribe();
        let asked = {
            let now = progress.borrow_and_update();
            (!now.rests()).then_some(now.asked)
        };
        if let (None, Some(asked)) = (self.known(), asked) {
            self.wanted.notify_one();
            // Too late is seen below. The sender lives as long as `self`.
            let _ =
                tokio::time::timeout(patience, progress.wait_for(|now| now.asked > asked)).await;
        }
        match self.known() {
            Some(id) => Site::Known(id.clone()),
            None => self
                .progress
                .borrow()
                .several
                .clone()
                .map_or(Site::Unknown, Site::Several),
        }
    }

    /// Tells that Citrix answered that the site is frozen.
    pub fn report_frozen(&self) {
        self.frozen.notify_one();
    }

    /// Comes back when somebody needs the site's id and Citrix may be asked for it.
    pub(super) async fn wanted(&self) {
        loop {
            self.wanted.notified().await;
            // Who asked while an answer was on its way has it by now.
            if self.known().is_none() && !self.progress.borrow().rests() {
                return;
            }
        }
    }

    /// Comes back when the site was seen frozen, at once if that happened since the last call.
    pub(super) async fn seen_frozen(&self) {
        self.frozen.notified().await;
    }

    /// Publishes what Citrix said. An id is for good; anything else holds for [`PAUSE`].
    pub(super) fn publish(&self, site: Site) {
        let several = match site {
            Site::Known(id) => {
                // There is one writer, which asks no more after this.
                let _ = self.known.set(id);
                None
            }
            Site::Several(ids) => Some(ids),
            Site::Unknown => None,
        };
        self.progress.send_modify(|progress| {
            progress.asked += 1;
            progress.rests_until = Some(Instant::now() + PAUSE);
            progress.several = several;
        });
    }
}
