//! Folds observed paths into patterns: segments that identify one object among many become `*`.

use super::path::{ParsedPath, segments};

/// Returns a pattern that covers the path and has `*` for each id.
pub fn fold_ids(path: &ParsedPath<'_>) -> String {
    let mut pattern = String::new();
    for (decoded, written) in segments(path.decoded()).zip(segments(path.written())) {
        pattern.push('/');
        // Only `*` covers both readings of a segment with a needless escape.
        let folded = if decoded == written {
            fold_segment(decoded)
        } else {
            "*".to_owned()
        };
        pattern.push_str(&folded);
    }
    if pattern.is_empty() {
        "/".to_owned()
    } else {
        pattern
    }
}

fn fold_segment(segment: &str) -> String {
    // OData entity key: `Machines(1)`.
    if let Some((name, key)) = segment.split_once('(')
        && key.ends_with(')')
        && key.len() > 1
        && is_name(name)
    {
        return format!("{name}(*)");
    }
    if is_name(segment) {
        segment.to_owned()
    } else {
        "*".to_owned()
    }
}

/// Returns `true` for a word of an API, such as `$search`, `v4` or `resourceLocations`, as opposed
/// to an id.
fn is_name(segment: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~$".contains(&byte);
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_hex = segment
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    segment.len() <= 40
        && segment.bytes().all(word)
        && segment.bytes().any(|byte| byte.is_ascii_alphabetic())
        // Versions have one or two digits; numbered machines or users and base64 have more.
        && digits <= 2
        && !(is_hex && segment.len() >= 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::path::evaluate;

    #[test]
    fn only_ids_are_folded() {
        for (path, pattern) in [
            ("/", "/"),
            ("/monitorodata/Machines", "/monitorodata/Machines"),
            ("/monitorodata/Machines/", "/monitorodata/Machines"),
            ("/monitorodata/Machines(1)", "/monitorodata/Machines(*)"),
            (
                "/monitorodata/Machines(61603f15-cdf9-4c7f-99ff-91636601a795)/Sessions",
                "/monitorodata/Machines(*)/Sessions",
            ),
            ("/monitorodata/Users('a%20b')", "/monitorodata/Users(*)"),
            ("/monitorodata/Count()", "/monitorodata/*"),
            (
                "/cvad/manage/Machines/$search",
                "/cvad/manage/Machines/$search",
            ),
            ("/cvad/manage/Machines/%24search", "/cvad/manage/Machines/*"),
            (
                "/cvad/manage/Machines/S-1-5-21-1004336348-1177238915-682003330-512/$reboot",
                "/cvad/manage/Machines/*/$reboot",
            ),
            (
                "/cvad/manage/Jobs/81c05d9f-2f8b-4d3b-9a4e-1c2d3e4f5a6b",
                "/cvad/manage/Jobs/*",
            ),
            (
                "/cvad/manage/DeliveryGroups/42",
                "/cvad/manage/DeliveryGroups/*",
            ),
            (
                "/cvad/manage/DeliveryGroups/Sales%20B%C3%BCro",
                "/cvad/manage/DeliveryGroups/*",
            ),
            (
                "/cvad/manage/hypervisors/DOM%7CVM1",
                "/cvad/manage/hypervisors/*",
            ),
            ("/x/deadbeefcafe", "/x/*"),
            ("/x/feed", "/x/feed"),
            (
                "/gac/aca/discovery/app/workspace/url/aHR0cHM6Ly9hY21lLmNsb3VkLmNvbTo0NDM=",
                "/gac/aca/discovery/app/workspace/url/*",
            ),
            ("/Citrix/v4/Data", "/Citrix/v4/Data"),
            ("/x/vm-0001", "/x/*"),
            ("/x/a*b", "/x/*"),
            ("/x/user@acme", "/x/*"),
        ] {
            assert_eq!(fold_ids(&evaluate(path).unwrap()), pattern, "{path}");
        }
    }
}
