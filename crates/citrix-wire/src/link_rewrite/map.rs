//! The route table in reverse: the path at the gateway for a URL of an upstream.

use std::collections::HashMap;
use std::rc::Rc;

use crate::host::Authority;
use crate::path;

/// Hosts whose URLs are identifiers and never rewritten (interface §4.2, contract §5).
const IDENTIFIERS: [&str; 2] = ["errors-api.cloud.com", "identifiers-api.cloud.com"];

/// The part of a route that matters for links. `/classic/{service}` becomes one route per service,
/// since its names are a closed set.
#[derive(Clone, Copy, Debug)]
pub struct LinkRoute<'a> {
    /// Prefix at the gateway, without a trailing slash; the empty prefix covers everything.
    pub prefix: &'a str,
    /// The prefix is stripped from forwarded requests.
    pub strip_prefix: bool,
    /// Host of the upstream, with its port unless that is the scheme's default.
    pub upstream: &'a str,
    /// Path prepended to forwarded requests, without a trailing slash.
    pub base_path: &'a str,
}

/// The reversed route table.
///
/// A link is rewritten only if the routes forward the new URL to where the link pointed. A link
/// whose new path belongs to another route is unchanged and counts as unknown.
///
/// Origins are equal if host and port are. The scheme and the ports 80 and 443 are ignored: a
/// service behind a TLS terminator may write `http://` or `:443`.
#[derive(Debug, Default)]
pub struct LinkMap {
    origins: HashMap<LinkOrigin, usize>,
    identifiers: Vec<LinkOrigin>,
    /// Ordered by descending path length, so that the most specific wins, then by ascending prefix
    /// length: `/` is preferred to `/region/eu` if both route to the API host.
    targets: Vec<LinkTarget>,
}

/// A path at an upstream and the corresponding prefix at the gateway.
#[derive(Debug)]
struct LinkTarget {
    origin: usize,
    /// Path at the upstream.
    path: String,
    prefix: String,
}

/// A host in lower case, with its port unless that is 80 or 443.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LinkOrigin {
    host: String,
    port: Option<u16>,
}

/// A replacement of the beginning of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Number of bytes to remove.
    pub remove: usize,
    /// Text to insert in their place.
    pub insert: String,
}

/// The treatment of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOutcome {
    /// A route forwards to its URL.
    Rewrite(Splice),
    /// No route forwards to its URL; unchanged.
    Unknown,
    /// No URL with a host, an identifier, or correct as it is; unchanged.
    NotALink,
}

impl LinkMap {
    /// Reverses a route table. `aliases` map further host names to those in the table: links to the
    /// public host of the cloud are treated like links to `api_url`. Invalid hosts are ignored.
    pub fn new<'a>(
        routes: impl IntoIterator<Item = LinkRoute<'a>>,
        aliases: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let identifiers = IDENTIFIERS
            .into_iter()
            .filter_map(LinkOrigin::parse)
            .collect();
        let mut map = Self {
            identifiers,
            ..Self::default()
        };
        for route in routes {
            let Some(origin) = LinkOrigin::parse(route.upstream) else {
                continue;
            };
            let next = map.origins.len();
            let origin = *map.origins.entry(origin).or_insert(next);
            let kept = if route.strip_prefix { "" } else { route.prefix };
            let path = format!("{}{kept}", route.base_path);
            map.targets.push(LinkTarget {
                origin,
                path,
                prefix: route.prefix.to_owned(),
            });
        }
        for (alias, known) in aliases {
            let known = LinkOrigin::parse(known).and_then(|known| map.origins.get(&known).copied());
            if let (Some(alias), Some(known)) = (LinkOrigin::parse(alias), known) {
                map.origins.entry(alias).or_insert(known);
            }
        }
        map.targets.sort_by(|a, b| {
            b.path
                .len()
                .cmp(&a.path.len())
                .then_with(|| a.prefix.len().cmp(&b.prefix.len()))
        });
        map
    }

    /// Returns the hosts of the table, in lower case, that have the default port of their scheme.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let origins = self.origins.keys();
        let origins = origins.filter(|origin| origin.port.is_none());
        origins.map(|origin| origin.host.as_str())
    }

    /// Returns the path at the gateway of `path` at an upstream, if a route leads there.
    pub fn path_at_gateway(&self, upstream: &str, path: &str) -> Option<String> {
        let origin = self.origins.get(&LinkOrigin::parse(upstream)?)?;
        let target = self.target(*origin, path)?;
        Some(format!("{}{}", target.prefix, &path[target.path.len()..]))
    }

    /// Returns the target for `path` at an origin whose new URL the routes forward back there.
    fn target(&self, origin: usize, path: &str) -> Option<&LinkTarget> {
        self.targets
            .iter()
            .filter(|target| target.origin == origin && path::covers(&target.path, path))
            .find(|target| !self.is_shadowed(target, &path[target.path.len()..]))
    }

    /// Returns `true` if a route with a longer prefix forwards `target.prefix` + `rest` elsewhere.
    fn is_shadowed(&self, target: &LinkTarget, rest: &str) -> bool {
        let here = format!("{}{rest}", target.prefix);
        let there = format!("{}{rest}", target.path);
        let longer = self.targets.iter().filter(|other| {
            other.prefix.len() > target.prefix.len() && path::covers(&other.prefix, &here)
        });
        let Some(longest) = longer.clone().map(|other| other.prefix.len()).max() else {
            return false;
        };
        // Several origins may have one prefix: the upstream of a route, and one that it replaces.
        !longer
            .filter(|other| other.prefix.len() == longest)
            .any(|winner| {
                winner.origin == target.origin
                    && there.strip_prefix(&*winner.path) == Some(&here[winner.prefix.len()..])
            })
    }
}

