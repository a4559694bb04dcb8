//! Counts in a profile of callgrind.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::Fallible;

/// Entries into the allocator: those of the crate `mimalloc`, and those that C libraries call.
const ALLOCATIONS: [&str; 7] = [
    "mi_malloc_aligned",
    "mi_zalloc_aligned",
    "mi_realloc_aligned",
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
];
/// A read of a clock.
const CLOCK_READ: &str = "clock_gettime";

/// Counts of a thread during a profile, or their average per request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Counts {
    pub(crate) instructions: u64,
    /// Calls of the allocator, other than to free.
    pub(crate) allocations: u64,
    pub(crate) clock_reads: u64,
}

impl Counts {
    /// Reads the profile of one thread.
    ///
    /// # Errors
    /// When it is malformed.
    pub(crate) fn read(profile: &Path) -> Fallible<Self> {
        Self::parse(&fs::read_to_string(profile)?)
    }

    fn parse(profile: &str) -> Fallible<Self> {
        let mut counts = Self::default();
        // A name follows its number the first time only.
        let mut names = HashMap::new();
        let mut called = "";
        for line in profile.lines() {
            if let Some(total) = line.strip_prefix("totals: ") {
                counts.instructions = total.trim().parse()?;
            } else if let Some(calls) = line.strip_prefix("calls=") {
                let number = calls.split(' ').next().unwrap_or_default();
                let name = names.get(called).copied().unwrap_or_default();
                counts.add(name, number.parse()?);
            } else if let Some(function) = line
                .strip_prefix("fn=")
                .or_else(|| line.strip_prefix("cfn="))
            {
                let (number, name) = function.split_once(' ').unwrap_or((function, ""));
                if !name.is_empty() {
                    names.insert(number, name);
                }
                called = number;
            }
        }
        Ok(counts)
    }

    fn add(&mut self, function: &str, calls: u64) {
        // glibc's functions have the version of their symbol.
        let name = function.split('@').next().unwrap_or_default();
        if ALLOCATIONS.contains(&name) {
            self.allocations += calls;
        } else if name == CLOCK_READ {
            self.clock_reads += calls;
        }
    }

    /// Returns the median of each figure.
    pub(crate) fn medians(counts: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> u64| {
            let mut figures: Vec<u64> = counts.iter().map(figure).collect();
            figures.sort_unstable();
            figures[figures.len() / 2]
        };
        Self {
            instructions: median(|counts| counts.instructions),
            allocations: median(|counts| counts.allocations),
            clock_reads: median(|counts| counts.clock_reads),
        }
    }

    /// Returns the counts of each of `number` requests. What happens between them, such as the sweep
    /// of each second, is too little for another allocation or clock read.
    pub(crate) const fn per_request(self, number: u64) -> Self {
        Self {
            instructions: self.instructions / number,
            allocations: self.allocations / number,
            clock_reads: self.clock_reads / number,
        }
    }
}
