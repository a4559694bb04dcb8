//! Redirects of customers to other regions, remembered for an hour so that later requests go there
//! directly.
//!
//! A 307 names the new address of one path (contract §1.6). The common suffix of both paths, in
//! whole segments, is assumed to be unchanged, which leaves a mapping from an old prefix to a new
//! base (interface §4.4).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use http::uri::{InvalidUri, PathAndQuery};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::UpstreamUrl;
use crate::upstream::origin::Origin;
use citrix_wire::path;

/// Lifetime of a relocation.
pub(super) const LIFETIME: Duration = Duration::from_hours(1);
/// Maximum number of relocations per customer; a new one evicts the oldest.
pub(super) const MAX_RELOCATIONS: usize = 64;
/// Maximum length of a prefix or base, in bytes; Citrix's have a few dozen.
pub(super) const MAX_PREFIX_LEN: usize = 512;

/// The relocations of all customers, shared by all workers. Without any, a read is one atomic load.
#[derive(Default)]
pub struct Regions {
    all: ArcSwap<HashMap<HeaderValue, Vec<Arc<Relocation>>>>,
    /// A redirect was learnt here.
    learnt: Notify,
}

/// Mapping of a path prefix to another region, for one customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// The customer's id, as configured.
    pub customer: HeaderValue,
    /// The old gateway and prefix.
    pub from: UpstreamUrl,
    /// The new gateway and the base that replaces the prefix.
    pub to: UpstreamUrl,
    /// A second redirect confirmed the mapping, so that a 404 at the new address is genuine.
    pub confirmed: bool,
    /// End of the lifetime.
    pub until: Instant,
}

/// A path on a gateway.
#[derive(Clone, Copy)]
pub struct OriginPath<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) path: &'a str,
}

impl Relocation {
    /// Derives the mapping from a redirect from `old` to `new`. The first `fixed` bytes of the old
    /// path (the base path of its gateway) and the service's segment after them always belong to
    /// the prefix, because a redirect of one service does not apply to others. Returns `None`
    /// without a common suffix, for a redirect to the same address, and if the prefix or base is
    /// longer than [`MAX_PREFIX_LEN`].
    pub(crate) fn from_redirect(
        customer: &HeaderValue,
        old: OriginPath<'_>,
        fixed: usize,
        new: OriginPath<'_>,
        now: Instant,
    ) -> Option<Self> {
        let (prefix, base) = split_common_suffix(old.path, new.path, fixed);
        let fits = prefix.len().max(base.len()) <= MAX_PREFIX_LEN;
        let has_suffix = prefix.len() < old.path.len() || old.path == new.path;
        let (from, to) = (url(old.origin, prefix), url(new.origin, base));
        (fits && has_suffix && from != to).then(|| Self {
            customer: customer.clone(),
            from,
            to,
            confirmed: false,
            until: now + LIFETIME,
        })
    }

    /// Returns `true` if both map the same prefix to the same base.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.from == other.from && self.to == other.to
    }

    /// Returns the new target for an old one below the prefix. Everything after the prefix is
    /// unchanged.
    ///
    /// # Errors
    /// If the result is not a valid path, which cannot happen for two valid paths.
    pub(crate) fn target(&self, old: &PathAndQuery) -> Result<PathAndQuery, InvalidUri> {
        let rest = old
            .as_str()
            .strip_prefix(&*self.from.base_path)
            .unwrap_or_default();
        let slash = if self.to.base_path.is_empty() && !rest.starts_with('/') {
            "/"
        } else {
            ""
        };
        PathAndQuery::try_from(format!("{}{slash}{rest}", self.to.base_path))
    }

    fn applies_to(&self, old: OriginPath<'_>, now: Instant) -> bool {
        now < self.until
            && old.origin.matches(&self.from)
            && path::covers(&self.from.base_path, old.path)
    }
}

impl Regions {
    /// Returns the relocation with the longest prefix of a request's path.
    pub(crate) fn find(
        &self,
        customer: &HeaderValue,
        old: OriginPath<'_>,
    ) -> Option<Arc<Relocation>> {
        let all = self.all.load();
        if all.is_empty() {
            return None;
        }
        let now = Instant::now();
        all.get(customer)?
            .iter()
            .filter(|known| known.applies_to(old, now))
            .max_by_key(|known| known.from.base_path.len())
            .cloned()
    }

    /// Adds a relocation that a redirect proved, for other replicas too.
    pub(crate) fn learn(&self, new: Relocation) {
        self.insert(new);
        self.learnt.notify_one();
    }

    /// Waits until a relocation is learnt here; returns at once if that happened since the last
    /// call.
    pub(super) async fn learnt(&self) {
        self.learnt.notified().await;
    }

    /// Returns the relocations of a customer.
    pub(super) fn of(&self, customer: &HeaderValue) -> Vec<Arc<Relocation>> {
        let now = Instant::now();
        let all = self.all.load();
        let known = all.get(customer).into_iter().flatten();
        known.filter(|known| now < known.until).cloned().collect()
    }

