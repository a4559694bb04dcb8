//! Which origins are known, and what leads back to them: the route table, read backwards.

use std::collections::HashMap;
use std::rc::Rc;

use crate::host::Authority;
use crate::path;

/// Hosts whose URLs are names, not places: they stay as they are (interface §4.2, contract §5).
const IDENTIFIERS: [&str; 2] = ["errors-api.cloud.com", "identifiers-api.cloud.com"];

/// A route, as far as links are concerned. A family of routes (`/classic/{service}`) is one of these for each
/// name in it: the names are a closed set anyway, so that no caller can choose a host.
#[derive(Clone, Copy, Debug)]
pub struct LinkRoute<'a> {
    /// The prefix at the gateway, without a slash at the end; the empty one covers everything.
    pub prefix: &'a str,
    /// Whether the prefix is taken off on the way up.
    pub strip_prefix: bool,
    /// Host and, unless it is the scheme's own, port of the upstream.
    pub upstream: &'a str,
    /// The path that is put in front of the rest on the way up, without a slash at the end.
    pub base_path: &'a str,
}

/// Everything known about links, built once from the route table.
///
/// A link is rewritten only if the routes lead it back to where it pointed: one whose place at the gateway
/// belongs to another route stays as it is and counts as unknown.
///
/// Origins are told apart by host and port. The scheme says nothing, and neither do the ports 80 and 443: a service
/// behind a TLS terminator writes `http://` or `:443` as it happens to know itself.
#[derive(Debug, Default)]
pub struct LinkMap {
    origins: HashMap<Origin, usize>,
    identifiers: Vec<Origin>,
    /// The longest path first, as the most specific wins, then the shortest prefix: to the API host leads `/`,
    /// though `/region/eu` may lead there, too.
    targets: Vec<Target>,
}

/// Where a path of an upstream is found at the gateway.
#[derive(Debug)]
struct Target {
    origin: usize,
    /// The path at the upstream that `prefix` stands for.
    path: String,
    prefix: String,
}

/// A host in lower case, and a port unless it is 80 or 443.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Origin {
    host: String,
    port: Option<u16>,
}

/// A change to the beginning of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// How many bytes go.
    pub remove: usize,
    /// What comes in their place.
    pub insert: String,
}

/// What is to be done with a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOutcome {
    /// It points where a route leads.
    Rewrite(Splice),
    /// It points where no route leads, and stays as it is.
    Unknown,
    /// It is no URL of a host, or an identifier, or leads to the right place as it is.
    NotALink,
}

