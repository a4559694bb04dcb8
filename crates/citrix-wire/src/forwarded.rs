//! `Forwarded` (RFC 7239): whom other proxies say they forward for.
//!
//! For the log alone: everybody can send this header, and each proxy only knows of the one before it.

use http::HeaderMap;
use http::header::FORWARDED;

/// Nodes that are named at most, the last ones: those the nearest proxies wrote.
const MOST: usize = 8;
/// What a node may be long: an IPv6 address with brackets and port is 47 characters.
const LONGEST: usize = 64;
/// What a header may be long that is looked at.
const LONGEST_HEADER: usize = 4096;

/// The `for` nodes of all elements, in their order (`192.0.2.43, [2001:db8::17]:4711`); `None` when there is none, or
/// something that RFC 7239 does not allow.
pub fn forwarded_for(headers: &HeaderMap) -> Option<String> {
    let mut nodes = Vec::new();
    for value in headers.get_all(FORWARDED) {
        let text = value
            .to_str()
            .ok()
            .filter(|text| text.len() <= LONGEST_HEADER)?;
        for element in split(text, ',')? {
            for pair in split(element, ';')? {
                let Some((name, value)) = pair.split_once('=') else {
                    continue;
                };
                if name.trim().eq_ignore_ascii_case("for") {
                    nodes.push(node(value.trim())?);
                }
            }
        }
    }
    let last = nodes.len().saturating_sub(MOST);
    (!nodes.is_empty()).then(|| nodes[last..].join(", "))
}

/// The parts between separators, where one in quotes is none. `None` when a quote stays open.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut quoted = false;
    let parts = text.split(|c| {
        quoted ^= c == '"';
        c == separator && !quoted
    });
    let parts = parts.collect();
    (!quoted).then_some(parts)
}

/// A node (RFC 7239 section 6) without its quotes. Only what addresses and obfuscated names are made of is let through,
/// so none can look like something else in a log; nothing of that needs a backslash.
fn node(value: &str) -> Option<&str> {
    let bare = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    let is_node =
        |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b':' | b'[' | b']' | b'_' | b'-');
    ((1..=LONGEST).contains(&bare.len()) && bare.bytes().all(is_node)).then_some(bare)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED, value.parse().unwrap());
        }
        forwarded_for(&headers)
    }

    #[test]
    fn rfc7239_4_the_nodes_are_read_in_their_order() {
        for (values, nodes) in [
            (&["for=192.0.2.43"][..], Some("192.0.2.43")),
            (
                &["For=\"[2001:db8:cafe::17]:4711\""],
                Some("[2001:db8:cafe::17]:4711"),
            ),
            (
                &["for=192.0.2.60;proto=http;by=203.0.113.43"],
                Some("192.0.2.60"),
            ),
            (&["proto=https ; FOR = 192.0.2.60"], Some("192.0.2.60")),
            (
                &["for=192.0.2.43, for=198.51.100.17"],
                Some("192.0.2.43, 198.51.100.17"),
            ),
            (
                &["for=192.0.2.43", "for=\"_gazonk\""],
                Some("192.0.2.43, _gazonk"),
            ),
            (&["for=unknown"], Some("unknown")),
            (&["host=\"a,b;for=1.1.1.1\";for=2.2.2.2"], Some("2.2.2.2")),
            (&["proto=https"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(read(values).as_deref(), nodes, "{values:?}");
        }
    }

    #[test]
    fn what_is_no_node_is_not_logged() {
        let long = format!("for={}", "1".repeat(65));
        for value in [
            "for=a b",
            "for=\"a",
            "for=",
            "for=\"\"",
            "for=<script>",
            "for=\"a\\\"b\"",
            "for=a%0a",
            &long,
        ] {
            assert_eq!(read(&[value]), None, "{value}");
        }
    }

    #[test]
    fn of_many_nodes_the_nearest_are_named() {
        let many = (1..=20)
            .map(|n| format!("for=_{n}"))
            .collect::<Vec<_>>()
            .join(", ");
        assert_eq!(
            read(&[&many]).unwrap(),
            "_13, _14, _15, _16, _17, _18, _19, _20"
        );
    }

    proptest! {
        #[test]
        fn what_is_logged_is_short_and_harmless(value in "[ -~]{0,300}") {
            if let Some(nodes) = read(&[&value]) {
                prop_assert!(nodes.len() <= MOST * (LONGEST + 2));
                prop_assert!(nodes.bytes().all(|c| c.is_ascii_alphanumeric() || b".:[]_-, ".contains(&c)));
            }
        }
    }
}
