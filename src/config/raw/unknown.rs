//! Unknown keys, reported with the key that was probably meant.

use super::leaves;
use crate::config::key::{below, shown_key};
use crate::config::report::Report;

/// Likely names for keys of a customer's table, with the key they mean.
const CUSTOMER_ALIASES: [(&str, &str); 2] =
    [("customer", "customer_id"), ("secret", "client_secret")];

/// Reports `keys` as unknown in the table at `path`, which has the keys `known`.
pub(super) fn report_unknown(
    keys: impl Iterator<Item = String>,
    path: &str,
    known: &[&str],
    report: &mut Report<'_>,
) {
    for key in keys {
        let problem = match suggestion(&key, path, known) {
            Some(meant) => {
                report.excuse(&meant);
                let shown = meant.strip_prefix(&format!("{path}.")).unwrap_or(&meant);
                format!("unknown key; did you mean {shown}?")
            }
            None => "unknown key".to_owned(),
        };
        report.add(&below(path, &shown_key(&key)), problem);
    }
}

/// Returns the path of the key that was probably meant: an alias, a similar key of the same table,
/// or the same key of another table.
fn suggestion(key: &str, path: &str, known: &[&str]) -> Option<String> {
    let alias = CUSTOMER_ALIASES
        .iter()
        .find(|(alias, _)| *alias == key && is_customer_table(path));
    if let Some((_, meant)) = alias {
        return Some(below(path, meant));
    }
    let lower = key.to_ascii_lowercase();
    let similar = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, known), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).clamp(1, 3))
        .min();
    if let Some((_, known)) = similar {
        return Some(below(path, known));
    }
    leaves()
        .into_iter()
        .find(|leaf| leaf.rsplit('.').next() == Some(&lower))
}

/// Returns `true` for `[citrix]` and `[[customer]]` blocks.
fn is_customer_table(path: &str) -> bool {
    path == "citrix" || path.starts_with("customer[")
}