    /// Adds a relocation, in place of one with the same prefix.
    pub(crate) fn insert(&self, new: Relocation) {
        let now = Instant::now();
        let new = Arc::new(new);
        self.all.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.retain(|_, known| known.iter().any(|known| now < known.until));
            let known = all.entry(new.customer.clone()).or_default();
            known.retain(|known| now < known.until && known.from != new.from);
            if known.len() >= MAX_RELOCATIONS {
                // Ordered by age.
                known.remove(0);
            }
            known.push(Arc::clone(&new));
            all
        });
    }

    /// Removes a relocation that proved wrong.
    pub(crate) fn remove(&self, wrong: &Relocation) {
        self.all.rcu(|all| {
            let mut all = HashMap::clone(all);
            if let Some(known) = all.get_mut(&wrong.customer) {
                known.retain(|known| !known.same_as(wrong));
            }
            all.retain(|_, known| !known.is_empty());
            all
        });
    }

    /// Returns all relocations, sorted by customer and old address.
    pub(crate) fn list(&self) -> Vec<Arc<Relocation>> {
        let now = Instant::now();
        let all = self.all.load();
        let mut list: Vec<_> = all
            .values()
            .flatten()
            .filter(|known| now < known.until)
            .cloned()
            .collect();
        list.sort_by_cached_key(|known| {
            (known.customer.as_bytes().to_vec(), known.from.to_string())
        });
        list
    }
}

fn url(origin: &Origin, base_path: &str) -> UpstreamUrl {
    origin.url.with_path(base_path.to_owned())
}

/// Returns both paths without their common suffix of whole segments. The first `fixed` bytes of
/// `old` and the segment after them are always retained.
fn split_common_suffix<'a>(old: &'a str, new: &'a str, fixed: usize) -> (&'a str, &'a str) {
    let service = old.get(fixed + 1..).unwrap_or_default();
    let min_len = (fixed + 1 + service.find('/').unwrap_or(service.len())).min(old.len());
    let (mut prefix, mut base) = (old, new);
    while let (Some(cut), Some(new_cut)) = (prefix.rfind('/'), base.rfind('/'))
        && cut >= min_len
        && prefix[cut..] == base[new_cut..]
    {
        (prefix, base) = (&prefix[..cut], &base[..new_cut]);
    }
    (prefix, base)
}

#[cfg(test)]
mod tests {
    use http::uri::{Authority, Scheme};
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    const ACME: HeaderValue = HeaderValue::from_static("acme");

    fn origin(host: &'static str) -> Origin {
        let authority = Authority::from_static(host);
        let url = UpstreamUrl::new(Scheme::HTTPS, authority, String::new()).unwrap();
        Origin::new(0, &url, &crate::upstream::dial::DialConfig::unreachable())
    }

    fn relocation(old: &str, new: &str) -> Option<Relocation> {
        let (global, eu) = (origin("api.cloud.com"), origin("api-eu.cloud.com"));
        let (old, new) = (
            OriginPath {
                origin: &global,
                path: old,
            },
            OriginPath {
                origin: &eu,
                path: new,
            },
        );
        Relocation::from_redirect(&ACME, old, 0, new, Instant::now())
    }

    fn find(regions: &Regions, customer: HeaderValue, path: &str) -> Option<Arc<Relocation>> {
        regions.find(
            &customer,
            OriginPath {
                origin: &origin("api.cloud.com"),
                path,
            },
        )
    }

    #[test]
    fn common_suffix_of_whole_segments_is_kept() {
        let table = [
            (
                "/accessSecurity/sessionPolicy",
                "/feature-data/sessionPolicy",
                0,
                ("/accessSecurity", "/feature-data"),
            ),
            ("/a/x/1", "/b/c/x/1", 0, ("/a", "/b/c")),
            ("/a/x/1", "/x/1", 0, ("/a", "")),
            ("/a/x/1", "/b/y/1", 0, ("/a/x", "/b/y")),
            ("/a/x/1", "/b/x/11", 0, ("/a/x/1", "/b/x/11")),
            ("/a/x/", "/b/x/", 0, ("/a", "/b")),
            // The service's own segment is retained.
            ("/cvad/manage/me", "/cvad/manage/me", 0, ("/cvad", "/cvad")),
            (
                "/cvad/manage/me",
                "/x/cvad/manage/me",
                0,
                ("/cvad", "/x/cvad"),
            ),
            (
                "/base/cvad/manage/me",
                "/cvad/manage/me",
                5,
                ("/base/cvad", "/cvad"),
            ),
            ("/a", "/b", 0, ("/a", "/b")),
            ("/a", "/a", 0, ("/a", "/a")),
            ("/", "/", 0, ("/", "/")),
            ("/base", "/", 5, ("/base", "/")),
        ];
        for (old, new, fixed, expected) in table {
            assert_eq!(
                split_common_suffix(old, new, fixed),
                expected,
                "{old} {new}"
            );
        }
    }

