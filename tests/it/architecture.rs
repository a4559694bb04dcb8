//! The module table of ARCHITECTURE.md holds: a module of `src` uses only those below it, and no
//! files form a cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 4] = [
    "src",
    "crates/citrix-wire/src",
    "crates/citrix-emulator/src",
    "crates/fleet-protocol/src",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Modules in the order of the table, the highest first.
fn module_table() -> Vec<String> {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = document.split_once("\n## Modules\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Returns the code of each file below `folder` without tests and comments, by its module path.
pub(super) fn sources(folder: &str) -> BTreeMap<Vec<String>, String> {
    let top = root().join(folder);
    let mut sources = BTreeMap::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = module_path(path.strip_prefix(&top).unwrap());
                if !module.iter().any(|name| name == "tests") {
                    sources.insert(module, code(&fs::read_to_string(path).unwrap()));
                }
            }
        }
    }
    sources
}

fn module_path(file: &Path) -> Vec<String> {
    let path: PathBuf = file.with_extension("");
    let name = |part: &std::ffi::OsStr| part.to_str().unwrap().to_owned();
    path.iter().map(name).collect()
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

/// Returns the paths that `text` names behind `crate::`; a list in braces counts as one path for
/// each item.
fn paths_from_the_crate(text: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for rest in text.split("crate::").skip(1) {
        expand(rest, &mut Vec::new(), &mut paths);
    }
    paths
}

/// Reads one path of a use tree from the start of `rest`; returns what follows it.
fn expand<'t>(rest: &'t str, prefix: &mut Vec<String>, paths: &mut Vec<Vec<String>>) -> &'t str {
    let depth = prefix.len();
    let mut rest = rest.trim_start();
    loop {
        if let Some(list) = rest.strip_prefix('{') {
            rest = list.trim_start();
            while !rest.starts_with('}') {
                rest = expand(rest, prefix, paths).trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
            }
            rest = &rest[1..];
            break;
        }
        let end = rest
            .find(|char: char| !char.is_alphanumeric() && char != '_')
            .unwrap_or(rest.len());
        if end == 0 {
            // A glob or the end of a path.
            rest = rest.strip_prefix('*').unwrap_or(rest);
            paths.push(prefix.clone());
            break;
        }
        prefix.push(rest[..end].to_owned());
        match rest[end..].strip_prefix("::") {
            Some(next) => rest = next,
            None => {
                rest = &rest[end..];
                paths.push(prefix.clone());
                break;
            }
        }
    }
    prefix.truncate(depth);
    rest
}

/// Returns the deepest file that a path resolves to.
fn file_of<'s>(
    sources: &'s BTreeMap<Vec<String>, String>,
    path: &[String],
) -> Option<&'s Vec<String>> {
    (1..=path.len())
        .rev()
        .find_map(|length| sources.get_key_value(&path[..length]))
        .map(|(file, _)| file)
}

/// Dependencies of a pure crate: none has sockets, a runtime or a clock.
#[test]
fn fleet_protocol_depends_on_no_runtime() {
    let manifest = fs::read_to_string(root().join("crates/fleet-protocol/Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("[dependencies]\n").unwrap();
    let dependencies = rest.split("\n\n").next().unwrap();
    assert_eq!(
        dependencies,
        "citrix-wire.workspace = true\nfastrand.workspace = true"
    );
    for (file, code) in sources("crates/fleet-protocol/src") {
        for clock in ["Instant", "SystemTime", "std::net", "std::thread"] {
            assert!(!code.contains(clock), "{} uses {clock}", file.join("/"));
        }
    }
}

#[test]
fn modules_use_only_modules_below_them() {
    let order = module_table();
    let sources = sources("src");
    let rank = |module: &str| order.iter().position(|name| name == module);
    let is_module = |path: &&Vec<String>| !["lib", "main"].contains(&path[0].as_str());
    let modules: BTreeSet<&String> = sources
        .keys()
        .filter(is_module)
        .map(|path| &path[0])
        .collect();
    assert_eq!(
        modules,
        order.iter().collect(),
        "the table of ARCHITECTURE.md"
    );
    let mut upwards = Vec::new();
    for (file, text) in sources.iter().filter(|(path, _)| is_module(path)) {
        for path in paths_from_the_crate(text) {
            let own = rank(&file[0]);
            if path[0] != file[0] && rank(&path[0]).is_none_or(|used| Some(used) <= own) {
                upwards.push(format!("{} uses {}", file.join("/"), path.join("::")));
            }
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
}

/// Which files each file uses, by `crate::` and `super::`. A file and its own submodules are one
/// unit.
fn uses(sources: &BTreeMap<Vec<String>, String>) -> BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> {
    let mut uses: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (file, text) in sources {
        let mut paths = paths_from_the_crate(text);
        for rest in text.split("use super::").skip(1) {
            let (mut parent, mut rest) = (&file[..file.len() - 1], rest);
            while let Some(further) = rest.strip_prefix("super::") {
                (parent, rest) = (&parent[..parent.len() - 1], further);
            }
            expand(rest, &mut parent.to_vec(), &mut paths);
        }
        let used = paths.iter().filter_map(|path| file_of(sources, path));
        let related = |other: &&Vec<String>| other.starts_with(file) || file.starts_with(other);
        uses.insert(file, used.filter(|other| !related(other)).collect());
    }
    uses
}

/// The steps of the data path run in alphabetical order: a step may use the types of the steps
/// before it.
#[test]
fn steps_of_the_data_path_use_only_earlier_steps() {
    let sources = sources("src");
    let step = |file: &Vec<String>| (file[0] == "proxy").then(|| file.get(1).cloned()).flatten();
    let mut backwards = Vec::new();
    for (file, used) in uses(&sources) {
        let later = |other: &&&Vec<String>| step(file).is_some() && step(other) > step(file);
        for other in used.iter().filter(later) {
            backwards.push(format!("{} uses {}", file.join("/"), other.join("/")));
        }
    }
    assert!(backwards.is_empty(), "{backwards:#?}");
}

#[test]
fn no_files_use_each_other_in_a_cycle() {
    let mut cycles = Vec::new();
    for folder in CRATES {
        let sources = sources(folder);
        let uses = uses(&sources);
        // Files that use nothing, or only files already taken, are taken until the rest is cycles.
        let mut left: BTreeSet<_> = sources.keys().collect();
        loop {
            let free = |file: &&Vec<String>| uses[*file].is_disjoint(&left);
            let taken: Vec<_> = left.iter().copied().filter(free).collect();
            if taken.is_empty() {
                break;
            }
            left.retain(|file| !taken.contains(file));
        }
        // The same from the other side: what no file in a cycle uses is not part of one.
        loop {
            let used: BTreeSet<_> = left.iter().flat_map(|file| &uses[*file]).copied().collect();
            let before = left.len();
            left.retain(|file| used.contains(file));
            if left.len() == before {
                break;
            }
        }
        for file in &left {
            let used: Vec<String> = uses[*file]
                .intersection(&left)
                .map(|f| f.join("/"))
                .collect();
            cycles.push(format!(
                "{folder}/{} uses {}",
                file.join("/"),
                used.join(", ")
            ));
        }
    }
    assert!(cycles.is_empty(), "{cycles:#?}");
}
