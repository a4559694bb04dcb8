//! The difference between two configurations, by names of keys and blocks, never by values.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use super::key::{below, is_at_or_below};
use super::raw;
use crate::system::digest::{Sha256, Sha256Builder};
use crate::system::files::FileDigest;

/// Keys, and tables of keys, that are read at start only.
pub const BOOT_KEYS: [&str; 19] = [
    "admin",
    "fleet.lease",
    "fleet.limits",
    "fleet.name",
    "fleet.replica",
    "fleet.sentinel_master",
    "fleet.sentinel_password",
    "fleet.sentinels",
    "fleet.tls",
    "fleet.tokens",
    "fleet.url",
    "insecure.plain_fleet",
    "intercept.address",
    "intercept.ca",
    "listen.address",
    "listen.tls",
    "listen.unix_mode",
    "listen.workers",
    "log.format",
];
/// Keys that differ between replicas of a fleet.
const OWN_KEYS: [&str; 4] = [
    "admin.address",
    "fleet.replica",
    "intercept.address",
    "listen.address",
];
/// Arrays of tables, each with the key that identifies a block.
const BLOCKS: [(&str, &str); 3] = [
    ("caller", "name"),
    ("customer", "customer_id"),
    ("route", "prefix"),
];

/// Hashes of all keys and blocks that the file and the environment set. Values may be secrets, so
/// they are not kept.
#[derive(Clone, Default)]
pub struct ConfigFingerprint {
    keys: BTreeMap<String, Sha256>,
    blocks: BTreeMap<String, Sha256>,
    /// Files whose content is part of the configuration, by the key that names them.
    files: BTreeMap<String, FileDigest>,
}

impl fmt::Debug for ConfigFingerprint {
    /// Omits the hashes: a weak secret can be guessed from one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.keys.keys())
            .entries(self.blocks.keys())
            .finish()
    }
}

impl ConfigFingerprint {
    pub(super) fn of(table: &Table) -> Self {
        let mut fingerprint = Self::default();
        let leaves = raw::leaves();
        for (name, value) in table {
            match (BLOCKS.iter().find(|(block, _)| block == name), value) {
                (Some((block, key)), Value::Array(blocks)) => {
                    for value in blocks {
                        let id = value.get(key).and_then(Value::as_str).unwrap_or_default();
                        fingerprint
                            .blocks
                            .insert(format!("{block} {id}"), hash(value));
                    }
                }
                _ => fingerprint.add(name.clone(), value, &leaves),
            }
        }
        fingerprint
    }

    pub(super) fn with_files(mut self, files: BTreeMap<String, FileDigest>) -> Self {
        self.files = files;
        self
    }

    /// Returns a hash of what replicas of a fleet have in common.
    pub fn shared(&self) -> Sha256 {
        let mut builder = Sha256Builder::default();
        let is_shared = |path: &str| !OWN_KEYS.iter().any(|key| is_at_or_below(path, key));
        let keys = self.keys.iter().filter(|(path, _)| is_shared(path));
        for (name, hash) in keys.chain(&self.blocks) {
            builder.part(name.as_bytes());
            builder.part(hash.to_hex().as_bytes());
        }
        builder.finish()
    }

    /// Returns the files whose content is part of the configuration.
    pub fn files(&self) -> impl Iterator<Item = &FileDigest> {
        self.files.values()
    }

    fn add(&mut self, path: String, value: &Value, leaves: &[String]) {
        match value {
            Value::Table(table) if !leaves.contains(&path) => {
                for (key, value) in table {
                    self.add(below(&path, key), value, leaves);
                }
            }
            value => drop(self.keys.insert(path, hash(value))),
        }
    }
}

/// The difference between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that were set, changed or removed, or whose file changed. Without [`BOOT_KEYS`].
    pub keys: Vec<String>,
    /// New blocks, such as `customer contoso`.
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<String>,
    /// [`BOOT_KEYS`] whose value differs from that at start.
    pub restart_required: Vec<String>,
    /// Whether the two configurations are equal.
    pub unchanged: bool,
}

impl Changes {
    /// Compares `current` with `new`, in a process that was started with `at_start`.
    pub fn between(
        at_start: &ConfigFingerprint,
        current: &ConfigFingerprint,
        new: &ConfigFingerprint,
    ) -> Self {
        let mut keys = differing(&current.keys, &new.keys);
        keys.extend(differing(&current.files, &new.files));
        keys.sort_unstable();
        keys.dedup();
        let (boot, keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| is_boot_key(key));
        let blocks = differing(&current.blocks, &new.blocks);
        let unchanged = boot.is_empty() && keys.is_empty() && blocks.is_empty();
        let (removed, present): (Vec<_>, Vec<_>) = blocks
            .into_iter()
            .partition(|block| !new.blocks.contains_key(block));
        let (changed, added) = present
            .into_iter()
            .partition(|block| current.blocks.contains_key(block));
        let mut restart_required = differing(&at_start.keys, &new.keys);
        restart_required.retain(|key| is_boot_key(key));
        Self {
            keys,
            added,
            removed,
            changed,
            restart_required,
            unchanged,
        }
    }
}

fn is_boot_key(path: &str) -> bool {
    BOOT_KEYS.iter().any(|key| is_at_or_below(path, key))
}

