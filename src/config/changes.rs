//! What one configuration has that another has not, told by the names of keys and blocks, never by values.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use super::file;
use crate::system::digest::{Sha256, Sha256Builder};
use crate::system::files::FileDigest;

/// Keys that are read at start only, and tables of such keys.
pub const BOOT_KEYS: [&str; 6] = [
    "admin",
    "listen.address",
    "listen.tls",
    "listen.unix_mode",
    "listen.workers",
    "log.format",
];
/// Blocks, and the key that tells one from another.
const BLOCKS: [(&str, &str); 3] = [
    ("caller", "name"),
    ("customer", "customer_id"),
    ("route", "prefix"),
];
/// Names in one list; more are counted only.
const MOST_NAMES: usize = 20;

/// What was written, file and environment together: each key and block with a hash of its value. So a value that is a
/// secret is not kept here.
#[derive(Clone, Default)]
pub struct ConfigFingerprint {
    keys: BTreeMap<String, Sha256>,
    blocks: BTreeMap<String, Sha256>,
    /// What the files hold that keys name, where that is part of the configuration.
    contents: BTreeMap<String, FileDigest>,
}

impl fmt::Debug for ConfigFingerprint {
    /// Without the hashes: a weak secret can be guessed from one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.keys.keys())
            .entries(self.blocks.keys())
            .finish()
    }
}

impl ConfigFingerprint {
    pub(super) fn of(table: &Table) -> Self {
        let mut written = Self::default();
        let leaves = file::leaves();
        for (name, value) in table {
            match (BLOCKS.iter().find(|(block, _)| block == name), value) {
                (Some((block, key)), Value::Array(blocks)) => {
                    for value in blocks {
                        let of = value.get(key).and_then(Value::as_str).unwrap_or_default();
                        written.blocks.insert(format!("{block} {of}"), hash(value));
                    }
                }
                _ => written.add(name.clone(), value, &leaves),
            }
        }
        written
    }

    /// Adds what files held when they were read.
    pub(super) fn with(mut self, contents: BTreeMap<String, FileDigest>) -> Self {
        self.contents = contents;
        self
    }

    /// What files held when they were read.
    pub fn files(&self) -> impl Iterator<Item = &FileDigest> {
        self.contents.values()
    }

    fn add(&mut self, path: String, value: &Value, leaves: &[String]) {
        match value {
            Value::Table(table) if !leaves.contains(&path) => {
                for (key, value) in table {
                    self.add(file::below(&path, key), value, leaves);
                }
            }
            value => drop(self.keys.insert(path, hash(value))),
        }
    }
}

/// How a configuration differs from the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that are written otherwise, for the first time or no more, or whose file holds something else.
    pub keys: Vec<String>,
    /// Blocks that are new, as `customer contoso`.
    pub added: Vec<String>,
    /// Blocks that are gone.
    pub removed: Vec<String>,
    /// Blocks that are written otherwise.
    pub changed: Vec<String>,
    /// Keys that differ from what the program was started with, and are read at start only.
    pub restart_required: Vec<String>,
    /// Nothing of all that.
    pub unchanged: bool,
}

impl Changes {
    /// What `fresh` changes of `now`, in a program that was started with `at_start`.
    pub fn between(
        at_start: &ConfigFingerprint,
        now: &ConfigFingerprint,
        fresh: &ConfigFingerprint,
    ) -> Self {
        let mut keys = differing(&now.keys, &fresh.keys);
        keys.extend(differing(&now.contents, &fresh.contents));
        keys.sort_unstable();
        keys.dedup();
        let (boot, keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| is_boot(key));
        let blocks = differing(&now.blocks, &fresh.blocks);
        let unchanged = boot.is_empty() && keys.is_empty() && blocks.is_empty();
        let (old, rest): (Vec<_>, Vec<_>) = blocks
            .into_iter()
            .partition(|block| !fresh.blocks.contains_key(block));
        let (changed, added) = rest
            .into_iter()
            .partition(|block| now.blocks.contains_key(block));
        let mut restart_required = differing(&at_start.keys, &fresh.keys);
        restart_required.retain(|key| is_boot(key));
        Self {
            keys,
            added,
            removed: old,
            changed,
            restart_required,
            unchanged,
        }
    }
}

/// A list of names for the log; `None` for an empty one.
pub fn join_names(names: &[String]) -> Option<String> {
    let shown = names.get(..MOST_NAMES).unwrap_or(names).join(", ");
    match names.len() {
        0 => None,
        few if few <= MOST_NAMES => Some(shown),
        many => Some(format!("{shown} and {} more", many - MOST_NAMES)),
    }
}

