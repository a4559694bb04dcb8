//! For whom the gateway logs in: the one customer of `[citrix]`, or those of the `[[customer]]` blocks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::citrix::{self, Form};
use super::{Report, file};
use crate::config::Credential;
use crate::config::file::Field as _;
use crate::config::value::Leaf;

/// The most customers of one gateway. Each has a task, a connection when it logs in, and some thirty series in the
/// metrics.
const MOST: usize = 1000;

/// All customers.
pub(super) struct Customers {
    /// In the order of the file.
    pub(super) credentials: Vec<Credential>,
    /// Which of them is meant when a request names none.
    pub(super) default: Option<usize>,
}

/// `None` when a customer is missing or wrong, which is on the report then.
pub(super) fn check(
    citrix: Option<file::Citrix>,
    blocks: Vec<file::Customer>,
    report: &mut Report<'_>,
) -> Option<Customers> {
    if !blocks.is_empty() {
        if citrix.is_some() {
            let what = "stands beside [[customer]] blocks; write its customer into a block too, and leave out \
                        [citrix] and every variable that sets a key of it";
            report.add("citrix", what, None);
        }
        return check_blocks(blocks, report);
    }
    if citrix.is_none() && report.is_excused("customer") {
        // The blocks are there, but cannot be read: nobody is looking for [citrix].
        return None;
    }
    let citrix = citrix.unwrap_or_else(|| file::Citrix::read(None, "citrix", report));
    let credential = citrix::check(&citrix, Form::Table, report)?;
    Some(Customers {
        credentials: vec![credential],
        default: Some(0),
    })
}

fn check_blocks(blocks: Vec<file::Customer>, report: &mut Report<'_>) -> Option<Customers> {
    let count = blocks.len();
    if count > MOST {
        report.add(
            "customer",
            format!("{count} blocks are too many; {MOST} are the most"),
            None,
        );
    }
    let mut credentials = Some(Vec::with_capacity(count));
    let mut seen = HashMap::with_capacity(count);
    let mut default = None;
    for (index, block) in blocks.into_iter().take(MOST).enumerate() {
        let (citrix, is_default) = block.into_parts();
        check_new(&citrix.customer_id, index, &mut seen, report);
        // Who is alone is meant, unless the block says otherwise.
        if report.switch(&is_default, count == 1) {
            check_first_default(&is_default, default, report);
            default = default.or(Some(index));
        }
        match (
            citrix::check(&citrix, Form::Block, report),
            &mut credentials,
        ) {
            (Some(credential), Some(credentials)) => credentials.push(credential),
            _ => credentials = None,
        }
    }
    Some(Customers {
        credentials: credentials?,
        default,
    })
}

/// Letter case does not tell customers apart: a request may write the id in either.
fn check_new(
    customer_id: &Leaf,
    index: usize,
    seen: &mut HashMap<String, usize>,
    report: &mut Report<'_>,
) {
    let Ok(id) = customer_id.text() else { return };
    match seen.entry(id.to_ascii_lowercase()) {
        Entry::Vacant(entry) => drop(entry.insert(index)),
        Entry::Occupied(first) => {
            let what = format!(
                "{} is the customer of customer[{}] already",
                customer_id.shown(),
                first.get()
            );
            report.wrong(customer_id, what, "\"contoso\"");
        }
    }
}

fn check_first_default(leaf: &Leaf, first: Option<usize>, report: &mut Report<'_>) {
    if let Some(first) = first {
        let what = format!("customer[{first}] is the default already; only one can be");
        report.wrong(leaf, what, "false");
    }
}
