//! What Citrix said of customers whose data is in another region: for an hour, requests go there at once.
//!
//! A 307 tells where one path has moved to (contract §1.6). What it has in common with the old one at the end, in
//! whole segments, is taken for the part that stays: old prefix → new base (interface §4.4).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use http::uri::{InvalidUri, PathAndQuery};
use tokio::time::Instant;

use crate::config::UpstreamUrl;
use crate::upstream::origin::Origin;
use citrix_wire::path;

/// How long a move is remembered.
const REMEMBERED: Duration = Duration::from_hours(1);
/// Moves that are remembered of one customer; a new one then takes the place of the oldest.
const MAX_MOVES: usize = 64;
/// The longest prefix, and base, that is remembered; Citrix's are a few dozen bytes.
const MAX_LENGTH: usize = 512;

/// The moves of all customers, shared by all workers. Reading is one atomic load, and a look-up only where a
/// customer moved at all.
#[derive(Default)]
pub struct Regions(ArcSwap<HashMap<HeaderValue, Vec<Arc<Relocation>>>>);

/// Where a customer's requests below a prefix went, and where they go now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// The customer's id, as it is configured.
    pub customer: HeaderValue,
    /// The old address: a gateway and the prefix.
    pub from: UpstreamUrl,
    /// The new one: a gateway and the base that stands for the prefix there.
    pub to: UpstreamUrl,
    /// Whether Citrix has confirmed what was concluded from one redirect: then a 404 there is Citrix's own.
    pub confirmed: bool,
    /// When it is forgotten.
    pub until: Instant,
}

/// A request's old path, or the new one, and on which gateway.
#[derive(Clone, Copy)]
pub struct OriginPath<'a> {
    /// The gateway.
    pub origin: &'a Origin,
    /// The path.
    pub path: &'a str,
}

impl Relocation {
    /// What a redirect from `old` to `new` tells. Of the old path the first `fixed` bytes (the base path of its
    /// gateway) and the service's segment after them always belong to the prefix: what was said of one service
    /// is not true of the others. `None` when the two have nothing in common at the end, when nothing moved, and when
    /// prefix or base is too long to be one.
    pub fn from_redirect(
        customer: &HeaderValue,
        old: OriginPath<'_>,
        fixed: usize,
        new: OriginPath<'_>,
        now: Instant,
    ) -> Option<Self> {
        let (prefix, base) = before_common_end(old.path, new.path, fixed);
        let fits = prefix.len().max(base.len()) <= MAX_LENGTH;
        let learnt = fits && (prefix.len() < old.path.len() || old.path == new.path);
        let (from, to) = (url(old.origin, prefix), url(new.origin, base));
        let until = now + REMEMBERED;
        (learnt && from != to).then(|| Self {
            customer: customer.clone(),
            from,
            to,
            confirmed: false,
            until,
        })
    }

    /// Whether both lead from the same place to the same place.
    pub fn same_as(&self, other: &Self) -> bool {
        self.from == other.from && self.to == other.to
    }

    /// The new target for an old one below the prefix; all but the prefix stays byte for byte.
    ///
    /// # Errors
    /// When what comes out is no path, which two paths cannot give.
    pub fn target(&self, old: &PathAndQuery) -> Result<PathAndQuery, InvalidUri> {
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

    fn is_from(&self, old: OriginPath<'_>, now: Instant) -> bool {
        now < self.until
            && old.origin.is_of(&self.from)
            && path::covers(&self.from.base_path, old.path)
    }
}

impl Regions {
    /// Where a request went meanwhile: the move with the longest prefix of its path.
    pub fn find(&self, customer: &HeaderValue, old: OriginPath<'_>) -> Option<Arc<Relocation>> {
        let all = self.0.load();
        if all.is_empty() {
            return None;
        }
        let now = Instant::now();
        let fitting = all
            .get(customer)?
            .iter()
            .filter(|each| each.is_from(old, now));
        fitting
            .max_by_key(|each| each.from.base_path.len())
            .cloned()
    }

    /// Remembers a move; one from the same place is replaced.
    pub fn learn(&self, new: Relocation) {
        let now = Instant::now();
        let new = Arc::new(new);
        self.0.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.retain(|_, moves| moves.iter().any(|each| now < each.until));
            let moves = all.entry(new.customer.clone()).or_default();
            moves.retain(|each| now < each.until && each.from != new.from);
            if moves.len() >= MAX_MOVES {
                // The oldest is the first: what is learnt goes to the end.
                moves.remove(0);
            }
            moves.push(Arc::clone(&new));
            all
        });
    }

    /// Forgets a move that proved wrong.
    pub fn forget(&self, wrong: &Relocation) {
        self.0.rcu(|all| {
            let mut all = HashMap::clone(all);
            if let Some(moves) = all.get_mut(&wrong.customer) {
                moves.retain(|each| !each.same_as(wrong));
            }
            all.retain(|_, moves| !moves.is_empty());
            all
        });
    }

    /// All that is remembered, by customer and old address.
    pub fn list(&self) -> Vec<Arc<Relocation>> {
        let now = Instant::now();
        let all = self.0.load();
        let mut list: Vec<_> = all
            .values()
            .flatten()
            .filter(|each| now < each.until)
            .cloned()
            .collect();
        list.sort_by_cached_key(|each| (each.customer.as_bytes().to_vec(), each.from.to_string()));
        list
    }
}

