//! What a caller was seen to do, from which rules for it can be made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use citrix_wire::policy::batch::item_paths;
use citrix_wire::policy::path::{Ambiguous, evaluate};
use citrix_wire::policy::{RULE_METHODS, shape};

/// How many shapes of requests are kept of a caller. First come, first kept: rules are made of what a tool does all
/// the time.
const MOST_SHAPES: usize = 256;
/// How many customers.
const MOST_CUSTOMERS: usize = 64;
/// How long a customer's id and a pattern may be; no known one comes near.
const LONGEST_CUSTOMER: usize = 64;
const LONGEST_PATTERN: usize = 512;
/// That many names in one place of otherwise equal patterns are taken for names of objects, and suggested as `*`.
/// Below it they may be collections, of which an allowed one says nothing about the next.
const MANY: usize = 32;

/// What one caller was seen to do, over all workers: some 150 KiB at most.
#[derive(Debug, Default)]
pub struct Observations(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    /// How often, by method and pattern.
    shapes: BTreeMap<(String, String), u64>,
    customers: BTreeSet<String>,
    unjudgeable: BTreeMap<Ambiguous, u64>,
    /// Requests that were not kept, as there were too many shapes or customers, one was too long, or its
    /// method none that a rule can name.
    overflow: u64,
}

impl Observations {
    /// Keeps the shape of a request: its method, its path with the ids folded, its customer. Paths are those that
    /// rules judge ([`citrix_wire::policy::Rules::evaluate`]).
    pub fn record(&self, method: &str, path: &str, customer: &str) {
        self.record_each(method, &[path], customer);
    }

    /// Keeps the shape of an item of a batch, for each place where it may lead ([`item_paths`]).
    pub fn record_item(&self, base: &str, method: &str, url: &str, customer: &str) {
        match item_paths(base, customer, url) {
            Ok(paths) => {
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                self.record_each(method, &paths, customer);
            }
            Err(why) => self.record_unjudgeable(why),
        }
    }

    /// Counts what no rule can allow, and whose shape is not known.
    pub fn record_unjudgeable(&self, why: Ambiguous) {
        let mut seen = self.lock();
        seen.requests += 1;
        *seen.unjudgeable.entry(why).or_default() += 1;
    }

    fn record_each(&self, method: &str, paths: &[&str], customer: &str) {
        // Before the lock is taken.
        let patterns: Vec<_> = paths
            .iter()
            .map(|path| evaluate(path).map(|path| shape::fold(&path)))
            .collect();
        let mut seen = self.lock();
        seen.requests += 1;
        for pattern in patterns {
            match pattern {
                Ok(pattern) => seen.keep(method, pattern, customer),
                Err(why) => *seen.unjudgeable.entry(why).or_default() += 1,
            }
        }
    }

    /// Requests that were seen, items of batches included.
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// Requests that were seen, but whose shape was not kept.
    pub fn overflow(&self) -> u64 {
        self.lock().overflow
    }

    /// A `[[caller]]` block that allows what was seen, to be put in place of the caller's. How it shows who it is,
    /// is for the reader to copy.
    pub fn suggest(&self, caller: &str) -> String {
        let seen = self.lock();
        let methods: BTreeSet<&str> = seen
            .shapes
            .keys()
            .map(|(method, _)| method.as_str())
            .collect();
        let patterns = generalise(seen.shapes.keys().map(|(_, pattern)| pattern.clone()));
        let plural = if seen.requests == 1 { "" } else { "s" };
        let mut block = format!("# From {} request{plural} of this caller.\n", seen.requests);
        for (why, count) in &seen.unjudgeable {
            let _ = writeln!(block, "# {count} of them no rule can allow: {why}.");
        }
        if seen.overflow > 0 {
            let _ = writeln!(
                block,
                "# {} more are not in here: there were too many kinds.",
                seen.overflow
            );
        }
        block.push_str(
            "# Copy secret_sha256, networks, client_certificate and limits from the present block.\n",
        );
        let _ = writeln!(block, "[[caller]]\nname = {}", quoted(caller));
        if !seen.shapes.is_empty() {
            list(
                &mut block,
                "methods",
                methods.into_iter().map(|method| (method, 0)),
            );
            list(
                &mut block,
                "paths",
                patterns
                    .iter()
                    .map(|(pattern, names)| (pattern.as_str(), *names)),
            );
            list(
                &mut block,
                "customers",
                seen.customers.iter().map(|id| (id.as_str(), 0)),
            );
        }
        block
            .push_str("mode = \"observe\"  # then \"enforce\", when nothing is counted any more\n");
        block
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn keep(&mut self, method: &str, pattern: String, customer: &str) {
        let customer = customer.to_ascii_lowercase();
        let key = (method.to_owned(), pattern);
        // An item of a batch may say anything; no block with that in it could be used.
        let fits = RULE_METHODS.iter().any(|known| known == method)
            && customer.len() <= LONGEST_CUSTOMER
            && key.1.len() <= LONGEST_PATTERN
            && (self.shapes.len() < MOST_SHAPES || self.shapes.contains_key(&key))
            && (self.customers.len() < MOST_CUSTOMERS || self.customers.contains(&customer));
        if fits {
            *self.shapes.entry(key).or_default() += 1;
            self.customers.insert(customer);
        } else {
            self.overflow += 1;
        }
    }
}

/// Folds segments of which there are many in otherwise equal patterns, from the end: names of objects come last.
/// With how many names a pattern stands for that is not as it was kept.
fn generalise(kept: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut patterns: BTreeMap<String, usize> = kept.map(|pattern| (pattern, 0)).collect();
    let depth = patterns
        .keys()
        .map(|pattern| pattern.split('/').count())
        .max()
        .unwrap_or_default();
    // The first one is the service.
    for at in (2..depth).rev() {
        let mut alike: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pattern in patterns.keys() {
            let mut segments: Vec<&str> = pattern.split('/').collect();
            if let Some(segment) = segments.get_mut(at) {
                *segment = "*";
                alike
                    .entry(segments.join("/"))
                    .or_default()
                    .push(pattern.clone());
            }
        }
        for (general, members) in alike {
            let names = if members.len() >= MANY {
                members.len()
            } else {
                0
            };
            // One that is there already covers the others.
            if names > 0 || members.contains(&general) {
                patterns.retain(|pattern, _| !members.contains(pattern));
                patterns.insert(general, names);
            }
        }
    }
    patterns
}

fn list<'v>(block: &mut String, key: &str, values: impl Iterator<Item = (&'v str, usize)>) {
    let _ = writeln!(block, "{key} = [");
    for (value, names) in values {
        let note = if names > 0 {
            format!("  # {names} names were seen here")
        } else {
            String::new()
        };
        let _ = writeln!(block, "    {},{note}", quoted(value));
    }
    block.push_str("]\n");
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
