//! All customers: that of `[citrix]`, or those of the `[[customer]]` blocks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Report;
use super::citrix::{CustomerTable, check_citrix};
use crate::config::Credential;
use crate::config::raw::{FromValue as _, RawCitrix, RawCustomer};
use crate::config::value::Leaf;

/// The maximum number of customers. Each has a task, a connection during logins, and some thirty
/// series in the metrics.
const MAX_CUSTOMERS: usize = 1000;

/// All customers, in the order of the file.
pub(super) struct CustomerList {
    pub(super) credentials: Vec<Credential>,
    /// The index of the customer of requests that name none.
    pub(super) default: Option<usize>,
}

/// Returns `None` if a customer is missing or invalid, which is then reported.
pub(super) fn check_customers(
    citrix: Option<RawCitrix>,
    blocks: Vec<RawCustomer>,
    report: &mut Report<'_>,
) -> Option<CustomerList> {
    if !blocks.is_empty() {
        if citrix.is_some() {
            let problem = "conflicts with [[customer]] blocks; move its customer into a block, and remove [citrix] and \
                           every variable that sets one of its keys";
            report.add("citrix", problem);
        }
        return check_blocks(blocks, report);
    }
    if citrix.is_none() && report.is_excused("customer") {
        // The invalid blocks are reported; [citrix] is not missing.
        return None;
    }
    let citrix = citrix.unwrap_or_else(|| RawCitrix::read(None, "citrix", report));
    let credential = check_citrix(&citrix, CustomerTable::Citrix, report)?;
    Some(CustomerList {
        credentials: vec![credential],
        default: Some(0),
    })
}

fn check_blocks(blocks: Vec<RawCustomer>, report: &mut Report<'_>) -> Option<CustomerList> {
    let count = blocks.len();
    if count > MAX_CUSTOMERS {
        let problem = format!("{count} [[customer]] blocks; the maximum is {MAX_CUSTOMERS}");
        report.add("customer", problem);
    }
    let mut credentials = Some(Vec::with_capacity(count));
    let mut seen = HashMap::with_capacity(count);
    let mut default: Option<usize> = None;
    for (index, block) in blocks.into_iter().take(MAX_CUSTOMERS).enumerate() {
        let (citrix, is_default) = block.into_parts();
        reject_duplicate(&citrix.customer_id, index, &mut seen, report);
        // The only customer is the default, unless its block sets `default = false`.
        if report.boolean(&is_default, count == 1) {
            if let Some(first) = default {
                let problem = format!("customer[{first}] is already the default");
                report.add(&is_default.path, problem);
            }
            default = default.or(Some(index));
        }
        match (
            check_citrix(&citrix, CustomerTable::Block, report),
            &mut credentials,
        ) {
            (Some(credential), Some(credentials)) => credentials.push(credential),
            _ => credentials = None,
        }
    }
    Some(CustomerList {
        credentials: credentials?,
        default,
    })
}

/// Reports a customer id that differs from an earlier one in case at most: requests may use any
/// case.
fn reject_duplicate(
    customer_id: &Leaf,
    index: usize,
    seen: &mut HashMap<String, usize>,
    report: &mut Report<'_>,
) {
    let Ok(id) = customer_id.text() else { return };
    match seen.entry(id.to_ascii_lowercase()) {
        Entry::Vacant(entry) => drop(entry.insert(index)),
        Entry::Occupied(first) => {
            let shown = customer_id.shown();
            let problem = format!("duplicate customer id {shown} of customer[{}]", first.get());
            report.add(&customer_id.path, problem);
        }
    }
}
