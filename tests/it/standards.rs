//! docs/standards.md: each requirement has its section, in order, and tests that exist or the reason
//! why there is none.

use crate::named_tests::{exists, missing, parts, table_rows};

const DOCUMENT: &str = include_str!("../../docs/standards.md");

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
        rows.extend(table_rows(part).map(|cells| {
            let [sections, requirement, shown_by] = cells[..] else {
                panic!("not three cells: {cells:?}");
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
    let missing = missing(rows.iter().map(|row| row.shown_by));
    assert!(missing.is_empty(), "{missing:#?}");
    // Neither another function nor a part of a name counts.
    for other in [
        "it::named_tests::exists",
        "it::standards::tests_of_the_requirements",
        "lib::standards::tests_of_the_requirements_exist",
    ] {
        assert!(!exists(other), "{other}");
    }
}