impl LinkMap {
    /// Reads the route table. `aliases` are further names of an upstream's host (each with the one in the table): a
    /// link to the public name of the chosen cloud leads to `api_url`. Names that cannot be read are left out.
    pub fn new<'a>(
        routes: impl IntoIterator<Item = LinkRoute<'a>>,
        aliases: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let identifiers = IDENTIFIERS.into_iter().filter_map(Origin::parse).collect();
        let mut map = Self {
            identifiers,
            ..Self::default()
        };
        for route in routes {
            let Some(origin) = Origin::parse(route.upstream) else {
                continue;
            };
            let next = map.origins.len();
            let origin = *map.origins.entry(origin).or_insert(next);
            let kept = if route.strip_prefix { "" } else { route.prefix };
            let path = format!("{}{kept}", route.base_path);
            map.targets.push(Target {
                origin,
                path,
                prefix: route.prefix.to_owned(),
            });
        }
        for (alias, known) in aliases {
            let known = Origin::parse(known).and_then(|known| map.origins.get(&known).copied());
            if let (Some(alias), Some(known)) = (Origin::parse(alias), known) {
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

    /// The target that stands for `path` at an origin, and from which the routes lead back there.
    fn target(&self, origin: usize, path: &str) -> Option<&Target> {
        self.targets
            .iter()
            .filter(|target| target.origin == origin && path::covers(&target.path, path))
            .find(|target| !self.is_shadowed(target, &path[target.path.len()..]))
    }

    /// Whether a route with a longer prefix takes requests for `target.prefix` + `rest` somewhere else.
    fn is_shadowed(&self, target: &Target, rest: &str) -> bool {
        let here = format!("{}{rest}", target.prefix);
        let there = format!("{}{rest}", target.path);
        self.targets
            .iter()
            .filter(|other| {
                other.prefix.len() > target.prefix.len() && path::covers(&other.prefix, &here)
            })
            .max_by_key(|other| other.prefix.len())
            .is_some_and(|winner| {
                let same = winner.origin == target.origin
                    && there.strip_prefix(&*winner.path) == Some(&here[winner.prefix.len()..]);
                !same
            })
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let authority = Authority::parse(text).ok()?;
        let host = authority.host();
        let port = text[host.len()..]
            .strip_prefix(':')
            .and_then(|port| port.parse().ok());
        let port = port.filter(|port| !matches!(port, 80 | 443));
        Some(Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

/// The links of one answer: what is known, where the caller reaches the gateway, and who answers.
#[derive(Clone, Debug)]
pub struct LinkRewriter {
    map: Rc<LinkMap>,
    base: String,
    answering: Option<usize>,
}

impl LinkRewriter {
    /// `base` is the gateway as this caller sees it, such as `https://gw.example.net`: `public_url`, else scheme and
    /// `Host` of the request, read as an authority so that it has neither quotes nor backslashes. `upstream` is host and port of who answers, for links that leave out the host.
    pub fn new(map: Rc<LinkMap>, base: &str, upstream: &str) -> Self {
        let answering =
            Origin::parse(upstream).and_then(|origin| map.origins.get(&origin).copied());
        Self {
            map,
            base: base.trim_end_matches('/').to_owned(),
            answering,
        }
    }

    /// What is to be done with `link`, a URL without any escapes but its own.
    ///
    /// A link that leaves out the host (`/jobs/1`) is one to who answers. It changes where the route's prefix was taken
    /// off on the way up, and stays without a host. One that is relative to the request's path is right already.
    pub fn rewrite(&self, link: &[u8]) -> LinkOutcome {
        let Some(parts) = Parts::of(link) else {
            return LinkOutcome::NotALink;
        };
        let origin = match parts.authority {
            Some(authority) => {
                let Some(origin) = Origin::parse(authority) else {
                    return LinkOutcome::Unknown;
                };
                if self.map.identifiers.contains(&origin) {
                    return LinkOutcome::NotALink;
                }
                self.map.origins.get(&origin).copied()
            }
            None => self.answering,
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

    /// The path of `base`, which is there when the gateway itself lies below a path of another proxy.
    fn base_path(&self) -> &str {
        let after_scheme = self.base.find("://").map_or(0, |at| at + 3);
        self.base[after_scheme..]
            .find('/')
            .map_or("", |at| &self.base[after_scheme + at..])
    }
}

/// A URL taken apart, as far as needed (RFC 3986 section 3).
struct Parts<'a> {
    /// `None` for a reference that begins with a single slash.
    authority: Option<&'a str>,
    path: &'a str,
    path_at: usize,
}

impl<'a> Parts<'a> {
    /// `None` for what is neither an `http` or `https` URL, nor a reference that begins with a slash.
    fn of(link: &'a [u8]) -> Option<Self> {
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
        // A byte that is not ASCII is in no prefix: what comes before it decides.
        let path = &link[path_at..end_of(link, path_at, b"?#")];
        let path = path.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        Some(Self {
            authority,
            path,
            path_at,
        })
    }
}

/// Where the first of `stops` is, from `start` on, else where the text ends.
fn end_of(text: &[u8], start: usize, stops: &[u8]) -> usize {
    text[start..]
        .iter()
        .position(|byte| stops.contains(byte))
        .map_or(text.len(), |at| start + at)
}
