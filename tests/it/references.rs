//! References of comments and documents to the wire contract (`contract §1.1`) and to the external
//! interface (`interface §4.1`) resolve.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Words that begin a reference, and the documents whose headings they cite.
const DOCUMENTS: [(&str, &str); 2] = [
    ("contract", "docs/citrix-contract.md"),
    ("interface", "docs/interface.md"),
];
/// Words that must not be followed by a bare section number.
const OLD_STYLE: [&str; 3] = ["contract", "design", "interface"];
/// Folders with code and documents. Markdown is also read from the root.
const FOLDERS: [&str; 6] = ["benches", "crates", "docs", "fuzz", "src", "tests"];
/// Separators between the sections of one reference.
const SEPARATORS: [&str; 3] = [", and ", ", ", " and "];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files with the extension `rs` or `md`, by their paths from the repository's root.
fn files() -> Vec<PathBuf> {
    let in_root = fs::read_dir(root()).unwrap();
    let mut files: Vec<_> = in_root
        .map(|entry| PathBuf::from(entry.unwrap().file_name()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    let mut folders: Vec<_> = FOLDERS.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root().join(&folder)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let is_text = path
                .extension()
                .is_some_and(|extension| extension == "rs" || extension == "md");
            if entry.file_type().unwrap().is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if is_text {
                files.push(path);
            }
        }
    }
    files
}

/// Joins the lines of a file without comment markers and indentation, so that a line break splits
/// no reference.
fn joined(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim();
        let comment = ["//!", "///", "//"]
            .iter()
            .find_map(|marker| line.strip_prefix(marker));
        comment.unwrap_or(line).trim()
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// Numbers of a document's headings: `4.1` for `### 4.1 Upstream request`.
fn sections(document: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    text.lines()
        .filter(|line| line.starts_with('#'))
        .filter_map(|line| number(line.trim_start_matches('#').trim_start()))
        .map(str::to_owned)
        .collect()
}

/// Returns the section number that `text` begins with, without a trailing full stop.
fn number(text: &str) -> Option<&str> {
    let end = text
        .find(|char: char| !char.is_ascii_digit() && char != '.')
        .unwrap_or(text.len());
    let number = text[..end].trim_end_matches('.');
    (!number.is_empty()).then_some(number)
}

/// Texts that follow a whole word and a space.
fn after<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    text.match_indices(word)
        .filter(|(at, _)| !text[..*at].ends_with(is_part))
        .filter_map(|(at, _)| text[at + word.len()..].strip_prefix(' '))
        .collect()
}

/// Returns the sections of a reference: `3`, `4` and `5` for `§3, §4 and §5`.
fn cited(mut text: &str) -> Vec<&str> {
    let mut cited = Vec::new();
    while let Some(rest) = text.strip_prefix('§') {
        // A sign without a number is kept, and resolves to nothing.
        let section = number(rest).unwrap_or_default();
        cited.push(section);
        text = &rest[section.len()..];
        let next = SEPARATORS
            .iter()
            .find_map(|separator| text.strip_prefix(separator));
        text = next.unwrap_or_default();
    }
    cited
}

#[test]
fn references_name_sections_that_exist() {
    let documents = DOCUMENTS.map(|(word, path)| (word, path, sections(path)));
    let mut checked = 0;
    let mut wrong = Vec::new();
    for file in files() {
        let text = joined(&fs::read_to_string(root().join(&file)).unwrap());
        for (word, path, sections) in &documents {
            for section in after(&text, word).into_iter().flat_map(cited) {
                checked += 1;
                if !sections.contains(section) {
                    wrong.push(format!("{}: {path} has no §{section}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked >= 100, "only {checked} references were found");
}

#[test]
fn references_have_a_section_sign() {
    let mut wrong = Vec::new();
    for file in files() {
        let text = joined(&fs::read_to_string(root().join(&file)).unwrap());
        for word in OLD_STYLE {
            let bare = after(&text, word).into_iter().filter_map(number);
            wrong.extend(bare.map(|section| format!("{}: {word} {section}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn reference_forms_are_recognized() {
    assert_eq!(cited("§4.1)."), ["4.1"]);
    assert_eq!(cited("§3, §4 and §1.6. Text"), ["3", "4", "1.6"]);
    assert_eq!(cited("§4, \"Limits\""), ["4"]);
    assert_eq!(cited("§x"), [""]);
    let text = joined("//! Text (contract\n//! §1) of_contract 2 contract_3");
    assert_eq!(after(&text, "contract"), ["§1) of_contract 2 contract_3"]);
    assert_eq!(number("1.1 Two generations"), Some("1.1"));
    assert_eq!(number("4. Services"), Some("4"));
    assert_eq!(number("Sources"), None);
}

/// Returns the promises of SECURITY.md, each with the text in backticks that follows the dash.
fn promises(text: &str) -> Vec<(String, Vec<&str>)> {
    let (_, section) = text.split_once("## Promises\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let first_line = |promise: &str| promise.lines().next().unwrap_or_default().to_owned();
    let bullets = section.split("\n- ").skip(1);
    bullets
        .map(|bullet| {
            let (_, evidence) = bullet
                .rsplit_once(" – ")
                .or_else(|| bullet.rsplit_once(" –\n"))
                .unwrap_or_default();
            (
                first_line(bullet),
                evidence.split('`').skip(1).step_by(2).collect(),
            )
        })
        .collect()
}

#[test]
fn promises_of_security_md_name_tests_that_exist() {
    let security = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let promises = promises(&security);
    let mut tests = BTreeSet::new();
    for file in files() {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            // Other attributes may follow.
            if line == "#[test]" || line.starts_with("#[tokio::test") {
                let function = lines
                    .find(|line| !line.starts_with('#'))
                    .unwrap_or_default();
                let name = function
                    .split("fn ")
                    .nth(1)
                    .and_then(|rest| rest.split('(').next());
                tests.extend(name.map(str::to_owned));
            }
        }
    }
    let mut wrong = Vec::new();
    for (promise, evidence) in &promises {
        // `named_files_exist` checks paths.
        let (paths, names): (Vec<&str>, Vec<&str>) = evidence
            .iter()
            .copied()
            .partition(|name| name.contains('/'));
        wrong.extend(
            names
                .iter()
                .filter(|name| !tests.contains(**name))
                .map(|name| format!("{promise}: no test {name}")),
        );
        if paths.is_empty() && names.is_empty() {
            wrong.push(format!("{promise}: no evidence"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        promises.len() >= 25,
        "only {} promises were found",
        promises.len()
    );
}
