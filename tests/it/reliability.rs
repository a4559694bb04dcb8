//! docs/reliability.md: each fault of the matrix has a result for the caller and tests that exist, or
//! the reason why it cannot be injected.

use crate::named_tests::{exists, is_module, missing, names, parts, table_rows};

const DOCUMENT: &str = include_str!("../../docs/reliability.md");

/// A fault, what it leads to, and the tests that show it.
struct Row<'d> {
    hop: &'d str,
    cells: [&'d str; 5],
}

/// Returns the rows of the fault matrix, by hop.
fn rows() -> Vec<Row<'static>> {
    let (_, matrix) = DOCUMENT.split_once("\n## Fault matrix\n").unwrap();
    let (matrix, _) = matrix.split_once("\n## ").unwrap();
    let mut rows = Vec::new();
    for part in matrix.split("\n### ").skip(1) {
        let hop = part.lines().next().unwrap_or_default();
        rows.extend(table_rows(part).map(|cells| {
            Row {
                hop,
                cells: cells
                    .clone()
                    .try_into()
                    .unwrap_or_else(|_| panic!("not five cells: {cells:?}")),
            }
        }));
    }
    rows
}

#[test]
fn each_fault_has_a_result_and_a_test_or_a_reason() {
    let rows = rows();
    let mut wrong = Vec::new();
    for Row { hop, cells } in &rows {
        let [fault, caller_gets, retried, recorded, shown_by] = cells;
        let (tests, text) = parts(shown_by);
        let has_reason = text.chars().any(char::is_alphabetic);
        let is_complete = [fault, caller_gets, retried, recorded]
            .iter()
            .all(|cell| !cell.is_empty());
        if !is_complete || (tests.is_empty() && !has_reason) {
            wrong.push(format!("{hop}: {fault}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows.len() >= 80, "only {} faults were found", rows.len());
}

#[test]
fn tests_of_the_faults_exist() {
    let rows = rows();
    let missing = missing(rows.iter().map(|row| row.cells[4]));
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn tests_and_modules_of_all_sections_exist() {
    let names = names(DOCUMENT);
    assert!(names.len() >= 200, "only {} names were found", names.len());
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| !exists(name) && !is_module(name))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    for other in ["it::fair", "system::memory_limit", "it"] {
        assert!(!is_module(other), "{other}");
    }
}
