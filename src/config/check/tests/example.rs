//! `config.toml.example` is the reference of all keys.

use std::collections::BTreeSet;

use toml::Table;

use super::*;
use crate::config::key::below;
use crate::config::raw;

const EXAMPLE: &str = include_str!("../../../../config.toml.example");

/// A line that sets a key.
struct Setting {
    header: String,
    line: String,
}

/// Returns all settings, commented out or not.
fn settings() -> Vec<Setting> {
    let mut found = Vec::new();
    let mut header = String::new();
    for line in EXAMPLE.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let is_key = |key: &str| {
            key.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        if bare.starts_with('[') && bare.ends_with(']') && !bare.contains(' ') {
            header = bare.to_owned();
        } else if bare.split_once(" = ").is_some_and(|(key, _)| is_key(key)) {
            found.push(Setting {
                header: header.clone(),
                line: bare.to_owned(),
            });
        }
    }
    found
}

pub(super) fn uncommented() -> String {
    let mut text = String::new();
    let mut header = String::new();
    for setting in settings() {
        if setting.header != header {
            text += &format!("{}\n", setting.header);
            header = setting.header;
        }
        text += &format!("{}\n", setting.line);
    }
    text
}

fn paths(table: &Table, known: &BTreeSet<String>, path: &str, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let at = below(path, key);
        match value {
            Value::Table(table) if !known.contains(&at) => paths(table, known, &at, found),
            Value::Array(blocks) if !known.contains(&at) => {
                blocks
                    .iter()
                    .filter_map(Value::as_table)
                    .for_each(|block| paths(block, known, &at, found));
            }
            _ => assert!(found.insert(at.clone()), "duplicate {at}"),
        }
    }
}

#[test]
fn example_is_a_valid_configuration() {
    let config = from_toml(EXAMPLE, pairs(&[LOGIN[2]]))
        .unwrap_or_else(|found| panic!("{}", printed(&found)));
    assert_eq!(config.live.credentials[0].customer(), "acme");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn example_has_every_key() {
    let known: BTreeSet<String> = raw::leaves().into_iter().collect();
    let text = uncommented();
    let mut found = BTreeSet::new();
    paths(&toml::from_str(&text).unwrap(), &known, "", &mut found);
    let missing: Vec<_> = known.difference(&found).collect();
    let unknown: Vec<_> = found.difference(&known).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "config.toml.example lacks {missing:?} and has unknown keys {unknown:?}"
    );
}

#[test]
fn each_line_of_the_example_is_a_known_key() {
    for Setting { header, line } in settings() {
        let required = match header.as_str() {
            "[[route]]" => "prefix = '/a'\nupstream = 'https://a'\n",
            "[[caller]]" => "name = 'a'\nnetworks = ['192.0.2.1']\n",
            _ => "",
        };
        let key = line.split(' ').next().unwrap();
        let required: String = required
            .lines()
            .filter(|line| !line.starts_with(key))
            .collect::<Vec<_>>()
            .join("\n");
        let text = format!("{header}\n{required}\n{line}\n");
        let problems = read(&text).err().unwrap_or_default();
        let known = !printed(&problems).contains("unknown key");
        assert!(known, "{text}{}", printed(&problems));
    }
}

#[test]
fn keys_of_the_reference_are_those_of_the_example() {
    let keys = crate::config::reference::keys();
    let paths: BTreeSet<String> = keys.iter().map(|key| key.path.clone()).collect();
    assert_eq!(paths, raw::leaves().into_iter().collect());
    assert!(keys.iter().all(|key| !key.description.is_empty()));
    let of = |path: &str| keys.iter().find(|key| key.path == path).unwrap();
    assert!(of("limits.max_queued").has_default && !of("customer.api_url").has_default);
}

#[test]
fn defaults_in_the_example_are_the_defaults() {
    let keys = crate::config::reference::keys();
    let has_default = |setting: &Setting| {
        let table = setting.header.trim_matches(['[', ']']);
        let path = below(table, setting.line.split(' ').next().unwrap());
        keys.iter().any(|key| key.path == path && key.has_default)
    };
    let mut text = String::new();
    let mut header = String::new();
    for setting in settings() {
        let off_by_default = [
            "[[route]]",
            "[[customer]]",
            "[[caller]]",
            "[listen.tls]",
            "[fleet]",
            "[intercept]",
            "[intercept.ca]",
            "[fleet.tls]",
        ]
        .contains(&setting.header.as_str());
        if off_by_default || !has_default(&setting) {
            continue;
        }
        if setting.header != header {
            text += &format!("{}\n", setting.header);
            header = setting.header;
        }
        text += &format!("{}\n", setting.line);
    }
    assert!(text.lines().count() > 30, "{text}");
    let effect = |text: &str| {
        let Config {
            boot,
            live,
            warnings,
            ..
        } = accept(text);
        format!("{boot:?} {live:?} {warnings:?}")
    };
    assert_eq!(effect(&text), effect(""));
}
