//! Header fields of one connection (RFC 9110 section 7.6.1).

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName};

use crate::known_fields::KnownFields;

/// Returns `true` if a field is hop-by-hop even when `Connection` does not name it.
///
/// The list has the fields of RFC 9110, `Keep-Alive`, `Proxy-Connection`, `HTTP2-Settings` (Java's
/// client offers an upgrade with every request) and the credentials for a proxy.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    KnownFields::of_name(name).has(KnownFields::HOP_BY_HOP)
}

/// Removes hop-by-hop fields and those that `Connection` names.
///
/// Call it before adding fields: `Connection: authorization` would remove an added `Authorization`.
pub fn remove(headers: &mut HeaderMap) {
    remove_set(headers, KnownFields::HOP_BY_HOP);
}

/// Removes the fields of a set, and those that `Connection` names. Returns `true` like
/// [`remove_nominated`].
pub fn remove_set(headers: &mut HeaderMap, set: KnownFields) -> bool {
    remove_with(headers, |name| KnownFields::of_name(name).has(set))
}

/// Removes the fields that `unwanted` selects, and those that `Connection` names. Returns `true`
/// like [`remove_nominated`].
pub fn remove_with(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) -> bool {
    // Allocates nothing for the many messages without such fields.
    let mut found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name))
        .cloned()
        .collect();
    let mut names_others = false;
    if found.contains(&CONNECTION) {
        let nominated = nominated(headers);
        names_others = !nominated.iter().all(is_hop_by_hop);
        found.extend(nominated);
    }
    for name in found {
        headers.remove(name);
    }
    names_others
}

/// Removes the fields that `Connection` names. Returns `true` if it names others than the fixed
/// ones: these must not be forwarded as trailer fields either.
pub fn remove_nominated(headers: &mut HeaderMap) -> bool {
    let nominated = nominated(headers);
    for name in &nominated {
        headers.remove(name);
    }
    !nominated.iter().all(is_hop_by_hop)
}

/// Returns the field names listed in `Connection`, without its options `close` and `keep-alive`.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| {
            !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
        })
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn rfc9110_7_6_1_nominated_and_fixed_fields_are_removed() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (&[("accept", "a")], &["accept"]),
            (&[("connection", "close"), ("accept", "a")], &["accept"]),
            (
                &[
                    ("connection", "TE, close"),
                    ("te", "trailers"),
                    ("accept", "a"),
                ],
                &["accept"],
            ),
            (
                &[
                    ("connection", "x-one ,X-Two,,"),
                    ("x-one", "1"),
                    ("x-two", "2"),
                    ("x-three", "3"),
                ],
                &["x-three"],
            ),
            (
                &[
                    ("connection", "x-one"),
                    ("connection", "x-two"),
                    ("x-one", "1"),
                    ("x-two", "2"),
                ],
                &[],
            ),
            (
                &[("connection", "authorization"), ("authorization", "stale")],
                &[],
            ),
            (
                &[("connection", "not a name"), ("accept", "a")],
                &["accept"],
            ),
            (
                &[
                    ("connection", "Upgrade, HTTP2-Settings"),
                    ("upgrade", "h2c"),
                    ("http2-settings", "AAEAAEAAAAIAAAAA"),
                    ("keep-alive", "timeout=5"),
                    ("proxy-connection", "keep-alive"),
                    ("proxy-authorization", "Basic eA=="),
                    ("trailer", "x"),
                    ("transfer-encoding", "chunked"),
                    ("user-agent", "Java"),
                ],
                &["user-agent"],
            ),
        ];
        for (fields, remaining) in cases {
            let mut map = headers(fields);
            remove(&mut map);
            let names: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
            assert_eq!(&names, remaining, "{fields:?}");
        }
    }
}
