//! Batches (`POST …/$batch`, contract §5): each item is evaluated like a request of its own.

use http::uri::PathAndQuery;

use super::path::{Ambiguous, ParsedPath, evaluate, segments};
use super::{Decision, Rules};
use crate::citrix::batch::BatchItem;
use crate::citrix::headers::customer_in_service_path;
use crate::citrix::legacy;
use crate::path_readings::PathReadings;

/// Maximum length of a batch's base in bytes, since it is prepended to each item. Citrix's have
/// about a hundred.
pub const MAX_BASE_LENGTH: usize = 512;

/// Returns the path that the items of a batch are relative to: `/cvad/manage` for
/// `/cvad/manage/$batch`, case-insensitive, with or without escapes. `None` if the path is not that
/// of a batch, or ambiguous.
pub fn batch_base(path: &str) -> Option<&str> {
    if !is_batch(&evaluate(path).ok()?) {
        return None;
    }
    // An unambiguous path has no escaped slash.
    let path = path.strip_suffix('/').unwrap_or(path);
    path.rfind('/').map(|end| &path[..end])
}

/// Rejects an item that must not get a token, whatever the caller's rules: its URL may lead to
/// another host, it may be a batch whose items are not read, or its header fields may change its
/// path or host.
///
/// # Errors
/// The reason.
pub fn check_item(item: &BatchItem) -> Result<(), Ambiguous> {
    if item.has_misleading_fields {
        return Err(Ambiguous::MisleadingField);
    }
    // URL parsers drop tabs and line ends, and what precedes the first visible character.
    let url: String = item
        .relative_url
        .trim_start_matches(|character| character <= ' ')
        .replace(['\t', '\n', '\r'], "");
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let is_slash = |character: char| matches!(character, '/' | '\\');
    let relative = path.strip_prefix(is_slash).unwrap_or(path);
    let first = relative.split(is_slash).next().unwrap_or_default();
    let is_authority = relative.len() < path.len() && relative.starts_with(is_slash);
    if is_authority || first.contains(':') {
        return Err(Ambiguous::AbsoluteItem);
    }
    let rooted = format!("/{relative}");
    let ends_batch = |reading: &str| {
        segments(reading)
            .last()
            .is_some_and(|name| name.eq_ignore_ascii_case("$batch"))
    };
    let readings = PathReadings::of(&rooted).map_err(|_| Ambiguous::TooManyReadings)?;
    if readings.with(&rooted).any(ends_batch) {
        return Err(Ambiguous::NestedBatch);
    }
    Ok(())
}

/// Evaluates items, each a method and a relative URL, and returns the first decision other than
/// `Allowed`. `base` is that of [`batch_base`], without `region`, which may precede it: each path of
/// an item is evaluated without and with it (interface §4.3).
pub fn evaluate_items<'i>(
    rules: &Rules,
    region: &str,
    base: &str,
    customer: &str,
    items: impl IntoIterator<Item = (&'i str, &'i str)>,
) -> Decision {
    items
        .into_iter()
        .map(|(method, url)| evaluate_item(rules, region, base, customer, method, url))
        .find(|decision| *decision != Decision::Allowed)
        .unwrap_or(Decision::Allowed)
}

/// Allows an item only if every path that the upstream may resolve it to is allowed.
fn evaluate_item(
    rules: &Rules,
    region: &str,
    base: &str,
    customer: &str,
    method: &str,
    url: &str,
) -> Decision {
    if rules.is_empty() {
        return Decision::Allowed;
    }
    let paths = match item_paths(base, customer, url) {
        Ok(paths) => paths,
        Err(ambiguous) => return Decision::Ambiguous(ambiguous),
    };
    paths
        .iter()
        .map(|path| {
            let regional = (!region.is_empty()).then(|| format!("{region}{path}"));
            let forms = [&**path].into_iter().chain(regional.as_deref());
            rules.evaluate_any(method, forms, customer)
        })
        .find(|decision| *decision != Decision::Allowed)
        .unwrap_or(Decision::Allowed)
}

/// Returns the paths that an item's URL may resolve to: below the base, also without the leading
/// customer and site that the direct hosts use (contract §5); with these in place of the base's
/// own; from the root, if it begins like the base; and the translation of a retired address.
///
/// # Errors
/// If the URL may be absolute, name another customer or be a batch.
pub fn item_paths(base: &str, customer: &str, url: &str) -> Result<Vec<String>, Ambiguous> {
    let path = url.split('?').next().unwrap_or_default();
    // Citrix's own clients write `/Machines/…` for a path below the base.
    let relative = path.strip_prefix('/').unwrap_or(path);
    let below = |relative: &str| match relative {
        "" => base.to_owned(),
        _ => format!("{base}/{relative}"),
    };
    let rooted = format!("/{relative}");
    let parsed = evaluate(&rooted)?;
    if is_batch(&parsed) {
        return Err(Ambiguous::NestedBatch);
    }
    let first = segments(parsed.decoded()).next().unwrap_or_default();
    // RFC 3986 section 4.2: a relative reference has no colon in its first segment.
    if first.contains(':') {
        return Err(Ambiguous::AbsoluteItem);
    }
    if customer_in_service_path(parsed.decoded())
        .is_some_and(|named| !named.eq_ignore_ascii_case(customer))
    {
        return Err(Ambiguous::OtherCustomer);
    }
    let mut paths = vec![below(relative)];
    if let Some(api) = before_ids(base, customer) {
        paths.push(format!("{api}{rooted}"));
    }
    // A base without customer and site keeps those of the item.
    if first.eq_ignore_ascii_case(customer) && !legacy::is_orchestration(base) {
        paths.push(below(relative.splitn(3, '/').nth(2).unwrap_or_default()));
    }
    if segments(base)
        .next()
        .is_some_and(|own| own.eq_ignore_ascii_case(first))
    {
        paths.push(rooted.clone());
    }
    if let Ok(target) = PathAndQuery::try_from(rooted)
        && let Some(translated) = legacy::translate(&target)
    {
        paths.push(translated.target.path().to_owned());
    }
    Ok(paths)
}

/// Returns the part of a direct host's base before customer and site: `…/orchestration/api`.
fn before_ids<'b>(base: &'b str, customer: &str) -> Option<&'b str> {
    let parsed = evaluate(base).ok()?;
    let is_customer = |(_, segment): &(usize, &str)| segment.eq_ignore_ascii_case(customer);
    let (number, _) = segments(parsed.decoded())
        .enumerate()
        .filter(is_customer)
        .last()?;
    // The decoded base has as many slashes as the written one.
    let (end, _) = base.match_indices('/').nth(number)?;
    // In `/direct/{customer}` the segment selects the host and is no id of the API.
    Some(&base[..end]).filter(|before| !before.eq_ignore_ascii_case("/direct"))
}

fn is_batch(path: &ParsedPath<'_>) -> bool {
    segments(path.decoded())
        .last()
        .is_some_and(|name| name.eq_ignore_ascii_case("$batch"))
}
