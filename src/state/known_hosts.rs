//! The hosts that `[intercept]` serves in place of Citrix.

use std::collections::HashSet;
use std::sync::Arc;

/// The hosts to which the routes of a configuration lead, and those of token endpoints.
pub struct KnownHosts {
    /// Hosts whose only path is a token endpoint.
    pub(super) logins: HashSet<&'static str>,
    /// In lower case.
    pub(super) names: Arc<HashSet<String>>,
    /// One customer of each kind of route table, by their ids.
    pub(super) customers: Vec<Box<[u8]>>,
}

impl KnownHosts {
    /// Returns the names, in lower case.
    pub fn names(&self) -> &Arc<HashSet<String>> {
        &self.names
    }

    /// Returns `true` for a host, in lower case, that the gateway serves in place of Citrix.
    pub fn contains(&self, host: &str) -> bool {
        self.names.contains(host)
    }
}