/// Returns the names whose values differ, or that only one side has.
fn differing<V: PartialEq>(one: &BTreeMap<String, V>, other: &BTreeMap<String, V>) -> Vec<String> {
    let removed = one.keys().filter(|name| !other.contains_key(*name));
    let new = other
        .iter()
        .filter(|(name, value)| one.get(*name) != Some(value))
        .map(|(name, _)| name);
    let mut names: Vec<String> = removed.chain(new).cloned().collect();
    names.sort_unstable();
    names
}

fn hash(value: &Value) -> Sha256 {
    let mut builder = Sha256Builder::default();
    update(&mut builder, value);
    builder.finish()
}

/// Hashes types and lengths too, so that different values never have the same input. A table
/// iterates in key order.
fn update(builder: &mut Sha256Builder, value: &Value) {
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
            values.iter().for_each(|value| update(builder, value));
        }
        Value::Table(table) => {
            text(b't', &table.len().to_string());
            for (key, value) in table {
                update(builder, &Value::String(key.clone()));
                update(builder, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::join_names;
    use super::*;
    use crate::system::files::FileKind;

    fn fingerprint(text: &str) -> ConfigFingerprint {
        ConfigFingerprint::of(&text.parse().unwrap())
    }

    fn between(current: &str, new: &str) -> Changes {
        Changes::between(
            &fingerprint(current),
            &fingerprint(current),
            &fingerprint(new),
        )
    }

    #[test]
    fn changes_list_keys_by_path_and_blocks_by_name() {
        let current = "[limits]\nmax_in_flight = 5\nmax_queued = 3\n[citrix]\nclient_secret = { file = '/a' }\n\
            [[customer]]\ncustomer_id = 'a'\n[[customer]]\ncustomer_id = 'b'\n[[caller]]\nname = 'c'\n";
        let new = "[limits]\nmax_in_flight = 6\n[token]\nrefresh_at = 0.5\n[citrix]\nclient_secret = { file = '/b' }\n\
            [[customer]]\ncustomer_id = 'b'\ncloud = 'eu'\n[[caller]]\nname = 'c'\n[[route]]\nprefix = '/r'\n";
        let changes = between(current, new);
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
    fn shared_hash_ignores_names_and_addresses_of_replicas() {
        let of = |text: &str| fingerprint(text).shared();
        let text = "[fleet]\nreplica = 'a'\nname = 'x'\n[listen]\naddress = '0.0.0.0:1'\n";
        let other_replica = text.replace("'a'", "'b'").replace(":1", ":2");
        assert_eq!(of(text), of(&other_replica));
        assert_ne!(of(text), of(&text.replace("'x'", "'y'")));
        assert_ne!(of(text), of(&format!("{text}[[caller]]\nname = 'c'\n")));
    }

    #[test]
    fn other_order_comments_and_quotes_are_unchanged() {
        let current = "[limits]\nmax_in_flight = 5\nmax_queued = 3\n";
        let new = "# Queues.\n[limits]\nmax_queued = 3 # three\nmax_in_flight = 5\n";
        assert_eq!(
            between(current, new),
            Changes {
                unchanged: true,
                ..Changes::default()
            }
        );
        assert!(!between("[a]\nb = '5'\n", "[a]\nb = 5\n").unchanged);
    }

    #[test]
    fn changed_file_content_lists_the_key_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        let with = |content: &str, text: &str| {
            std::fs::write(&key, content).unwrap();
            fingerprint(text).with_files(
                [(
                    "login.signing_key".to_owned(),
                    FileDigest::of(&key, FileKind::Configuration),
                )]
                .into(),
            )
        };
        let text = "[login]\nsigning_key = { file = '/k' }\n";
        let current = with("first", text);
        let changes = Changes::between(&current, &current, &with("second", text));
        assert_eq!(
            (changes.keys, changes.unchanged),
            (vec!["login.signing_key".to_owned()], false)
        );
        let other_path = with("second", &text.replace("/k", "/l"));
        assert_eq!(
            Changes::between(&current, &current, &other_path).keys,
            ["login.signing_key"]
        );
        assert!(Changes::between(&current, &current, &with("first", text)).unchanged);
    }

    #[test]
    fn boot_key_requires_restart_until_it_has_its_initial_value() {
        let [first, second] = [
            "[listen]\nworkers = 1\n",
            "[listen]\nworkers = 2\ntls = { key = 'k' }\n",
        ]
        .map(fingerprint);
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
    fn documentation_lists_the_boot_keys() {
        let page = include_str!("../../docs/configuration.md");
        let (_, rest) = page
            .split_once("These keys are read at start only")
            .unwrap();
        let (sentence, _) = rest.split_once(". (").unwrap();
        let named: Vec<_> = sentence
            .split('`')
            .skip(1)
            .step_by(2)
            .map(|key| key.trim_end_matches(".*"))
            .collect();
        assert_eq!(named, BOOT_KEYS);
    }

    #[test]
    fn long_list_of_names_is_truncated() {
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
    fn debug_output_has_no_values() {
        let printed = format!("{:?}", fingerprint("[citrix]\nclient_secret = 'c4nary'\n"));
        assert_eq!(printed, r#"{"citrix.client_secret"}"#);
    }
}