impl LinkOrigin {
    fn parse(text: &str) -> Option<Self> {
        let authority = Authority::parse(text).ok()?;
        Some(Self {
            host: authority.host().to_ascii_lowercase(),
            port: authority.port().filter(|port| !matches!(port, 80 | 443)),
        })
    }
}

/// Rewrites the links of one response.
#[derive(Clone, Debug)]
pub struct LinkRewriter {
    map: Rc<LinkMap>,
    /// URL of the gateway for this caller, without a trailing slash.
    base: String,
    /// Origin of the response.
    sender: Option<usize>,
}

impl LinkRewriter {
    /// Creates a rewriter. `base` is the gateway's URL for the caller, `https://gw.example.net`:
    /// `public_url`, or scheme and `Host` of the request, a parsed authority without quotes or
    /// backslashes. `upstream` is host and port of the response's sender, for links without a host.
    pub fn new(map: Rc<LinkMap>, base: &str, upstream: &str) -> Self {
        let sender =
            LinkOrigin::parse(upstream).and_then(|origin| map.origins.get(&origin).copied());
        Self {
            map,
            base: base.trim_end_matches('/').to_owned(),
            sender,
        }
    }

    /// Returns the treatment of `link`, a URL without JSON escapes.
    ///
    /// A link without a host (`/jobs/1`) refers to the sender. It is rewritten if the route strips
    /// its prefix, and stays without a host. A link relative to the request's path needs no change.
    pub fn rewrite(&self, link: &[u8]) -> LinkOutcome {
        let Some(parts) = UrlParts::parse(link) else {
            return LinkOutcome::NotALink;
        };
        let origin = match parts.authority {
            Some(authority) => {
                let Some(origin) = LinkOrigin::parse(authority) else {
                    return LinkOutcome::Unknown;
                };
                if self.map.identifiers.contains(&origin) {
                    return LinkOutcome::NotALink;
                }
                self.map.origins.get(&origin).copied()
            }
            None => self.sender,
        };
        let target = origin.and_then(|origin| self.map.target(origin, parts.path));
        match (target, parts.authority) {
            (Some(target), Some(_)) => {
                let remove = parts.path_at + target.path.len();
                LinkOutcome::Rewrite(Splice {
                    remove,
                    insert: format!("{}{}", self.base, target.prefix),
                })
            }
            (Some(target), None) => {
                let insert = format!("{}{}", self.base_path(), target.prefix);
                if insert == target.path {
                    return LinkOutcome::NotALink;
                }
                LinkOutcome::Rewrite(Splice {
                    remove: target.path.len(),
                    insert,
                })
            }
            (None, Some(_)) => LinkOutcome::Unknown,
            (None, None) => LinkOutcome::NotALink,
        }
    }

    /// Returns the gateway's path for `path` at the sender, if a route forwards there.
    pub(super) fn gateway_path(&self, path: &str) -> Option<String> {
        let target = self.map.target(self.sender?, path)?;
        Some(format!("{}{}", target.prefix, &path[target.path.len()..]))
    }

    /// Returns `true` if a cookie's `Domain` is a known host or a domain above one (RFC 6265
    /// section 5.1.3).
    pub(super) fn is_known_domain(&self, domain: &str) -> bool {
        let domain = domain
            .strip_prefix('.')
            .unwrap_or(domain)
            .to_ascii_lowercase();
        let above = |host: &str| {
            domain.contains('.')
                && host
                    .strip_suffix(&*domain)
                    .is_some_and(|rest| rest.ends_with('.'))
        };
        self.map
            .origins
            .keys()
            .any(|origin| origin.host == domain || above(&origin.host))
    }

    /// Returns the path of `base`, present if another proxy serves the gateway below a path.
    pub(super) fn base_path(&self) -> &str {
        let after_scheme = self.base.find("://").map_or(0, |at| at + 3);
        self.base[after_scheme..]
            .find('/')
            .map_or("", |at| &self.base[after_scheme + at..])
    }
}

/// Authority and path of a URL (RFC 3986 section 3).
struct UrlParts<'a> {
    /// `None` for a reference that begins with a single slash.
    authority: Option<&'a str>,
    path: &'a str,
    path_at: usize,
}

impl<'a> UrlParts<'a> {
    /// Splits an `http` or `https` URL, or a reference that begins with a slash; `None` for
    /// anything else.
    fn parse(link: &'a [u8]) -> Option<Self> {
        let scheme = [&b"https:"[..], b"http:"].into_iter().find(|scheme| {
            link.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        let after_scheme = scheme.map_or(0, <[u8]>::len);
        let (authority, path_at) = if link[after_scheme..].starts_with(b"//") {
            let start = after_scheme + 2;
            let end = end_of(link, start, b"/?#");
            (Some(str::from_utf8(&link[start..end]).ok()?), end)
        } else if scheme.is_none() && link.starts_with(b"/") {
            (None, 0)
        } else {
            return None;
        };
        // Prefixes are ASCII, so that the part before invalid UTF-8 suffices.
        let path = &link[path_at..end_of(link, path_at, b"?#")];
        let path = path.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        Some(Self {
            authority,
            path,
            path_at,
        })
    }
}

/// Returns the offset of the first of `stops` from `start` on, else the length of the text.
fn end_of(text: &[u8], start: usize, stops: &[u8]) -> usize {
    text[start..]
        .iter()
        .position(|byte| stops.contains(byte))
        .map_or(text.len(), |at| start + at)
}
