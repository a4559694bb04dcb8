//! Paths compared and joined byte for byte: Citrix's contain `$`, `%2F`, spaces and backslashes
//! (contract §5), and must arrive unchanged.

use http::uri::{InvalidUri, PathAndQuery};

/// Returns `true` if `path` lies at or below `prefix`, by whole segments: `/a` covers `/a`, `/a/`
/// and `/a/b`, not `/ab`. The empty prefix covers everything.
pub fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// Splits off the segment after a path's first slash. The segment may be empty; the rest is empty
/// or begins with a slash.
pub fn first_segment(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/')?;
    // Segments are short, so that a search by vectors would cost more.
    let length = path.bytes().take_while(|&byte| byte != b'/').count();
    path.split_at_checked(length)
}

/// Replaces `prefix` of `target` by `base`. The prefix must cover the target, possibly in another
/// case.
///
/// # Errors
/// If the result is no path, which a validated `base` and a parsed `target` exclude.
pub fn rebase(target: &PathAndQuery, prefix: &str, base: &str) -> Result<PathAndQuery, InvalidUri> {
    if prefix.is_empty() && base.is_empty() {
        return Ok(target.clone());
    }
    let rest = target
        .as_str()
        .get(prefix.len()..)
        .unwrap_or_else(|| target.as_str());
    let slash = if rest.starts_with('/') { "" } else { "/" };
    PathAndQuery::try_from(format!("{base}{slash}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_covers_whole_segments() {
        let cases = [
            ("", "/anything", true),
            ("/a", "/a", true),
            ("/a", "/a/", true),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a", "/A", false),
            ("/a/b", "/a", false),
        ];
        for (prefix, path, expected) in cases {
            assert_eq!(covers(prefix, path), expected, "{prefix} {path}");
        }
    }

    #[test]
    fn rebase_changes_only_the_prefix() {
        let cases = [
            ("/x?y=%27a%27+b~", "", "", "/x?y=%27a%27+b~"),
            ("/reports/a%2Fb?c", "/reports", "", "/a%2Fb?c"),
            ("/reports", "/reports", "", "/"),
            ("/reports?q", "/reports", "/api", "/api/?q"),
            ("/Reports/X?q", "/reports", "/api", "/api/X?q"),
            ("/reports/$x\\y", "/reports", "/api", "/api/$x\\y"),
            ("/plain", "", "/api", "/api/plain"),
        ];
        for (target, prefix, base, expected) in cases {
            let target = PathAndQuery::try_from(target).unwrap();
            assert_eq!(rebase(&target, prefix, base).unwrap().as_str(), expected);
        }
    }
}
