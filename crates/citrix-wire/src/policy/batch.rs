//! Batches (`POST …/$batch`, contract §5): each of their items is judged like a request of its own.

use http::uri::PathAndQuery;

use super::path::{Ambiguous, ParsedPath, evaluate, segments};
use super::{Decision, Rules};
use crate::citrix::headers::customer_in_service_path;
use crate::citrix::legacy;

/// The longest path whose batches are judged: each item is judged with it in front. Citrix's have a hundred bytes.
pub const MAX_BASE_LENGTH: usize = 512;

/// The path that the items of a batch are relative to, if the path is that of a batch: `/cvad/manage` of
/// `/cvad/manage/$batch`, in any letter case, escaped or not. A path that cannot be judged is refused before
/// somebody asks.
pub fn batch_base(path: &str) -> Option<&str> {
    let judged = evaluate(path).ok()?;
    if !is_batch(&judged) {
        return None;
    }
    // No slash is escaped in a judged path.
    let path = path.strip_suffix('/').unwrap_or(path);
    path.rfind('/').map(|end| &path[..end])
}

/// Judges the items of a batch, each with its method and relative URL; the first verdict that is not `Allowed`
/// is the one on the batch. `base` is of [`batch_base`]: `/cvad/manage`.
pub fn evaluate_items<'i>(
    rules: &Rules,
    base: &str,
    customer: &str,
    items: impl IntoIterator<Item = (&'i str, &'i str)>,
) -> Decision {
    let verdicts = items
        .into_iter()
        .map(|(method, url)| evaluate_item(rules, base, customer, method, url));
    verdicts
        .into_iter()
        .find(|verdict| *verdict != Decision::Allowed)
        .unwrap_or(Decision::Allowed)
}

/// An item is allowed when it is in each place where the upstream may look for it.
fn evaluate_item(rules: &Rules, base: &str, customer: &str, method: &str, url: &str) -> Decision {
    if rules.is_empty() {
        return Decision::Allowed;
    }
    let readings = match item_paths(base, customer, url) {
        Ok(readings) => readings,
        Err(why) => return Decision::Ambiguous(why),
    };
    let verdicts = readings
        .iter()
        .map(|path| rules.evaluate(method, path, customer));
    verdicts
        .into_iter()
        .find(|verdict| *verdict != Decision::Allowed)
        .unwrap_or(Decision::Allowed)
}

/// The paths that an item's URL may stand for: below the base; the same without the customer and site that the direct
/// hosts have in front (contract §5); there, in place of those in the base; and from the root, if it looks like that.
///
/// # Errors
/// When it may lead elsewhere, to another customer, or to a batch.
pub fn item_paths(base: &str, customer: &str, url: &str) -> Result<Vec<String>, Ambiguous> {
    let path = url.split('?').next().unwrap_or_default();
    // Citrix's own clients write `/Machines/…` for what is below the base.
    let relative = path.strip_prefix('/').unwrap_or(path);
    let below = |relative: &str| match relative {
        "" => base.to_owned(),
        _ => format!("{base}/{relative}"),
    };
    let rooted = format!("/{relative}");
    let judged = evaluate(&rooted)?;
    if is_batch(&judged) {
        return Err(Ambiguous::NestedBatch);
    }
    let first = segments(judged.decoded()).next().unwrap_or_default();
    // RFC 3986 section 4.2: what has a colon in its first segment is no relative reference.
    if first.contains(':') {
        return Err(Ambiguous::AbsoluteItem);
    }
    if customer_in_service_path(judged.decoded())
        .is_some_and(|named| !named.eq_ignore_ascii_case(customer))
    {
        return Err(Ambiguous::OtherCustomer);
    }
    let mut readings = vec![below(relative)];
    if let Some(api) = before_ids(base, customer) {
        readings.push(format!("{api}{rooted}"));
    }
    // Below the API itself customer and site are never dropped.
    if first.eq_ignore_ascii_case(customer) && !legacy::is_orchestration(base) {
        readings.push(below(relative.splitn(3, '/').nth(2).unwrap_or_default()));
    }
    if segments(base)
        .next()
        .is_some_and(|own| own.eq_ignore_ascii_case(first))
    {
        readings.push(rooted.clone());
    }
    if let Ok(target) = PathAndQuery::try_from(rooted)
        && let Some(today) = legacy::translate(&target)
    {
        readings.push(today.target.path().to_owned());
    }
    Ok(readings)
}

/// What stands before customer and site in the base of a direct host's batch: `…/orchestration/api`.
fn before_ids<'b>(base: &'b str, customer: &str) -> Option<&'b str> {
    let judged = evaluate(base).ok()?;
    let named = |(_, segment): &(usize, &str)| segment.eq_ignore_ascii_case(customer);
    let (number, _) = segments(judged.decoded())
        .enumerate()
        .filter(named)
        .last()?;
    // As many slashes are in the base as it was written.
    let (end, _) = base.match_indices('/').nth(number)?;
    // There it is the host.
    Some(&base[..end]).filter(|before| !before.eq_ignore_ascii_case("/direct"))
}

fn is_batch(path: &ParsedPath<'_>) -> bool {
    segments(path.decoded())
        .last()
        .is_some_and(|name| name.eq_ignore_ascii_case("$batch"))
}
