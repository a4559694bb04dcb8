//! Observed requests of a caller, and the rules derived from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use citrix_wire::policy::batch::item_paths;
use citrix_wire::policy::path::{Ambiguous, evaluate};
use citrix_wire::policy::{RULE_METHODS, fold};

/// Maximum number of recorded shapes (method and path pattern) per caller. The first are kept: a
/// tool repeats most of its requests.
const MAX_SHAPES: usize = 256;
const MAX_CUSTOMERS: usize = 64;
/// Maximum length of a customer id; known ones are much shorter.
const MAX_CUSTOMER_LENGTH: usize = 64;
const MAX_PATTERN_LENGTH: usize = 512;
/// Number of names in one segment of otherwise equal patterns from which they are taken for object
/// names and become `*`. Fewer may be collections, and one allowed collection implies nothing about
/// another.
const MIN_OBJECT_NAMES: usize = 32;

/// The observed requests of one caller, for all workers; at most about 150 KiB.
#[derive(Debug, Default)]
pub struct Observations(Mutex<ObservedShapes>);

#[derive(Debug, Default)]
struct ObservedShapes {
    requests: u64,
    /// Number of requests by method and pattern.
    shapes: BTreeMap<(String, String), u64>,
    customers: BTreeSet<String>,
    ambiguous: BTreeMap<Ambiguous, u64>,
    /// Number of requests that were not recorded: too many shapes or customers, a value too long,
    /// or a method that no rule can name.
    overflow: u64,
}

impl Observations {
    /// Records the shape of a request: method, path with ids replaced, and customer.
    pub fn record(&self, method: &str, path: &str, customer: &str) {
        self.record_each(method, &[path], customer);
    }

    /// Records the shape of an item of a batch, for each path that its URL may mean
    /// ([`item_paths`]).
    pub fn record_item(&self, base: &str, method: &str, url: &str, customer: &str) {
        match item_paths(base, customer, url) {
            Ok(paths) => {
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                self.record_each(method, &paths, customer);
            }
            Err(ambiguous) => self.record_ambiguous(ambiguous),
        }
    }

    /// Records a request that no rule can allow.
    pub fn record_ambiguous(&self, ambiguous: Ambiguous) {
        let mut record = self.lock();
        record.requests += 1;
        *record.ambiguous.entry(ambiguous).or_default() += 1;
    }

    fn record_each(&self, method: &str, paths: &[&str], customer: &str) {
        // Before the lock is taken.
        let patterns: Vec<_> = paths
            .iter()
            .map(|path| evaluate(path).map(|path| fold::fold_ids(&path)))
            .collect();
        let mut record = self.lock();
        record.requests += 1;
        for pattern in patterns {
            match pattern {
                Ok(pattern) => record.keep(method, pattern, customer),
                Err(ambiguous) => *record.ambiguous.entry(ambiguous).or_default() += 1,
            }
        }
    }

    /// Returns the number of observed requests, including the items of batches.
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// Returns the number of observed requests whose shape was not recorded.
    pub fn overflow(&self) -> u64 {
        self.lock().overflow
    }

    /// Returns a `[[caller]]` block that allows the observed requests. It replaces the caller's
    /// block except for secret, networks, certificate and limits.
    pub fn suggest(&self, caller: &str) -> String {
        let record = self.lock();
        let plural = if record.requests == 1 { "" } else { "s" };
        let mut block = format!(
            "# From {} request{plural} of this caller.\n",
            record.requests
        );
        for (why, count) in &record.ambiguous {
            let _ = writeln!(block, "# No rule can allow {count} of them: {why}.");
        }
        if record.overflow > 0 {
            let _ = writeln!(
                block,
                "# {} more are not covered: the record was full.",
                record.overflow
            );
        }
        block.push_str(
            "# Copy secret_sha256, networks, client_certificate and limits from the current block.\n",
        );
        let _ = writeln!(block, "[[caller]]\nname = {}", quoted(caller));
        if !record.shapes.is_empty() {
            let methods: BTreeSet<_> = record.shapes.keys().map(|(method, _)| method).collect();
            let patterns = generalize(record.shapes.keys().map(|(_, pattern)| pattern.clone()));
            list(&mut block, "methods", methods.into_iter().map(|it| (it, 0)));
            list(
                &mut block,
                "paths",
                patterns.iter().map(|(it, names)| (it, *names)),
            );
            list(
                &mut block,
                "customers",
                record.customers.iter().map(|it| (it, 0)),
            );
        }
        block.push_str(
            "mode = \"observe\"  # \"enforce\" once policy_would_deny_total stays constant\n",
        );
        block
    }

    fn lock(&self) -> MutexGuard<'_, ObservedShapes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObservedShapes {
    fn keep(&mut self, method: &str, pattern: String, customer: &str) {
        let customer = customer.to_ascii_lowercase();
        let key = (method.to_owned(), pattern);
        // An item of a batch may contain any text, which would make the block unusable.
        let fits = RULE_METHODS.iter().any(|known| known == method)
            && customer.len() <= MAX_CUSTOMER_LENGTH
            && key.1.len() <= MAX_PATTERN_LENGTH
            && (self.shapes.len() < MAX_SHAPES || self.shapes.contains_key(&key))
            && (self.customers.len() < MAX_CUSTOMERS || self.customers.contains(&customer));
        if fits {
            *self.shapes.entry(key).or_default() += 1;
            self.customers.insert(customer);
        } else {
            self.overflow += 1;
        }
    }
}

/// Replaces a segment by `*` where [`MIN_OBJECT_NAMES`] otherwise equal patterns differ in it, from
/// the last segment on: names of objects are at the end. Returns the number of names that a
/// generalized pattern stands for, else 0.
fn generalize(recorded: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut patterns: BTreeMap<String, usize> = recorded.map(|pattern| (pattern, 0)).collect();
    let depth = patterns
        .keys()
        .map(|pattern| pattern.split('/').count())
        .max()
        .unwrap_or_default();
    // The first segment is the service.
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
            let names = if members.len() >= MIN_OBJECT_NAMES {
                members.len()
            } else {
                0
            };
            // A general pattern that was recorded as such covers the others.
            if names > 0 || members.contains(&general) {
                patterns.retain(|pattern, _| !members.contains(pattern));
                patterns.insert(general, names);
            }
        }
    }
    patterns
}

/// Writes an array, with a comment at each value that stands for several names.
fn list<'v>(block: &mut String, key: &str, values: impl Iterator<Item = (&'v String, usize)>) {
    let _ = writeln!(block, "{key} = [");
    for (value, names) in values {
        let note = if names > 0 {
            format!("  # stands for {names} names")
        } else {
            String::new()
        };
        let _ = writeln!(block, "    {},{note}", quoted(value));
    }
    block.push_str("]\n");
}

/// Returns a TOML basic string.
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
