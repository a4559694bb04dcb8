//! The origins of one configuration, each once.

use std::sync::Arc;

use crate::config::UpstreamUrl;
use crate::upstream::dial::DialConfig;
use crate::upstream::origin::Origin;

/// The origins of one configuration. An origin of the previous configuration keeps its id, and with
/// it its pooled connections, as long as it is dialed the same way.
pub(super) struct Origins {
    all: Vec<Arc<Origin>>,
    /// Those of the previous configuration, until [`Self::drop_previous`].
    previous: Vec<Arc<Origin>>,
    next_id: u64,
    dial_config: DialConfig,
}

/// An upstream URL with its origin.
pub(super) struct ResolvedUrl {
    pub(super) origin: Arc<Origin>,
    pub(super) base_path: String,
}

impl Origins {
    /// Creates an empty set that takes unchanged origins, and the next id, from `previous`.
    pub(super) fn new(previous: Option<&Self>, dial_config: &DialConfig) -> Self {
        Self {
            all: Vec::new(),
            previous: previous
                .map(|previous| previous.all.clone())
                .unwrap_or_default(),
            next_id: previous.map_or(0, |previous| previous.next_id),
            dial_config: dial_config.clone(),
        }
    }

    /// Returns the configuration of new connections.
    pub(super) fn dial_config(&self) -> &DialConfig {
        &self.dial_config
    }

    pub(super) fn resolve(&mut self, url: &UpstreamUrl) -> ResolvedUrl {
        ResolvedUrl {
            origin: self.of(url),
            base_path: url.base_path.clone(),
        }
    }

    fn of(&mut self, url: &UpstreamUrl) -> Arc<Origin> {
        if let Some(known) = self.all.iter().find(|origin| origin.matches(url)) {
            return Arc::clone(known);
        }
        let same = |origin: &&Arc<Origin>| {
            origin.matches(url) && origin.dial_config.same_as(&self.dial_config)
        };
        let origin = match self.previous.iter().find(same) {
            Some(same) => Arc::clone(same),
            None => {
                let new = Origin::new(self.next_id, url, &self.dial_config);
                self.next_id += 1;
                Arc::new(new)
            }
        };
        self.all.push(Arc::clone(&origin));
        origin
    }

    /// Releases the origins that this configuration does not use.
    pub(super) fn drop_previous(&mut self) {
        self.previous = Vec::new();
    }

    /// Returns all origins.
    pub(super) fn all(&self) -> &[Arc<Origin>] {
        &self.all
    }

    /// Returns `true` if an origin has this id.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.all.iter().any(|origin| origin.id == id)
    }
}
