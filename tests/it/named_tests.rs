//! Tables of documents that name the tests which show what they state.

use std::fs;
use std::path::Path;

/// The first parts of the names of tests, and the folders of their modules.
const FOLDERS: [(&str, &str); 5] = [
    ("citrix_wire", "crates/citrix-wire/src"),
    ("fleet_protocol", "crates/fleet-protocol/tests/it"),
    ("it", "tests/it"),
    ("lib", "src"),
    ("process", "tests/process"),
];

/// Returns the cells of each row of the tables in `part`.
pub fn table_rows(part: &str) -> impl Iterator<Item = Vec<&str>> {
    let is_rule = |line: &str| line.starts_with("|---");
    // The names of the columns are above the rule.
    let below = part.lines().skip(1).chain([""]);
    let rows = part
        .lines()
        .zip(below)
        .filter(move |(line, below)| line.starts_with('|') && !is_rule(line) && !is_rule(below));
    rows.map(|(row, _)| row.trim_matches('|').split('|').map(str::trim).collect())
}

/// Returns the names of tests in a cell, and the text around them.
pub fn parts(shown_by: &str) -> (Vec<&str>, String) {
    let pieces: Vec<_> = shown_by.split('`').collect();
    assert!(pieces.len() % 2 == 1, "unbalanced: {shown_by}");
    let quoted = pieces.iter().skip(1).step_by(2);
    let names = quoted.filter(|name| name.contains("::")).copied().collect();
    (names, pieces.iter().step_by(2).copied().collect())
}

/// Returns `true` if the code has a test with this name.
fn has_test(code: &str, name: &str) -> bool {
    let lines: Vec<_> = code.lines().map(str::trim_start).collect();
    let is_definition = |line: &str| {
        let definition = line.strip_prefix("async ").unwrap_or(line);
        let rest = definition
            .strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with('('))
    };
    let definitions = (0..lines.len()).filter(|&at| is_definition(lines[at]));
    definitions.into_iter().any(|at| {
        let attributes = lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("#["));
        attributes
            .into_iter()
            .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

/// Returns `true` if a test exists.
pub fn exists(test: &str) -> bool {
    let parts: Vec<_> = test.split("::").collect();
    let [first, modules @ .., name] = &parts[..] else {
        return false;
    };
    let Some((_, folder)) = FOLDERS.iter().find(|(each, _)| each == first) else {
        return false;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let code = |modules: &[&str]| {
        let file = folder.join(modules.join("/")).with_extension("rs");
        fs::read_to_string(file).unwrap_or_default()
    };
    let within = match modules {
        // `mod tests` at the end of the file.
        [outer @ .., "tests"] => has_test(&code(outer), name),
        _ => false,
    };
    within || has_test(&code(modules), name)
}

/// Returns `true` if a module with tests exists, such as `it::fairness`.
pub fn is_module(name: &str) -> bool {
    let Some((first, modules)) = name.split_once("::") else {
        return false;
    };
    let folder = FOLDERS.iter().find(|(each, _)| *each == first);
    folder.is_some_and(|(_, folder)| {
        let module = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(folder)
            .join(modules.replace("::", "/"));
        let code = fs::read_to_string(module.with_extension("rs")).unwrap_or_default();
        code.contains("#[test]") || code.contains("#[tokio::test") || module.is_dir()
    })
}

/// Returns the names of tests and of their modules in a document, outside of code blocks.
pub fn names(document: &str) -> Vec<&str> {
    let prose = document.split("\n```").step_by(2);
    prose.flat_map(|part| parts(part).0).collect()
}

/// Returns the tests that these cells name and that do not exist.
pub fn missing<'d>(cells: impl Iterator<Item = &'d str>) -> Vec<&'d str> {
    cells
        .flat_map(|cell| parts(cell).0)
        .filter(|test| !exists(test))
        .collect()
}
