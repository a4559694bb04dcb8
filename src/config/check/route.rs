//! `[[route]]`: path prefixes and where they lead.

use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::built_in::BuiltIn;
use super::citrix::SCHEMES;
use super::{COUNT, QUEUE_TIMEOUT, Report, TIMEOUT, file, url};
use crate::config::value::{Checked, Leaf};
use crate::config::{Quota, Route, RouteLimit, RouteTarget, UpstreamEndpoint};
use citrix_wire::citrix::AuthorizationScheme;

/// The whole table: the configured routes and `/`, longest prefix first, then the built-in ones that none of them
/// replaces.
pub(super) fn check(
    written: &[file::Route],
    built_in: BuiltIn,
    report: &mut Report<'_>,
) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for route in written {
        let Some(mut read) = check_route(route, report) else {
            continue;
        };
        read.ignore_case = built_in.has(&read.prefix);
        let same = |other: &Route| {
            other.prefix == read.prefix
                || read.ignore_case && other.prefix.eq_ignore_ascii_case(&read.prefix)
        };
        if routes.iter().any(same) {
            let what = format!("{} has a route already", route.prefix.shown());
            report.wrong(&route.prefix, what, "\"/reports\"");
        } else {
            routes.push(read);
        }
    }
    built_in.add_to(&mut routes);
    let later = |route: &Route| route.built_in && !route.prefix.is_empty();
    routes.sort_by_cached_key(|route| {
        (
            later(route),
            Reverse(route.prefix.len()),
            route.prefix.clone(),
        )
    });
    routes
}

fn check_route(route: &file::Route, report: &mut Report<'_>) -> Option<Route> {
    const PREFIX: &str = "\"/reports\"";
    const UPSTREAM: &str = "\"https://reports.example.cloud.com/api\"";
    for (leaf, what, example) in [
        (
            &route.prefix,
            "missing: the beginning of the paths this route is for",
            PREFIX,
        ),
        (&route.upstream, "missing: where the requests go", UPSTREAM),
    ] {
        if leaf.value.is_none() {
            report.missing(leaf, what, example);
        }
    }
    let prefix = report.read(&route.prefix, PREFIX, prefix);
    let upstream = report.read(&route.upstream, UPSTREAM, |leaf| {
        url::upstream(leaf.text()?)
    });
    let strip_prefix = report.switch(&route.strip_prefix, true);
    let rewrite_links = report.switch(&route.rewrite_links, false);
    let authorization = report
        .choice(&route.authorization, &SCHEMES)
        .unwrap_or(AuthorizationScheme::Cws);
    let limit = limit(route, report);
    let prefix = prefix?;
    let limit = limit.map(|(allows, queue_timeout)| RouteLimit {
        shared_as: prefix.clone(),
        quota: allows,
        queue_timeout,
    });
    let route = Route::plain(
        prefix,
        RouteTarget::Fixed(UpstreamEndpoint {
            url: upstream?,
            authorization,
        }),
    );
    Some(Route {
        strip_prefix: strip_prefix && route.strip_prefix,
        limit,
        rewrite_links,
        ..route
    })
}

/// How many requests of a customer go at a time, if that is limited, and how long the others wait.
fn limit(route: &file::Route, report: &mut Report<'_>) -> Option<(Quota, Duration)> {
    let queue_timeout = report.duration(&route.queue_timeout, QUEUE_TIMEOUT, TIMEOUT);
    if route.max_concurrent.value.is_none() {
        if route.queue_timeout.value.is_some() {
            let what = "missing: without it nothing waits, and queue_timeout is for nothing";
            report.missing(&route.max_concurrent, what, "1");
        }
        return None;
    }
    let at_once = NonZeroUsize::new(report.whole(&route.max_concurrent, 1, COUNT))?;
    Some((Quota::AtOnce(at_once), queue_timeout))
}

/// A prefix that a request's path can be compared with byte for byte.
fn prefix(leaf: &Leaf) -> Checked<String> {
    let text = leaf.text()?;
    let wrong = |why: &str| Err(format!("{} is not a path prefix: {why}", leaf.shown()));
    if text == "/" {
        return Ok(String::new());
    }
    if !text.starts_with('/') {
        return wrong("it must begin with a slash");
    }
    if text.ends_with('/') {
        return wrong("it must not end with a slash");
    }
    if !text
        .chars()
        .all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '%' | '\\'))
    {
        return wrong("only visible ASCII characters other than ? # % \\ may be in it");
    }
    if text
        .split('/')
        .skip(1)
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return wrong("it must not have empty or dot segments");
    }
    Ok(text.to_owned())
}