    #[test]
    fn target_keeps_everything_after_the_prefix_unchanged() {
        let relocated = relocation("/a/x", "/b/c/x").unwrap();
        assert_eq!(
            (relocated.from.to_string(), relocated.to.to_string()),
            (
                "https://api.cloud.com/a".to_owned(),
                "https://api-eu.cloud.com/b/c".to_owned()
            )
        );
        for (old, new) in [
            (
                "/a/x?y=%27+b~&t=#".trim_end_matches('#'),
                "/b/c/x?y=%27+b~&t=",
            ),
            ("/a/$y%2F\\z", "/b/c/$y%2F\\z"),
            ("/a", "/b/c"),
            ("/a?q", "/b/c?q"),
        ] {
            assert_eq!(
                relocated
                    .target(&PathAndQuery::try_from(old).unwrap())
                    .unwrap(),
                new,
                "{old}"
            );
        }
        let up = relocation("/a/x", "/x").unwrap();
        for (old, new) in [("/a", "/"), ("/a?q", "/?q"), ("/a/b", "/b")] {
            assert_eq!(
                up.target(&PathAndQuery::try_from(old).unwrap()).unwrap(),
                new,
                "{old}"
            );
        }
    }

    proptest! {
        #[test]
        fn relocation_maps_its_own_path_to_the_redirect_target(
            old in "(/[ab]{0,2}){1,5}", new in "(/[ab]{0,2}){1,5}", query in "(\\?[ab/+%]{0,3})?"
        ) {
            if let Some(relocated) = relocation(&old, &new) {
                let target = PathAndQuery::try_from(format!("{old}{query}")).unwrap();
                prop_assert_eq!(relocated.target(&target).unwrap().to_string(), format!("{new}{query}"));
                prop_assert!(path::covers(&relocated.from.base_path, &old));
            }
        }
    }

    #[test]
    fn redirect_without_common_suffix_or_to_itself_is_ignored() {
        assert!(relocation("/a/x", "/b/y").is_none());
        assert!(relocation("/a", "/b").is_none());
        assert!(relocation("/a", "/a").is_some());
        let long = "x".repeat(MAX_PREFIX_LEN);
        assert!(
            relocation(&format!("/{long}/x"), "/b/x").is_none()
                && relocation("/a/x", &format!("/{long}/x")).is_none()
        );
        let here = origin("api.cloud.com");
        let address = OriginPath {
            origin: &here,
            path: "/a/x",
        };
        assert!(Relocation::from_redirect(&ACME, address, 0, address, Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn relocation_applies_for_an_hour_to_its_customer_gateway_and_prefix_only() {
        let regions = Regions::default();
        assert!(find(&regions, ACME, "/a/x").is_none());
        regions.insert(relocation("/a/x", "/b/x").unwrap());
        for (path, known) in [
            ("/a/x", true),
            ("/a", true),
            ("/a/y/z", true),
            ("/ab", false),
            ("/A/x", false),
        ] {
            assert_eq!(find(&regions, ACME, path).is_some(), known, "{path}");
        }
        assert!(find(&regions, HeaderValue::from_static("contoso"), "/a/x").is_none());
        assert!(
            regions
                .find(
                    &ACME,
                    OriginPath {
                        origin: &origin("api-eu.cloud.com"),
                        path: "/a/x"
                    }
                )
                .is_none()
        );
        tokio::time::advance(LIFETIME - Duration::from_secs(1)).await;
        assert_eq!(
            (find(&regions, ACME, "/a/x").is_some(), regions.list().len()),
            (true, 1)
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            (find(&regions, ACME, "/a/x").is_some(), regions.list().len()),
            (false, 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn longest_prefix_wins_and_a_newer_redirect_replaces_an_older_one() {
        let regions = Regions::default();
        regions.insert(relocation("/a/x", "/b/x").unwrap());
        regions.insert(relocation("/a/x/y", "/c/y").unwrap());
        assert_eq!(find(&regions, ACME, "/a/x/1").unwrap().to.base_path, "/c");
        assert_eq!(find(&regions, ACME, "/a/z").unwrap().to.base_path, "/b");
        regions.insert(relocation("/a/x", "/d/x").unwrap());
        assert_eq!(
            (
                find(&regions, ACME, "/a/z").unwrap().to.base_path.as_str(),
                regions.list().len()
            ),
            ("/d", 2)
        );
        regions.remove(&relocation("/a/x", "/d/x").unwrap());
        assert!(find(&regions, ACME, "/a/z").is_none());
        assert_eq!(regions.list().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn relocations_per_customer_are_bounded() {
        let regions = Regions::default();
        for number in 0..=MAX_RELOCATIONS {
            regions.insert(relocation(&format!("/a{number}/x"), "/b/x").unwrap());
        }
        assert_eq!(regions.list().len(), MAX_RELOCATIONS);
        assert!(find(&regions, ACME, "/a0/x").is_none() && find(&regions, ACME, "/a1/x").is_some());
    }
}
