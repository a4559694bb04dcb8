//! Scope of cookies: `Domain` and `Path` of `Set-Cookie` (RFC 6265 section 5.2), which name the
//! upstream's host and paths.

use http::HeaderMap;
use http::header::SET_COOKIE;

use super::LinkRewriter;
use super::headers::rewrite_each;
use crate::path::covers;

/// The paths of one route, at the gateway and at its upstream.
#[derive(Clone, Copy, Debug)]
pub struct CookieScope<'a> {
    /// Path of the request as the caller wrote it.
    pub request_path: &'a str,
    /// The route's prefix as the caller wrote it, without a trailing slash.
    pub prefix: &'a str,
    /// The path at the upstream to which `prefix` leads, without a trailing slash.
    pub upstream_path: &'a str,
}

/// Rewrites all `Set-Cookie` fields, so that the caller returns each cookie on the requests for
/// which the upstream meant it: a `Domain` that covers a known host is removed, and `Path` becomes
/// the corresponding path of the gateway. Cookies with the prefix `__Host-` are unchanged, since
/// clients accept them with `Path=/` only.
pub fn rewrite_cookies(links: &LinkRewriter, scope: CookieScope<'_>, headers: &mut HeaderMap) {
    rewrite_each(headers, &SET_COOKIE, |value| cookie(links, scope, value));
}

/// Returns the new field value, or `None` if nothing changes.
fn cookie(links: &LinkRewriter, scope: CookieScope<'_>, value: &[u8]) -> Option<Vec<u8>> {
    let mut parts = value.split(|&byte| byte == b';');
    let pair = parts.next()?;
    if pair.trim_ascii_start().starts_with(b"__Host-") {
        return None;
    }
    let mut out = pair.to_vec();
    let mut has_path = false;
    for part in parts {
        let text = str::from_utf8(part).unwrap_or_default();
        match Attribute::parse(text) {
            Some(Attribute::Domain(domain)) if links.is_known_domain(domain) => continue,
            Some(Attribute::Path(path)) => {
                has_path = true;
                // Nothing before the path has a slash.
                let rewritten = text.replacen(path, &links.cookie_path(scope, path), 1);
                out.push(b';');
                out.extend_from_slice(rewritten.as_bytes());
            }
            _ => {
                out.push(b';');
                out.extend_from_slice(part);
            }
        }
    }
    // The default path of such a request is `/`, which all routes share (RFC 6265 section 5.1.4).
    if !has_path && !scope.prefix.is_empty() && scope.request_path == scope.prefix {
        let path = links.cookie_path(scope, scope.upstream_path);
        out.extend_from_slice(b"; Path=");
        out.extend_from_slice(path.as_bytes());
    }
    (out != value).then_some(out)
}

/// An attribute of interest, without quotes, which older servers write.
enum Attribute<'a> {
    Domain(&'a str),
    /// An absolute path; clients ignore any other.
    Path(&'a str),
}

impl<'a> Attribute<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (name, value) = text.split_once('=')?;
        let value = value.trim();
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        match name.trim() {
            name if name.eq_ignore_ascii_case("domain") => Some(Self::Domain(value)),
            name if name.eq_ignore_ascii_case("path") && value.starts_with('/') => {
                Some(Self::Path(value))
            }
            _ => None,
        }
    }
}

impl LinkRewriter {
    /// Returns the path at the gateway for a cookie with this path at the upstream.
    ///
    /// A path within the route's stays relative to it. One above it becomes the route's prefix, or
    /// its own path at the gateway if that is above the prefix too and not shared with other
    /// upstreams. One beside it is that of the route which forwards there; without one the prefix is
    /// prepended, which keeps the cookie from other upstreams.
    fn cookie_path(&self, scope: CookieScope<'_>, path: &str) -> String {
        let CookieScope {
            prefix,
            upstream_path,
            ..
        } = scope;
        let trimmed = path.trim_end_matches('/');
        let of_route = if covers(upstream_path, path) && !trimmed.is_empty() {
            Some(format!("{prefix}{}", &path[upstream_path.len()..]))
        } else if trimmed == upstream_path {
            Some(prefix.to_owned())
        } else {
            None
        };
        let found = of_route.unwrap_or_else(|| {
            let elsewhere = self.gateway_path(path);
            if covers(trimmed, upstream_path) {
                let is_own = |path: &String| {
                    let path = path.trim_end_matches('/');
                    covers(path, prefix) && (!path.is_empty() || prefix == upstream_path)
                };
                elsewhere
                    .filter(is_own)
                    .unwrap_or_else(|| prefix.to_owned())
            } else {
                elsewhere.unwrap_or_else(|| format!("{prefix}{path}"))
            }
        });
        let absolute = format!("{}{found}", self.base_path());
        if absolute.is_empty() {
            "/".to_owned()
        } else {
            absolute
        }
    }
}
