//! The origins of one configuration, each once.

use std::sync::Arc;

use crate::config::UpstreamUrl;
use crate::upstream::dial::DialConfig;
use crate::upstream::origin::{InvalidServerName, Origin};

/// The origins of one configuration. One that the configuration before had keeps its id, and with it its pooled
/// connections, as long as it is dialed the same way.
pub(super) struct Origins {
    all: Vec<Arc<Origin>>,
    /// Those of the configuration before, until [`Self::forget_before`].
    before: Vec<Arc<Origin>>,
    next_id: u64,
    dial_config: DialConfig,
}

/// An upstream URL with its origin.
pub(super) struct ResolvedUrl {
    pub(super) origin: Arc<Origin>,
    pub(super) base_path: String,
}

impl Origins {
    pub(super) fn after(before: Option<&Self>, dial_config: &DialConfig) -> Self {
        Self {
            all: Vec::new(),
            before: before.map(|before| before.all.clone()).unwrap_or_default(),
            next_id: before.map_or(0, |before| before.next_id),
            dial_config: dial_config.clone(),
        }
    }

    pub(super) fn resolve(&mut self, url: &UpstreamUrl) -> Result<ResolvedUrl, InvalidServerName> {
        Ok(ResolvedUrl {
            origin: self.of(url)?,
            base_path: url.base_path.clone(),
        })
    }

    pub(super) fn of(&mut self, url: &UpstreamUrl) -> Result<Arc<Origin>, InvalidServerName> {
        if let Some(known) = self.all.iter().find(|origin| origin.matches(url)) {
            return Ok(Arc::clone(known));
        }
        let same = |origin: &&Arc<Origin>| {
            origin.matches(url) && origin.dial_config.same_as(&self.dial_config)
        };
        let origin = match self.before.iter().find(same) {
            Some(same) => Arc::clone(same),
            None => {
                let new = Origin::new(self.next_id, url, &self.dial_config)?;
                self.next_id += 1;
                Arc::new(new)
            }
        };
        self.all.push(Arc::clone(&origin));
        Ok(origin)
    }

    pub(super) fn forget_before(&mut self) {
        self.before = Vec::new();
    }

    /// Returns `true` if an origin has this id.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.all.iter().any(|origin| origin.id == id)
    }
}