fn is_boot(path: &str) -> bool {
    BOOT_KEYS.iter().any(|boot| {
        path.strip_prefix(boot)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The names that do not stand for the same on both sides.
fn differing<V: PartialEq>(one: &BTreeMap<String, V>, other: &BTreeMap<String, V>) -> Vec<String> {
    let gone = one.keys().filter(|name| !other.contains_key(*name));
    let new = other
        .iter()
        .filter(|(name, value)| one.get(*name) != Some(value))
        .map(|(name, _)| name);
    let mut names: Vec<String> = gone.chain(new).cloned().collect();
    names.sort_unstable();
    names
}

fn hash(value: &Value) -> Sha256 {
    let mut builder = Sha256Builder::default();
    feed(&mut builder, value);
    builder.finish()
}

/// With kinds and lengths, so that no two values read the same; a table's keys are sorted.
fn feed(builder: &mut Sha256Builder, value: &Value) {
    let mut text = |kind: u8, text: &str| {
        builder.bytes(&[kind]);
        builder.part(text.as_bytes());
    };
    match value {
        Value::String(string) => text(b's', string),
        Value::Integer(number) => text(b'i', &number.to_string()),
        Value::Float(number) => text(b'f', &number.to_string()),
        Value::Boolean(switch) => text(b'b', &switch.to_string()),
        Value::Datetime(date) => text(b'd', &date.to_string()),
        Value::Array(values) => {
            text(b'a', &values.len().to_string());
            values.iter().for_each(|value| feed(builder, value));
        }
        Value::Table(table) => {
            text(b't', &table.len().to_string());
            for (key, value) in table {
                feed(builder, &Value::String(key.clone()));
                feed(builder, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> ConfigFingerprint {
        ConfigFingerprint::of(&text.parse().unwrap())
    }

    fn between(now: &str, fresh: &str) -> Changes {
        Changes::between(&written(now), &written(now), &written(fresh))
    }

    #[test]
    fn keys_are_told_by_their_paths_and_blocks_by_their_names() {
        let now = "[limits]\nmax_in_flight = 5\nmax_queued = 3\n[citrix]\nclient_secret = { file = '/a' }\n\
            [[customer]]\ncustomer_id = 'a'\n[[customer]]\ncustomer_id = 'b'\n[[caller]]\nname = 'c'\n";
        let fresh = "[limits]\nmax_in_flight = 6\n[token]\nrefresh_at = 0.5\n[citrix]\nclient_secret = { file = '/b' }\n\
            [[customer]]\ncustomer_id = 'b'\ncloud = 'eu'\n[[caller]]\nname = 'c'\n[[route]]\nprefix = '/r'\n";
        let changes = between(now, fresh);
        assert_eq!(
            changes.keys,
            [
                "citrix.client_secret",
                "limits.max_in_flight",
                "limits.max_queued",
                "token.refresh_at"
            ]
        );
        assert_eq!(changes.added, ["route /r"]);
        assert_eq!(changes.removed, ["customer a"]);
        assert_eq!(changes.changed, ["customer b"]);
        assert!(changes.restart_required.is_empty() && !changes.unchanged);
    }

    #[test]
    fn order_comments_and_quotes_change_nothing() {
        let now = "[limits]\nmax_in_flight = 5\nmax_queued = 3\n";
        let fresh = "# Queues.\n[limits]\nmax_queued = 3 # three\nmax_in_flight = 5\n";
        assert_eq!(
            between(now, fresh),
            Changes {
                unchanged: true,
                ..Changes::default()
            }
        );
        assert!(!between("[a]\nb = '5'\n", "[a]\nb = 5\n").unchanged);
    }

    #[test]
    fn a_key_whose_file_holds_something_else_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        let with = |held: &str, text: &str| {
            std::fs::write(&key, held).unwrap();
            written(text).with(
                [(
                    "login.signing_key".to_owned(),
                    FileDigest::of(&key, crate::system::files::FileKind::Configuration),
                )]
                .into(),
            )
        };
        let text = "[login]\nsigning_key = { file = '/k' }\n";
        let now = with("first", text);
        let changes = Changes::between(&now, &now, &with("second", text));
        assert_eq!(
            (changes.keys, changes.unchanged),
            (vec!["login.signing_key".to_owned()], false)
        );
        let named_otherwise = with("second", &text.replace("/k", "/l"));
        assert_eq!(
            Changes::between(&now, &now, &named_otherwise).keys,
            ["login.signing_key"]
        );
        assert!(Changes::between(&now, &now, &with("first", text)).unchanged);
    }

    #[test]
    fn a_key_of_the_start_needs_a_restart_until_it_is_as_it_was() {
        let [first, second] = [
            "[listen]\nworkers = 1\n",
            "[listen]\nworkers = 2\ntls = { key = 'k' }\n",
        ]
        .map(written);
        let needed = ["listen.tls.key".to_owned(), "listen.workers".to_owned()];
        let changes = Changes::between(&first, &first, &second);
        assert_eq!(
            (changes.restart_required, changes.unchanged),
            (needed.to_vec(), false)
        );
        let changes = Changes::between(&first, &second, &second);
        assert_eq!(
            (changes.restart_required, changes.unchanged),
            (needed.to_vec(), true)
        );
        let changes = Changes::between(&first, &second, &first);
        assert_eq!(
            (changes.restart_required, changes.unchanged),
            (Vec::new(), false)
        );
    }

    #[test]
    fn the_manual_names_the_keys_of_the_start() {
        let manual = include_str!("../../docs/configuration.md");
        let (_, manual) = manual
            .split_once("These keys are read at start only")
            .unwrap();
        let (sentence, _) = manual.split_once(". (").unwrap();
        let named: Vec<_> = sentence
            .split('`')
            .skip(1)
            .step_by(2)
            .map(|key| key.trim_end_matches(".*"))
            .collect();
        assert_eq!(named, BOOT_KEYS);
    }

    #[test]
    fn a_long_list_is_cut() {
        let names = |count: usize| {
            (0..count)
                .map(|number| number.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(join_names(&names(0)), None);
        assert_eq!(join_names(&names(3)).as_deref(), Some("0, 1, 2"));
        assert!(
            join_names(&names(50))
                .unwrap()
                .ends_with(", 19 and 30 more")
        );
    }

    #[test]
    fn what_is_kept_prints_no_value() {
        let printed = format!("{:?}", written("[citrix]\nclient_secret = 'c4nary'\n"));
        assert_eq!(printed, r#"{"citrix.client_secret"}"#);
    }
}
