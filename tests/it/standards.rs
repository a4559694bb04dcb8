//! docs/standards.md: each requirement has its section, in order, and tests that exist or the reason
//! why there is none.

use std::fs;
use std::path::Path;

const DOCUMENT: &str = include_str!("../../docs/standards.md");

/// The first parts of the names of tests, and the folders of their modules.
const FOLDERS: [(&str, &str); 4] = [
    ("citrix_wire", "crates/citrix-wire/src"),
    ("it", "tests/it"),
    ("lib", "src"),
    ("process", "tests/process"),
];

/// A requirement.
struct Row<'d> {
    rfc: &'d str,
    sections: &'d str,
    requirement: &'d str,
    shown_by: &'d str,
}

fn rows() -> Vec<Row<'static>> {
    let mut rows = Vec::new();
    for part in DOCUMENT.split("\n## RFC ").skip(1) {
        let (rfc, _) = part.split_once(':').unwrap();
        // The first lines are the names of the columns and the rule below them.
        let lines = part.lines().filter(|line| line.starts_with('|')).skip(2);
        rows.extend(lines.map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [sections, requirement, shown_by] = cells[..] else {
                panic!("not three cells: {line}");
            };
            Row {
                rfc,
                sections,
                requirement,
                shown_by,
            }
        }));
    }
    rows
}

/// Returns the numbers of a section, such as 9.3.6.
fn numbers(section: &str) -> Option<Vec<u32>> {
    let is_number = |part: &&str| !part.is_empty() && !part.starts_with('0');
    section
        .split('.')
        .map(|part| Some(part).filter(is_number)?.parse().ok())
        .collect()
}

/// Returns the names of tests in a cell, and the text around them.
fn parts(shown_by: &str) -> (Vec<&str>, String) {
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
fn exists(test: &str) -> bool {
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

#[test]
fn each_requirement_has_its_section_and_a_test_or_a_reason() {
    let rows = rows();
    assert!(rows.len() >= 250, "only {} rows were found", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let sections: Vec<_> = row.sections.split(", ").map(numbers).collect();
        let (tests, text) = parts(row.shown_by);
        let has_reason = text.chars().any(char::is_alphabetic);
        let is_complete = sections.iter().all(Option::is_some)
            && !row.requirement.is_empty()
            && (!tests.is_empty() || has_reason);
        if !is_complete {
            wrong.push(format!("RFC {} §{}", row.rfc, row.sections));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let first = |row: &Row<'_>| numbers(row.sections.split(", ").next().unwrap());
    let unordered = rows
        .windows(2)
        .filter(|pair| pair[0].rfc == pair[1].rfc && first(&pair[0]) > first(&pair[1]));
    let unordered: Vec<_> = unordered
        .map(|pair| (pair[1].rfc, pair[1].sections))
        .collect();
    assert!(unordered.is_empty(), "{unordered:?}");
}

#[test]
fn tests_of_the_requirements_exist() {
    let rows = rows();
    let tests = rows.iter().flat_map(|row| parts(row.shown_by).0);
    let missing: Vec<_> = tests.filter(|test| !exists(test)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    // Neither another function nor a part of a name counts.
    for other in [
        "it::standards::exists",
        "it::standards::tests_of_the_requirements",
        "lib::standards::tests_of_the_requirements_exist",
    ] {
        assert!(!exists(other), "{other}");
    }
}
