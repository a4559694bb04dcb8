//! Collects what is wrong with a configuration, so that all of it is told at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::environment::Environment;
use super::file;
use super::value::Leaf;
use crate::system::files::{FileDigest, FileKind};

/// One mistake in a configuration.
///
/// Printed on one line: `limits.max_in_flight: "many" is not a whole number; for example: max_in_flight = 1024`.
/// It never holds a secret's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key's path, as in `listen.tls.key`; for a mistake of no key the line, file or variable it is in.
    pub key: String,
    /// The environment variable that set the key, if one did.
    pub variable: Option<String>,
    /// What is wrong.
    pub what: String,
    /// A line that would be right.
    pub example: Option<String>,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)?;
        if let Some(variable) = &self.variable {
            write!(f, " (from {variable})")?;
        }
        if let Some(example) = &self.example {
            write!(f, "; for example: {example}")?;
        }
        Ok(())
    }
}

/// Keys of a customer's table that are known under another name, with the key that does what they mean.
const RENAMED: [(&str, &str); 2] = [("customer", "customer_id"), ("secret", "client_secret")];

/// Everything found so far.
pub(super) struct Report<'e> {
    pub(super) environment: &'e Environment,
    problems: Vec<ConfigProblem>,
    warnings: Vec<String>,
    /// What files hold whose content becomes part of the configuration, by the key that names them.
    contents: BTreeMap<String, FileDigest>,
    /// Which variable set a key, by the key's path.
    variables: BTreeMap<String, String>,
    /// Required keys (or whole tables) whose absence another problem already explains.
    excused: BTreeSet<String>,
    /// The text has syntax errors, so that what seems absent may only be unreadable.
    damaged: bool,
}

impl<'e> Report<'e> {
    pub(super) fn new(environment: &'e Environment) -> Self {
        Self {
            environment,
            problems: Vec::new(),
            warnings: Vec::new(),
            contents: BTreeMap::new(),
            variables: BTreeMap::new(),
            excused: BTreeSet::new(),
            damaged: false,
        }
    }

    /// The configuration and its warnings, if there is no problem.
    pub(super) fn finish<T>(
        self,
        config: Option<T>,
    ) -> Result<(T, Vec<String>), Vec<ConfigProblem>> {
        match config {
            Some(config) if self.problems.is_empty() => Ok((config, self.warnings)),
            _ => Err(self.problems),
        }
    }

    /// Notes that the content of the file at `path` becomes part of the configuration; to be called before it is read, so
    /// that no change is missed.
    pub(super) fn reads(&mut self, leaf: &Leaf, path: &Path) {
        self.contents.insert(
            leaf.path.clone(),
            FileDigest::of(path, FileKind::Configuration),
        );
    }

    /// What was noted of files.
    pub(super) fn take_contents(&mut self) -> BTreeMap<String, FileDigest> {
        std::mem::take(&mut self.contents)
    }

    /// A problem with the value of `leaf`. `example` is a value in TOML.
    pub(super) fn wrong(&mut self, leaf: &Leaf, what: impl Into<String>, example: &str) {
        self.add(&leaf.path, what, Some(example));
    }

    /// A problem with the key at `path`. `example` is a value in TOML.
    pub(super) fn add(&mut self, path: &str, what: impl Into<String>, example: Option<&str>) {
        let name = path.rsplit('.').next().unwrap_or(path);
        self.problems.push(ConfigProblem {
            key: path.to_owned(),
            variable: self.variable(path).map(str::to_owned),
            what: what.into(),
            example: example.map(|value| format!("{name} = {value}")),
        });
    }

    /// A problem of no key: `place` is a position in the text, a file or a variable.
    pub(super) fn add_elsewhere(&mut self, place: String, what: impl Into<String>) {
        self.problems.push(ConfigProblem {
            key: place,
            variable: None,
            what: what.into(),
            example: None,
        });
    }

    /// A mistake of the text itself; from here on nothing is called missing.
    pub(super) fn syntax(&mut self, line: usize, column: usize, what: &str) {
        self.damaged = true;
        self.add_elsewhere(format!("line {line}, column {column}"), what);
    }

    /// A required key that is not there.
    pub(super) fn missing(&mut self, leaf: &Leaf, what: &str, example: &str) {
        if !self.damaged && !self.is_excused(&leaf.path) {
            self.wrong(leaf, what, example);
        }
    }

    /// Something to say at start that is no mistake.
    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Nothing at or below `path` is to be called missing.
    pub(super) fn excuse(&mut self, path: &str) {
        self.excused.insert(path.to_owned());
    }

    /// Whether another problem explains that there is nothing at `path`.
    pub(super) fn is_excused(&self, path: &str) -> bool {
        self.excused
            .iter()
            .any(|excused| is_at_or_below(path, excused))
    }

    /// Remembers that `variable` set the key at `path`.
    pub(super) fn set_by(&mut self, path: String, variable: &str) {
        self.variables.insert(path, variable.to_owned());
    }

    /// The variable that set the key at `path`, a part of it, or the table it stands in.
    pub(super) fn variable(&self, path: &str) -> Option<&str> {
        let exact = self.variables.get(path);
        let inside = || {
            self.variables
                .iter()
                .find(|(set, _)| is_at_or_below(set, path))
                .map(|(_, name)| name)
        };
        let around = || {
            self.variables
                .iter()
                .find(|(set, _)| is_at_or_below(path, set))
                .map(|(_, name)| name)
        };
        exact.or_else(inside).or_else(around).map(String::as_str)
    }

    /// Reports each of `keys`, which the table at `path` does not know; `known` are those it does.
    pub(super) fn unknown(
        &mut self,
        keys: impl Iterator<Item = String>,
        path: &str,
        known: &[&str],
    ) {
        for key in keys {
            let at = file::below(path, &shown_key(&key));
            let renamed = RENAMED.iter().find(|(old, _)| *old == key);
            if let Some((_, successor)) = renamed.filter(|_| is_of_a_customer(path)) {
                let successor = file::below(path, successor);
                self.add(&at, format!("this key is called {successor}"), None);
                self.excuse(&successor);
                continue;
            }
            let what = match suggestion(&key, path, known) {
                Some(meant) => {
                    self.excuse(&meant);
                    let named = meant.strip_prefix(&format!("{path}.")).unwrap_or(&meant);
                    format!("unknown key; did you mean {named}?")
                }
                // In a damaged text what reads as a key may be a piece of a secret.
                None if self.damaged => continue,
                None => "unknown key".to_owned(),
            };
            self.add(&at, what, None);
        }
    }
}

/// Whether `path` is `above` or a key in the table `above`.
fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether the table at `path` is `[citrix]` or one of the `[[customer]]` blocks.
fn is_of_a_customer(path: &str) -> bool {
    path == "citrix" || path.starts_with("customer[")
}

/// The path of the key that was probably meant: a similar one of the same table, or the same one of another.
fn suggestion(key: &str, path: &str, known: &[&str]) -> Option<String> {
    let lower = key.to_ascii_lowercase();
    let near = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, known), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).clamp(1, 3))
        .min();
    if let Some((_, known)) = near {
        return Some(file::below(path, known));
    }
    file::leaves()
        .into_iter()
        .find(|leaf| leaf.rsplit('.').next() == Some(&lower))
}

/// A key as it may be printed: bare if it can be, else quoted, and never long.
fn shown_key(key: &str) -> String {
    const LONGEST: usize = 64;
    let bare = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if key.chars().count() > LONGEST {
        let start: String = key.chars().take(LONGEST).collect();
        format!("{start:?}…")
    } else if bare {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}
