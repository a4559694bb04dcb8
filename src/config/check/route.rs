//! `[[route]]`: path prefixes and where they lead.

use std::cmp::Reverse;

use super::built_in::BuiltIn;
use super::citrix::SCHEMES;
use super::{Report, file, url};
use crate::citrix::AuthorizationScheme;
use crate::config::value::{Checked, Leaf};
use crate::config::{Destination, Route, Target};

/// The whole table: the configured routes and `/`, longest prefix first, then the built-in ones that none of them
/// replaces.
pub(super) fn check(written: &[file::Route], built_in: BuiltIn, report: &mut Report<'_>) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for route in written {
        let Some(mut read) = check_route(route, report) else { continue };
        read.any_case = built_in.has(&read.prefix);
        let same = |other: &Route| {
            other.prefix == read.prefix || read.any_case && other.prefix.eq_ignore_ascii_case(&read.prefix)
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
    routes.sort_by_cached_key(|route| (later(route), Reverse(route.prefix.len()), route.prefix.clone()));
    routes
}

fn check_route(route: &file::Route, report: &mut Report<'_>) -> Option<Route> {
    const PREFIX: &str = "\"/reports\"";
    const UPSTREAM: &str = "\"https://reports.example.cloud.com/api\"";
    let instead = "leave it out; each request goes to Citrix at once";
    report.refuse(&route.max_concurrent, instead);
    report.refuse(&route.queue_timeout, instead);
    for (leaf, what, example) in [
        (&route.prefix, "missing: the beginning of the paths this route is for", PREFIX),
        (&route.upstream, "missing: where the requests go", UPSTREAM),
    ] {
        if leaf.value.is_none() {
            report.missing(leaf, what, example);
        }
    }
    let prefix = report.read(&route.prefix, PREFIX, prefix);
    let upstream = report.read(&route.upstream, UPSTREAM, |leaf| url::upstream(leaf.text()?));
    let strip_prefix = report.switch(&route.strip_prefix, true);
    let rewrite_links = report.switch(&route.rewrite_links, false);
    let authorization = report.choice(&route.authorization, &SCHEMES).unwrap_or(AuthorizationScheme::Cws);
    let prefix = prefix?;
    let route = Route::plain(prefix, Target::Fixed(Destination { url: upstream?, authorization }));
    Some(Route { strip_prefix: strip_prefix && route.strip_prefix, rewrite_links, ..route })
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
    if !text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '%' | '\\')) {
        return wrong("only visible ASCII characters other than ? # % \\ may be in it");
    }
    if text.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
        return wrong("it must not have empty or dot segments");
    }
    Ok(text.to_owned())
}
