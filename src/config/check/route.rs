//! `[[route]]`.

use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::built_in::BuiltInRoutes;
use super::citrix::SCHEMES;
use super::{COUNT, QUEUE_TIMEOUT, Report, TIMEOUT, url};
use crate::config::raw::RawRoute;
use crate::config::value::{Checked, Leaf};
use crate::config::{Quota, RouteLimit, RouteSettings, RouteTarget, UpstreamEndpoint};
use citrix_wire::citrix::AuthorizationScheme;

const PREFIX: &str = "\"/reports\"";
const UPSTREAM: &str = "\"https://reports.example.cloud.com/api\"";

/// Returns the configured routes and `/`, longest prefix first, then the built-in routes that they
/// do not replace.
pub(super) fn check_routes(
    raw: &[RawRoute],
    built_in: BuiltInRoutes,
    report: &mut Report<'_>,
) -> Vec<RouteSettings> {
    let mut routes: Vec<RouteSettings> = Vec::new();
    for block in raw {
        let Some(mut route) = check_route(block, report) else {
            continue;
        };
        route.ignore_case = built_in.has(&route.prefix);
        let is_same = |other: &RouteSettings| {
            other.prefix == route.prefix
                || route.ignore_case && other.prefix.eq_ignore_ascii_case(&route.prefix)
        };
        if routes.iter().any(is_same) {
            let problem = format!("duplicate prefix {}", block.prefix.shown());
            report.add(&block.prefix.path, problem);
        } else {
            routes.push(route);
        }
    }
    built_in.add_to(&mut routes);
    let is_later = |route: &RouteSettings| route.built_in && !route.prefix.is_empty();
    routes.sort_by_cached_key(|route| {
        (
            is_later(route),
            Reverse(route.prefix.len()),
            route.prefix.clone(),
        )
    });
    routes
}

fn check_route(raw: &RawRoute, report: &mut Report<'_>) -> Option<RouteSettings> {
    report.require(&raw.prefix, "the path prefix of the route", PREFIX);
    report.require(&raw.upstream, "the URL to forward to", UPSTREAM);
    let prefix = report.read(&raw.prefix, PREFIX, prefix);
    let upstream = report.read(&raw.upstream, UPSTREAM, |leaf| url::upstream(leaf.text()?));
    let strip_prefix = report.boolean(&raw.strip_prefix, true);
    let rewrite_links = report.boolean(&raw.rewrite_links, false);
    let collapse = report.boolean(&raw.collapse, false);
    if collapse {
        report.require(&raw.max_concurrent, "required by collapse", "1");
    }
    let authorization = report
        .choice(&raw.authorization, &SCHEMES)
        .unwrap_or(AuthorizationScheme::Cws);
    let limit = limit(raw, report);
    let prefix = prefix?;
    let limit = limit.map(|(quota, queue_timeout)| RouteLimit {
        shared_as: prefix.clone(),
        quota,
        queue_timeout,
    });
    let endpoint = UpstreamEndpoint {
        url: upstream?,
        authorization,
    };
    let route = RouteSettings::plain(prefix, RouteTarget::Fixed(endpoint));
    Some(RouteSettings {
        strip_prefix: strip_prefix && route.strip_prefix,
        limit,
        rewrite_links,
        collapse,
        ..route
    })
}

/// Returns `max_concurrent` and `queue_timeout`, if the former is set.
fn limit(raw: &RawRoute, report: &mut Report<'_>) -> Option<(Quota, Duration)> {
    let queue_timeout = report.duration(&raw.queue_timeout, QUEUE_TIMEOUT, TIMEOUT);
    if raw.queue_timeout.value.is_some() {
        report.require(&raw.max_concurrent, "required by queue_timeout", "1");
    }
    raw.max_concurrent.value.as_ref()?;
    let count = NonZeroUsize::new(report.integer(&raw.max_concurrent, 1, COUNT))?;
    Some((Quota::AtOnce(count), queue_timeout))
}

/// Parses a prefix that can be compared with a request path byte by byte.
fn prefix(leaf: &Leaf) -> Checked<String> {
    let text = leaf.text()?;
    if text == "/" {
        return Ok(String::new());
    }
    let invalid = |reason: &str| Err(format!("invalid path prefix {}: {reason}", leaf.shown()));
    if !text.starts_with('/') {
        return invalid("a leading slash is required");
    }
    if text.ends_with('/') {
        return invalid("a trailing slash is not permitted");
    }
    let is_allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '%' | '\\');
    if !text.chars().all(is_allowed) {
        return invalid("use visible ASCII without ? # % \\");
    }
    let mut segments = text.split('/').skip(1);
    if segments.any(|segment| matches!(segment, "" | "." | "..")) {
        return invalid("empty and dot segments are not permitted");
    }
    Ok(text.to_owned())
}
