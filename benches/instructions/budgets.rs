//! The recorded budgets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use serde::Deserialize;

use crate::Fallible;
use crate::profile::Counts;

const FILE: &str = "benches/instructions/budgets.toml";
const HEAD: &str = "\
# What the gateway does per request, on x86-64: instructions in user space, allocations and clock reads. `just budgets`
# writes this file, `just instructions` fails at more than 2 % over the instructions, 10 % over the clock reads, and at one
# more allocation.
";
/// Hundredths by which instructions may exceed their budget. Two builds of the same code differ by
/// less than one.
const INSTRUCTIONS_TOLERANCE: u64 = 2;
/// Hundredths by which clock reads may. The runtime reads the clock at each wake-up, and how many
/// events one wake-up takes depends on when they arrive.
const CLOCK_READS_TOLERANCE: u64 = 10;

#[derive(Deserialize)]
struct Budget {
    instructions: u64,
    allocations: u64,
    clock_reads: u64,
}

/// Budgets by the name of the shape.
pub(crate) struct Budgets(BTreeMap<String, Budget>);

impl Budgets {
    pub(crate) fn read() -> Fallible<Self> {
        Ok(Self(toml::from_str(&fs::read_to_string(FILE)?)?))
    }

    /// Returns a message for each figure that is over its budget.
    pub(crate) fn exceeded(&self, measured: &[(&str, Counts)]) -> Vec<String> {
        let messages = |(name, counts): &(&str, Counts)| {
            let Some(budget) = self.0.get(*name) else {
                return vec![format!(
                    "{name}: no budget in {FILE}; record it: just budgets"
                )];
            };
            [
                (
                    "instructions",
                    counts.instructions,
                    budget.instructions,
                    INSTRUCTIONS_TOLERANCE,
                ),
                ("allocations", counts.allocations, budget.allocations, 0),
                (
                    "clock reads",
                    counts.clock_reads,
                    budget.clock_reads,
                    CLOCK_READS_TOLERANCE,
                ),
            ]
            .into_iter()
            .filter(|(_, measured, budget, tolerance)| {
                *measured > budget + budget * tolerance / 100
            })
            .map(|(what, measured, budget, tolerance)| {
                over(name, what, measured, budget, tolerance)
            })
            .collect()
        };
        measured.iter().flat_map(messages).collect()
    }
}

fn over(name: &str, what: &str, measured: u64, budget: u64, tolerance: u64) -> String {
    let over = (measured as f64 / budget as f64 - 1.0) * 100.0;
    format!(
        "\n{name}: {measured} {what} per request are {over:.1} % over the budget of {budget} \
         (tolerated: {tolerance} %)\n  \
         where they are: callgrind_annotate --tree=caller target/instructions/{name}.profile\n  \
         if they are worth it, record them: just budgets (writes {FILE}), with the reason in the commit"
    )
}

/// Writes the figures as the budgets.
pub(crate) fn record(measured: &[(&str, Counts)]) -> Fallible<()> {
    let mut text = HEAD.to_owned();
    for (name, counts) in measured {
        writeln!(
            text,
            "\n[{name}]\ninstructions = {}\nallocations = {}\nclock_reads = {}",
            counts.instructions, counts.allocations, counts.clock_reads
        )?;
    }
    Ok(fs::write(FILE, text)?)
}
