//! Links, anchors, file names and configuration examples of the documents are valid.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use citrix_auth_proxy::config;

/// Documents outside `docs/`.
const AT_THE_TOP: [&str; 5] = [
    "README.md",
    "SECURITY.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
];
/// Folders whose files the documents name by their full path.
const FOLDERS: [&str; 7] = [
    "benches/", "crates/", "deploy/", "docs/", "fuzz/", "src/", "tests/",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns all documents by their paths from the repository root.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut paths: Vec<_> = AT_THE_TOP.iter().map(PathBuf::from).collect();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(root().join(path)).unwrap()))
        .collect()
}

/// Returns the prose of a document, and its code blocks with their languages.
fn parts(text: &str) -> (String, Vec<(&str, String)>) {
    let (mut prose, mut blocks, mut within) = (String::new(), Vec::new(), false);
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(language) if !within => {
                blocks.push((language, String::new()));
                within = true;
            }
            Some(_) => within = false,
            None => {
                let to = if within {
                    &mut blocks.last_mut().unwrap().1
                } else {
                    &mut prose
                };
                to.push_str(line);
                to.push('\n');
            }
        }
    }
    assert!(!within, "unterminated code block");
    (prose, blocks)
}

/// Returns all texts between `open` and `close`.
fn between<'a>(text: &'a str, open: &str, close: char) -> Vec<&'a str> {
    text.split(open)
        .skip(1)
        .filter_map(|rest| rest.split_once(close))
        .map(|(inner, _)| inner)
        .collect()
}

/// Returns the anchors that GitHub generates for the headings of a document.
fn anchors(prose: &str) -> BTreeSet<String> {
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = |char: &char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_');
        heading
            .chars()
            .filter(kept)
            .map(|char| if char == ' ' { '-' } else { char })
            .collect()
    };
    headings.map(anchor).collect()
}

/// Returns a path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
        plain
    })
}

/// Returns the links of a document within the repository: target and anchor.
fn links<'a>(from: &Path, prose: &'a str) -> Vec<(PathBuf, &'a str)> {
    let is_local = |link: &&str| !link.contains("://");
    let resolve = |link: &'a str| {
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let path = if path.is_empty() {
            from.to_owned()
        } else {
            from.with_file_name("").join(path)
        };
        (plain(&path), anchor)
    };
    between(prose, "](", ')')
        .into_iter()
        .filter(is_local)
        .map(resolve)
        .collect()
}

#[test]
fn links_and_anchors_resolve() {
    let documents = documents();
    let mut broken = Vec::new();
    for (from, text) in &documents {
        let (prose, _) = parts(text);
        for (path, anchor) in links(from, &prose) {
            let target = documents.get(&path).map(|text| anchors(&parts(text).0));
            let anchored =
                anchor.is_empty() || target.is_some_and(|anchors| anchors.contains(anchor));
            if !root().join(&path).exists() || !anchored {
                broken.push(format!("{}: {}#{anchor}", from.display(), path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_document_is_reachable_from_the_readme() {
    let documents = documents();
    let mut found = BTreeSet::new();
    let mut next = vec![PathBuf::from("README.md")];
    while let Some(path) = next.pop() {
        if let Some(text) = documents.get(&path).filter(|_| found.insert(path.clone())) {
            next.extend(links(&path, &parts(text).0).into_iter().map(|(to, _)| to));
        }
    }
    let unreachable: Vec<_> = documents
        .keys()
        .filter(|path| !found.contains(*path))
        .collect();
    assert!(unreachable.is_empty(), "{unreachable:?}");
}

#[test]
fn named_files_exist() {
    let is_path = |name: &&str| FOLDERS.iter().any(|folder| name.starts_with(folder));
    let is_one = |name: &&str| !name.contains([' ', '{', '*', '<']);
    let mut missing = Vec::new();
    for (from, text) in documents() {
        let (prose, _) = parts(&text);
        for name in prose
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(is_path)
            .filter(is_one)
        {
            if !root().join(name).exists() {
                missing.push(format!("{}: {name}", from.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Returns the problems of a configuration example. Before parsing, `…` is replaced by a hash and
/// each client secret by a plain one, and a customer is added if the example has none.
fn problems_of(block: &str) -> Vec<String> {
    let hash = "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2";
    let with_secret = |line: &str| match line.split_once('=') {
        Some((key, _)) if key.trim() == "client_secret" => "client_secret = \"secret\"".to_owned(),
        _ => line.replace('…', hash),
    };
    let text: Vec<_> = block.lines().map(with_secret).collect();
    let text = text.join("\n");
    let customer = between(&text, "customers = [\"", '"')
        .first()
        .map_or("acme", |customer| customer)
        .to_owned();
    let customer_keys = [
        "CITRIX_CUSTOMER_ID",
        "CITRIX_CLIENT_ID",
        "CITRIX_CLIENT_SECRET",
    ];
    let has_customer = text.contains("[citrix]") || text.contains("[[customer]]");
    let named = customer_keys
        .iter()
        .filter(|_| !has_customer)
        .map(|name| ((*name).to_owned(), customer.clone()));
    let is_public = text.contains("0.0.0.0") && !text.contains("[[caller]]");
    let text = if is_public {
        format!("{text}\n[insecure]\nallow_anonymous = true\n")
    } else {
        text
    };
    let problems = config::from_toml(&text, named).err().unwrap_or_default();
    // The certificate files of the examples do not exist.
    let unrelated_to_files = |problem: &String| !problem.contains("cannot read");
    problems
        .iter()
        .map(ToString::to_string)
        .filter(unrelated_to_files)
        .collect()
}

#[test]
fn configuration_examples_are_valid() {
    let mut checked = 0;
    let mut wrong = Vec::new();
    for (from, text) in documents() {
        for (_, block) in parts(&text)
            .1
            .into_iter()
            .filter(|(language, _)| *language == "toml")
        {
            checked += 1;
            wrong.extend(
                problems_of(&block)
                    .iter()
                    .map(|problem| format!("{}: {problem}", from.display())),
            );
        }
    }
    assert!(checked >= 8, "only {checked} blocks were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
