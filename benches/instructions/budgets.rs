//! The recorded budgets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use crate::Fallible;

const FILE: &str = "benches/instructions/budgets.toml";
const HEAD: &str = "\
# Instructions of the gateway per request, in user space on x86-64. `just budgets` writes this file,
# `just instructions` fails at more than 2 % over one of these figures.
";
/// Hundredths by which a figure may exceed its budget. Two builds of the same code differ by less
/// than one.
const TOLERANCE: u64 = 2;

/// Instructions per request, by the name of the shape.
pub(crate) struct Budgets(BTreeMap<String, u64>);

impl Budgets {
    pub(crate) fn read() -> Fallible<Self> {
        Ok(Self(toml::from_str(&fs::read_to_string(FILE)?)?))
    }

    /// Returns a message for each figure that is over its budget.
    pub(crate) fn exceeded(&self, measured: &[(&str, u64)]) -> Vec<String> {
        let message = |(name, measured): &(&str, u64)| {
            let Some(&budget) = self.0.get(*name) else {
                return Some(format!(
                    "{name}: no budget in {FILE}; record it: just budgets"
                ));
            };
            let limit = budget + budget * TOLERANCE / 100;
            (*measured > limit).then(|| {
                let over = (*measured as f64 / budget as f64 - 1.0) * 100.0;
                format!(
                    "\n{name}: {measured} instructions per request are {over:.1} % over the budget of {budget} \
                     (limit: {TOLERANCE} %, {limit})\n  \
                     where they are spent: callgrind_annotate target/instructions/{name}.profile\n  \
                     if they are worth it, record them: just budgets (writes {FILE}), with the reason in the commit"
                )
            })
        };
        measured.iter().filter_map(message).collect()
    }
}

/// Writes the figures as the budgets.
pub(crate) fn record(measured: &[(&str, u64)]) -> Fallible<()> {
    let mut text = HEAD.to_owned();
    for (name, instructions) in measured {
        writeln!(text, "{name} = {instructions}")?;
    }
    Ok(fs::write(FILE, text)?)
}
