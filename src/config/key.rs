//! Paths of keys: the names of tables and keys, joined by dots; lists of names.

/// The number of names in a list; further ones are counted.
const MAX_NAMES: usize = 20;

/// Returns the path of `key` in the table at `path`.
pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Returns `true` if `path` is `table` or a key below it.
pub(super) fn is_at_or_below(path: &str, table: &str) -> bool {
    path.strip_prefix(table)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Quotes a key unless it is a bare key, and truncates it.
pub(super) fn shown_key(key: &str) -> String {
    const MAX_CHARS: usize = 64;
    let bare = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if key.chars().count() > MAX_CHARS {
        let start: String = key.chars().take(MAX_CHARS).collect();
        format!("{start:?}…")
    } else if bare {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}

/// Joins names for a log field; `None` if there are none.
pub fn join_names(names: &[String]) -> Option<String> {
    let shown = names.get(..MAX_NAMES).unwrap_or(names).join(", ");
    match names.len() {
        0 => None,
        few if few <= MAX_NAMES => Some(shown),
        many => Some(format!("{shown} and {} more", many - MAX_NAMES)),
    }
}
