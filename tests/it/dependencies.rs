//! docs/dependencies.md: each direct dependency of the shipped binary has been reviewed in the
//! version that `Cargo.lock` has.

use std::collections::BTreeSet;

use toml::Table;

const DOCUMENT: &str = include_str!("../../docs/dependencies.md");
const LOCK_FILE: &str = include_str!("../../Cargo.lock");
/// The manifests of the crates that the binary contains.
const MANIFESTS: [&str; 4] = [
    include_str!("../../Cargo.toml"),
    include_str!("../../crates/citrix-emulator/Cargo.toml"),
    include_str!("../../crates/citrix-wire/Cargo.toml"),
    include_str!("../../crates/fleet-protocol/Cargo.toml"),
];

/// Returns names and versions in the document, in its order.
fn reviewed() -> Vec<(&'static str, &'static str)> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, version, _maintainer, number, _purpose, level] = cells[..] else {
            panic!("not six cells: {row}");
        };
        assert!(number.parse::<u32>().is_ok(), "{row}");
        assert!(["read", "searched"].contains(&level), "{row}");
        (name.trim_matches('`'), version)
    })
    .collect()
}

/// Returns the names of the dependencies that are no crates of this workspace.
fn direct() -> BTreeSet<String> {
    let manifest: Table = MANIFESTS[0].parse().unwrap();
    let own = |name: &str| {
        manifest["workspace"]["dependencies"][name]
            .get("path")
            .is_some()
    };
    let names = MANIFESTS.iter().flat_map(|text| {
        let manifest: Table = text.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap().clone();
        dependencies.into_iter().map(|(name, _)| name)
    });
    names.filter(|name| !own(name)).collect()
}

#[test]
fn each_direct_dependency_has_been_reviewed() {
    let reviewed: Vec<_> = reviewed().iter().map(|(name, _)| *name).collect();
    assert!(reviewed.is_sorted(), "{reviewed:?}");
    let direct = direct();
    assert!(direct.len() > 50, "{direct:?}");
    let names: BTreeSet<_> = reviewed.iter().map(ToString::to_string).collect();
    let differences: Vec<_> = names.symmetric_difference(&direct).collect();
    assert!(differences.is_empty(), "{differences:?}");
}

#[test]
fn reviewed_versions_are_those_of_the_lock_file() {
    let outdated: Vec<_> = reviewed()
        .into_iter()
        .filter(|(name, version)| {
            !LOCK_FILE.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n"))
        })
        .collect();
    assert!(outdated.is_empty(), "review these updates: {outdated:?}");
}
