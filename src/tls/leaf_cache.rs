//! Certificates of the hosts that `[intercept]` serves, each issued at its first use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::sign::CertifiedKey;

use super::authority::{Authority, IssueError};
use crate::system::clock::Clock;

/// Maximum number of certificates; beyond it, the one that was not used for longest is dropped. The
/// hosts of a thousand customers fit: a client that tries all of them would otherwise have each
/// issued again, which doubles the cost of its handshakes.
const MAX_LEAVES: usize = 2048;
/// Age from which a certificate is replaced; less than its lifetime.
const MAX_AGE: Duration = Duration::from_hours(24 * 3);

/// The issued certificates, shared by all workers.
#[derive(Debug)]
pub struct LeafCache {
    authority: Authority,
    clock: Clock,
    leaves: Mutex<Leaves>,
}

#[derive(Debug, Default)]
struct Leaves {
    by_host: HashMap<Box<str>, Leaf>,
    /// Number of uses so far.
    uses: u64,
}

#[derive(Debug)]
struct Leaf {
    key: Arc<CertifiedKey>,
    issued: SystemTime,
    /// Number of the last use.
    used: u64,
}

impl LeafCache {
    /// Creates an empty cache.
    pub fn new(authority: Authority, clock: Clock) -> Self {
        Self {
            authority,
            clock,
            leaves: Mutex::default(),
        }
    }

    /// Returns the certificate of a host, whose name is in lower case. Two threads may issue one at
    /// the same time; the last is kept.
    ///
    /// # Errors
    /// If the name is not a DNS name, or without randomness.
    pub fn get(&self, host: &str) -> Result<Arc<CertifiedKey>, IssueError> {
        let now = self.clock.now();
        if let Some(known) = self.with_leaves(|leaves| leaves.find(host, now)) {
            return Ok(known);
        }
        let key = Arc::new(self.authority.issue(host, now)?);
        self.with_leaves(|leaves| leaves.add(host, Arc::clone(&key), now));
        Ok(key)
    }

    /// Returns the hosts for which clients reject certificates of the authority.
    pub fn not_permitted<'h>(&self, hosts: impl IntoIterator<Item = &'h String>) -> Vec<&'h str> {
        let hosts = hosts.into_iter().map(String::as_str);
        hosts.filter(|host| !self.authority.permits(host)).collect()
    }

    fn with_leaves<T>(&self, use_leaves: impl FnOnce(&mut Leaves) -> T) -> T {
        // A panic leaves the map in a valid state.
        use_leaves(&mut self.leaves.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Leaves {
    fn find(&mut self, host: &str, now: SystemTime) -> Option<Arc<CertifiedKey>> {
        let leaf = self.by_host.get_mut(host)?;
        // Also after the clock was set back.
        let age = now.duration_since(leaf.issued).ok()?;
        self.uses += 1;
        leaf.used = self.uses;
        (age < MAX_AGE).then(|| Arc::clone(&leaf.key))
    }

    fn add(&mut self, host: &str, key: Arc<CertifiedKey>, issued: SystemTime) {
        if self.by_host.len() >= MAX_LEAVES && !self.by_host.contains_key(host) {
            let oldest = self.by_host.iter().min_by_key(|(_, leaf)| leaf.used);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                self.by_host.remove(&oldest);
            }
        }
        self.uses += 1;
        let used = self.uses;
        self.by_host.insert(host.into(), Leaf { key, issued, used });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::authority::tests::authority;

    fn cache() -> LeafCache {
        LeafCache::new(authority(&["example.net"]), Clock::SYSTEM)
    }

    #[test]
    fn host_gets_the_same_certificate_until_it_is_old() {
        let cache = cache();
        let first = cache.get("a.example.net").unwrap();
        assert!(Arc::ptr_eq(&first, &cache.get("a.example.net").unwrap()));
        assert!(!Arc::ptr_eq(&first, &cache.get("b.example.net").unwrap()));
        let find = |now| cache.with_leaves(|leaves| leaves.find("a.example.net", now));
        let now = Clock::SYSTEM.now();
        assert!(find(now).is_some());
        assert!(find(now + MAX_AGE).is_none());
        assert!(find(now - MAX_AGE).is_none(), "issued in the future");
        assert!(MAX_AGE < crate::tls::authority::LEAF_LIFETIME);
    }

    #[test]
    fn number_of_certificates_is_bounded_and_the_least_recently_used_is_dropped() {
        let cache = cache();
        let first = cache.get("0.example.net").unwrap();
        cache.get("1.example.net").unwrap();
        assert!(Arc::ptr_eq(&first, &cache.get("0.example.net").unwrap()));
        let now = Clock::SYSTEM.now();
        for host in 2..=MAX_LEAVES {
            let host = format!("{host}.example.net");
            cache.with_leaves(|leaves| leaves.add(&host, Arc::clone(&first), now));
        }
        cache.with_leaves(|leaves| {
            assert_eq!(leaves.by_host.len(), MAX_LEAVES);
            assert!(leaves.by_host.contains_key("0.example.net"));
            assert!(!leaves.by_host.contains_key("1.example.net"));
        });
    }

    #[test]
    fn name_that_is_no_dns_name_has_no_certificate() {
        assert!(cache().get("k\u{e4}se.example.net").is_err());
    }
}
