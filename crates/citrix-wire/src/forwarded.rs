//! `Forwarded` (RFC 7239): the clients for which proxies in front claim to forward.
//!
//! For logs only: any client can send this field, and each proxy knows only its predecessor.

use http::HeaderMap;
use http::header::FORWARDED;

/// Maximum number of returned nodes: the last ones, which the nearest proxies added.
const MAX_NODES: usize = 8;
/// Maximum length of a node; an IPv6 address with brackets and port has 47 characters.
const MAX_NODE_LENGTH: usize = 64;
/// Maximum length of a field line.
const MAX_FIELD_LENGTH: usize = 4096;

/// Returns the `for` nodes of all elements in order (`192.0.2.43, [2001:db8::17]:4711`); `None`
/// without any, if a node is invalid or a quote unbalanced, or a field line too long. Skips
/// anything else that does not match RFC 7239.
pub fn forwarded_for(headers: &HeaderMap) -> Option<String> {
    let mut nodes = Vec::new();
    for value in headers.get_all(FORWARDED) {
        let text = value
            .to_str()
            .ok()
            .filter(|text| text.len() <= MAX_FIELD_LENGTH)?;
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
    let first = nodes.len().saturating_sub(MAX_NODES);
    (!nodes.is_empty()).then(|| nodes[first..].join(", "))
}

/// Splits at separators outside quotes; a backslash does not escape a quote. `None` if a quote is
/// not closed.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut quoted = false;
    let parts = text.split(|c| {
        quoted ^= c == '"';
        c == separator && !quoted
    });
    let parts = parts.collect();
    (!quoted).then_some(parts)
}

/// Returns a node (RFC 7239 section 6) without its quotes. Only characters of addresses and
/// obfuscated identifiers are permitted, so that a node cannot forge log syntax; none of them needs
/// a backslash.
fn node(value: &str) -> Option<&str> {
    let bare = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    let is_node =
        |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b':' | b'[' | b']' | b'_' | b'-');
    ((1..=MAX_NODE_LENGTH).contains(&bare.len()) && bare.bytes().all(is_node)).then_some(bare)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED, value.parse().unwrap());
        }
        forwarded_for(&headers)
    }

    #[test]
    fn rfc7239_4_nodes_are_returned_in_order() {
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
            assert_eq!(parse(values).as_deref(), nodes, "{values:?}");
        }
    }

    #[test]
    fn rfc7239_6_invalid_node_is_not_returned() {
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
            assert_eq!(parse(&[value]), None, "{value}");
        }
    }

    #[test]
    fn only_the_last_eight_nodes_are_returned() {
        let many = (1..=20)
            .map(|n| format!("for=_{n}"))
            .collect::<Vec<_>>()
            .join(", ");
        assert_eq!(
            parse(&[&many]).unwrap(),
            "_13, _14, _15, _16, _17, _18, _19, _20"
        );
    }

    proptest! {
        #[test]
        fn returned_nodes_are_short_and_plain(value in "[ -~]{0,300}") {
            if let Some(nodes) = parse(&[&value]) {
                prop_assert!(nodes.len() <= MAX_NODES * (MAX_NODE_LENGTH + 2));
                prop_assert!(nodes.bytes().all(|c| c.is_ascii_alphanumeric() || b".:[]_-, ".contains(&c)));
            }
        }
    }
}