fn url(origin: &Origin, base_path: &str) -> UpstreamUrl {
    UpstreamUrl {
        scheme: origin.scheme.clone(),
        authority: origin.authority.clone(),
        base_path: base_path.to_owned(),
    }
}

/// What stands in each path before the whole segments that both end with. Of `old`, `fixed` bytes and the segment
/// after them are left whatever is common.
fn before_common_end<'a>(old: &'a str, new: &'a str, fixed: usize) -> (&'a str, &'a str) {
    let service = old.get(fixed + 1..).unwrap_or_default();
    let shortest = (fixed + 1 + service.find('/').unwrap_or(service.len())).min(old.len());
    let (mut prefix, mut base) = (old, new);
    while let (Some(cut), Some(new_cut)) = (prefix.rfind('/'), base.rfind('/'))
        && cut >= shortest
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
        let url = UpstreamUrl {
            scheme: Scheme::HTTPS,
            authority: Authority::from_static(host),
            base_path: String::new(),
        };
        Origin::new(0, &url, &crate::upstream::dial::DialConfig::unreachable()).unwrap()
    }

    fn told(old: &str, new: &str) -> Option<Relocation> {
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
    fn what_two_paths_have_in_common_at_the_end_stays() {
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
            // Never the service's own segment.
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
            assert_eq!(before_common_end(old, new, fixed), expected, "{old} {new}");
        }
    }

    #[test]
    fn a_move_takes_along_everything_below_its_prefix_byte_for_byte() {
        let moved = told("/a/x", "/b/c/x").unwrap();
        assert_eq!(
            (moved.from.to_string(), moved.to.to_string()),
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
                moved.target(&PathAndQuery::try_from(old).unwrap()).unwrap(),
                new,
                "{old}"
            );
        }
        let up = told("/a/x", "/x").unwrap();
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
        fn what_is_learnt_leads_the_same_path_where_citrix_said(
            old in "(/[ab]{0,2}){1,5}", new in "(/[ab]{0,2}){1,5}", query in "(\\?[ab/+%]{0,3})?"
        ) {
            if let Some(moved) = told(&old, &new) {
                let target = PathAndQuery::try_from(format!("{old}{query}")).unwrap();
                prop_assert_eq!(moved.target(&target).unwrap().to_string(), format!("{new}{query}"));
                prop_assert!(path::covers(&moved.from.base_path, &old));
            }
        }
    }

    #[test]
    fn nothing_is_learnt_from_paths_without_a_common_end_or_from_a_loop() {
        assert!(told("/a/x", "/b/y").is_none());
        assert!(told("/a", "/b").is_none());
        assert!(told("/a", "/a").is_some());
        let long = "x".repeat(MAX_LENGTH);
        assert!(
            told(&format!("/{long}/x"), "/b/x").is_none()
                && told("/a/x", &format!("/{long}/x")).is_none()
        );
        let here = origin("api.cloud.com");
        let place = OriginPath {
            origin: &here,
            path: "/a/x",
        };
        assert!(Relocation::from_redirect(&ACME, place, 0, place, Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_is_known_for_an_hour_for_its_customer_gateway_and_prefix_alone() {
        let regions = Regions::default();
        assert!(find(&regions, ACME, "/a/x").is_none());
        regions.learn(told("/a/x", "/b/x").unwrap());
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
        tokio::time::advance(REMEMBERED - Duration::from_secs(1)).await;
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
    async fn the_longest_prefix_wins_and_a_new_word_replaces_the_old_one() {
        let regions = Regions::default();
        regions.learn(told("/a/x", "/b/x").unwrap());
        regions.learn(told("/a/x/y", "/c/y").unwrap());
        assert_eq!(find(&regions, ACME, "/a/x/1").unwrap().to.base_path, "/c");
        assert_eq!(find(&regions, ACME, "/a/z").unwrap().to.base_path, "/b");
        regions.learn(told("/a/x", "/d/x").unwrap());
        assert_eq!(
            (
                find(&regions, ACME, "/a/z").unwrap().to.base_path.as_str(),
                regions.list().len()
            ),
            ("/d", 2)
        );
        regions.forget(&told("/a/x", "/d/x").unwrap());
        assert!(find(&regions, ACME, "/a/z").is_none());
        assert_eq!(regions.list().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let regions = Regions::default();
        for number in 0..=MAX_MOVES {
            regions.learn(told(&format!("/a{number}/x"), "/b/x").unwrap());
        }
        assert_eq!(regions.list().len(), MAX_MOVES);
        assert!(find(&regions, ACME, "/a0/x").is_none() && find(&regions, ACME, "/a1/x").is_some());
    }
}
