//! Queries of the emulated Monitor service.

use citrix_emulator::selected_rows;

/// Checks an entity set in the first line with a query in the second: it selects rows of the set, each
/// once; a condition and its opposite select no row both.
pub fn odata_query(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let (set, query) = text.split_once('\n').unwrap_or((text, ""));
    if let Some(mut rows) = selected_rows(set, query) {
        let count = rows.len();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), count, "a row is selected twice");
        if let Some(all) = selected_rows(set, "") {
            assert!(rows.iter().all(|row| all.contains(row)));
        }
    }
    // As a condition: `+` would be a space, and `&` the next option.
    let Some(filter) = query
        .strip_prefix("$filter=")
        .filter(|it| !it.contains('&'))
    else {
        return;
    };
    let opposite = format!("$filter=not ({filter})");
    if let Some((rows, others)) = selected_rows(set, query).zip(selected_rows(set, &opposite)) {
        assert!(
            rows.iter().all(|row| !others.contains(row)),
            "{filter} and its opposite"
        );
    }
}
