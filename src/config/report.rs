//! Problems and warnings, collected so that one run reports all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::key::{is_at_or_below, join_names};
use super::value::Leaf;
use crate::system::files::{FileDigest, FileKind};

/// A problem of a configuration, printed on one line:
/// `limits.max_in_flight: invalid integer "many"; expected, for example, 1024`.
///
/// It never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The path of the key, such as `listen.tls.key`; else the line, file or variable.
    pub key: String,
    /// The environment variable that sets the key.
    pub variable: Option<String>,
    /// The problem, in lower case and without a full stop.
    pub problem: String,
    /// A valid value, in TOML.
    pub example: Option<String>,
}

impl ConfigProblem {
    /// Returns a problem without variable and example.
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            variable: None,
            problem: problem.into(),
            example: None,
        }
    }

    /// Returns the problems, one on each line.
    pub(crate) fn lines(problems: &[Self]) -> String {
        let lines: Vec<String> = problems.iter().map(Self::to_string).collect();
        lines.join("\n")
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)?;
        if let Some(variable) = &self.variable {
            write!(f, " (from {variable})")?;
        }
        if let Some(example) = &self.example {
            write!(f, "; expected, for example, {example}")?;
        }
        Ok(())
    }
}

/// The findings so far.
pub(super) struct Report<'e> {
    pub(super) environment: &'e Environment,
    /// The folder that relative paths start from; empty: the working directory.
    folder: PathBuf,
    problems: Vec<ConfigProblem>,
    warnings: Vec<String>,
    /// Secret files that all users can read, with the keys that name them.
    exposed: Vec<String>,
    /// Files whose content is part of the configuration, by the key that names them.
    files: BTreeMap<String, FileDigest>,
    /// Variables by the path of the key they set.
    variables: BTreeMap<String, String>,
    /// Keys and tables whose absence another problem explains.
    excused: BTreeSet<String>,
}

impl<'e> Report<'e> {
    pub(super) fn new(environment: &'e Environment, folder: &Path) -> Self {
        Self {
            environment,
            folder: folder.to_owned(),
            problems: Vec::new(),
            warnings: Vec::new(),
            exposed: Vec::new(),
            files: BTreeMap::new(),
            variables: BTreeMap::new(),
            excused: BTreeSet::new(),
        }
    }

    /// Returns the configuration with its warnings, or the problems.
    pub(super) fn finish<T>(
        mut self,
        config: Option<T>,
    ) -> Result<(T, Vec<String>), Vec<ConfigProblem>> {
        // One warning for all, because a volume mounts its files alike.
        if let Some(exposed) = join_names(&self.exposed) {
            self.warn(format!(
                "readable by all users of this machine: {exposed}; chmod 600, or 640 for a group"
            ));
        }
        match config {
            Some(config) if self.problems.is_empty() => Ok((config, self.warnings)),
            _ => Err(self.problems),
        }
    }

    /// Returns a path as written, relative to the folder of the configuration file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Adds a warning if all users can read the secret file at `path`.
    pub(super) fn check_mode(&mut self, leaf: &Leaf, path: &Path) {
        if readable_by_all(path) {
            self.exposed
                .push(format!("{} ({})", path.display(), leaf.path));
        }
    }

    /// Hashes a file whose content becomes part of the configuration. Called before the file is
    /// read, so that no later change is missed.
    pub(super) fn add_file(&mut self, leaf: &Leaf, path: &Path) {
        let digest = FileDigest::of(path, FileKind::Configuration);
        self.files.insert(leaf.path.clone(), digest);
    }

    pub(super) fn take_files(&mut self) -> BTreeMap<String, FileDigest> {
        std::mem::take(&mut self.files)
    }

    /// Reports an invalid value. `example` is a valid one, in TOML.
    pub(super) fn invalid(&mut self, leaf: &Leaf, problem: impl Into<String>, example: &str) {
        self.problems.push(ConfigProblem {
            variable: self.variable(&leaf.path).map(str::to_owned),
            example: Some(example.to_owned()),
            ..ConfigProblem::new(&leaf.path, problem)
        });
    }

    /// Reports a problem of the key at `path` for which no example helps.
    pub(super) fn add(&mut self, path: &str, problem: impl Into<String>) {
        self.problems.push(ConfigProblem {
            variable: self.variable(path).map(str::to_owned),
            ..ConfigProblem::new(path, problem)
        });
    }

    /// Reports a problem of an environment variable.
    pub(super) fn add_variable(&mut self, name: &str, problem: impl Into<String>) {
        self.problems.push(ConfigProblem::new(name, problem));
    }

    /// Reports a required key that is not set, unless another problem explains it. `purpose` names
    /// what is missing, or the reason why it is required.
    pub(super) fn require(&mut self, leaf: &Leaf, purpose: &str, example: &str) {
        if leaf.value.is_none() && !self.is_excused(&leaf.path) {
            self.invalid(leaf, format!("missing: {purpose}"), example);
        }
    }

    /// Adds a message to log at start.
    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Suppresses [`Self::require`] for `path` and keys below it.
    pub(super) fn excuse(&mut self, path: &str) {
        self.excused.insert(path.to_owned());
    }

    /// Returns `true` if another problem explains the absence of `path`.
    pub(super) fn is_excused(&self, path: &str) -> bool {
        self.excused
            .iter()
            .any(|excused| is_at_or_below(path, excused))
    }

    /// Records that `variable` sets the key at `path`.
    pub(super) fn set_by(&mut self, path: String, variable: &str) {
        self.variables.insert(path, variable.to_owned());
    }

    /// Returns the variable that sets the key at `path`, a key below it, or a table that contains
    /// it.
    pub(super) fn variable(&self, path: &str) -> Option<&str> {
        let exact = self.variables.get(path);
        let first = |matches: &dyn Fn(&str) -> bool| {
            self.variables
                .iter()
                .find(|(set, _)| matches(set))
                .map(|(_, name)| name)
        };
        exact
            .or_else(|| first(&|set| is_at_or_below(set, path)))
            .or_else(|| first(&|set| is_at_or_below(path, set)))
            .map(String::as_str)
    }
}

#[cfg(unix)]
fn readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn readable_by_all(_: &Path) -> bool {
    false
}
