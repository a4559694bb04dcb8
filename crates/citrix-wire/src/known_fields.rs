//! The header fields that the gateway treats by name.
//!
//! One pass over the names of a head finds which of them it has. Nearly all are absent from a given
//! head, and those then cost no lookup.

use std::ops::BitOr;

use http::header::InvalidHeaderName;
use http::{HeaderMap, HeaderName};

/// A set of fields; some are only distinguished as a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownFields(u32);

impl KnownFields {
    /// Fields of one connection (RFC 9110 section 7.6.1); see
    /// [`is_hop_by_hop`](crate::hop_by_hop::is_hop_by_hop).
    pub const HOP_BY_HOP: Self = Self(1);
    /// See [`is_gateway_only`](crate::citrix::headers::is_gateway_only).
    pub const GATEWAY_ONLY: Self = Self(1 << 1);
    /// See [`is_upstream_only`](crate::citrix::headers::is_upstream_only).
    pub const UPSTREAM_ONLY: Self = Self(1 << 2);
    /// `Citrix-CustomerId` and `Customer`.
    pub const CUSTOMER: Self = Self(1 << 3);
    /// `Citrix-InstanceId`.
    pub const SITE: Self = Self(1 << 4);
    /// The names of transaction ids.
    pub const TRANSACTION_ID: Self = Self(1 << 5);
    /// `traceparent`.
    pub const TRACE: Self = Self(1 << 6);
    /// `Origin` and `Sec-Fetch-Site`, which browsers send.
    pub const BROWSER: Self = Self(1 << 7);
    /// `Content-Length`.
    pub const CONTENT_LENGTH: Self = Self(1 << 8);
    /// `Transfer-Encoding`.
    pub const TRANSFER_ENCODING: Self = Self(1 << 9);
    /// `Expect`.
    pub const EXPECT: Self = Self(1 << 10);
    /// `Cookie`.
    pub const COOKIE: Self = Self(1 << 11);
    /// `Set-Cookie`.
    pub const SET_COOKIE: Self = Self(1 << 12);
    /// `Location`, `Content-Location` and `Link`.
    pub const LINK: Self = Self(1 << 13);
    /// Names with other characters than letters, digits and hyphens.
    pub const UNUSUAL: Self = Self(1 << 14);

    const NONE: Self = Self(0);

    /// Returns the fields of a head. Later changes of the map are not reflected.
    pub fn of(headers: &HeaderMap) -> Self {
        headers
            .keys()
            .fold(Self::NONE, |found, name| found | Self::of_name(name))
    }

    /// Returns the groups to which a field belongs.
    pub fn of_name(name: &HeaderName) -> Self {
        let text = name.as_str();
        match find(text.as_bytes(), |index| NAMES[index] == *name) {
            Some(index) => LISTED[index].1,
            None => Self::of_unlisted(text),
        }
    }

    /// Parses a name, in any case, and returns it with the groups to which the field belongs. A
    /// listed name is found rather than parsed, and takes no allocation.
    ///
    /// # Errors
    /// If the name is invalid.
    pub fn parse_name(name: &[u8]) -> Result<(HeaderName, Self), InvalidHeaderName> {
        if let Some(index) = find(name, |index| is_same(LISTED[index].0.as_bytes(), name)) {
            return Ok((NAMES[index].clone(), LISTED[index].1));
        }
        let name = HeaderName::from_bytes(name)?;
        let groups = Self::of_unlisted(name.as_str());
        Ok((name, groups))
    }

    fn of_unlisted(name: &str) -> Self {
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let unusual = if name.bytes().all(is_usual) {
            Self::NONE
        } else {
            Self::UNUSUAL
        };
        let prefixed = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
        prefixed.map_or(unusual, |(_, groups)| unusual.and(*groups))
    }

    /// Returns `true` if one of `any` is in the set.
    pub const fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// Returns the union of two sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for KnownFields {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}

/// Names and the groups to which they belong.
const LISTED: [Entry; 84] = {
    use KnownFields as F;
    const HOP: F = F::HOP_BY_HOP;
    const GATEWAY: F = F::GATEWAY_ONLY;
    const UPSTREAM: F = F::UPSTREAM_ONLY;
    [
        ("connection", HOP),
        ("http2-settings", HOP),
        ("keep-alive", HOP),
        ("proxy-authenticate", HOP),
        ("proxy-authentication-info", HOP),
        ("proxy-authorization", HOP),
        ("proxy-connection", HOP),
        ("te", HOP),
        ("trailer", HOP),
        ("transfer-encoding", HOP.and(F::TRANSFER_ENCODING)),
        ("upgrade", HOP),
        ("authorization", GATEWAY),
        ("customer", GATEWAY.and(F::CUSTOMER)),
        ("expect", GATEWAY.and(F::EXPECT)),
        ("forwarded", GATEWAY),
        ("true-client-ip", GATEWAY),
        ("via", GATEWAY),
        ("x-api-key", GATEWAY),
        ("x-client-ip", GATEWAY),
        ("x-cluster-client-ip", GATEWAY),
        ("x-forwarded", GATEWAY),
        ("x-host", GATEWAY),
        ("x-http-method", GATEWAY),
        ("x-http-method-override", GATEWAY),
        ("x-method-override", GATEWAY),
        ("x-original-forwarded-for", GATEWAY),
        ("x-original-host", GATEWAY),
        ("x-original-http-method", GATEWAY),
        ("x-original-method", GATEWAY),
        ("x-original-uri", GATEWAY),
        ("x-original-url", GATEWAY),
        ("x-override-url", GATEWAY),
        ("x-real-ip", GATEWAY),
        ("x-rewrite-url", GATEWAY),
        ("x-tunnel-method", GATEWAY),
        ("accept-ch", UPSTREAM),
        ("alt-svc", UPSTREAM),
        ("clear-site-data", UPSTREAM),
        ("critical-ch", UPSTREAM),
        ("expect-ct", UPSTREAM),
        ("nel", UPSTREAM),
        ("origin-agent-cluster", UPSTREAM),
        ("public-key-pins", UPSTREAM),
        ("public-key-pins-report-only", UPSTREAM),
        ("report-to", UPSTREAM),
        ("reporting-endpoints", UPSTREAM),
        ("service-worker-allowed", UPSTREAM),
        ("set-login", UPSTREAM),
        ("strict-transport-security", UPSTREAM),
        ("cc-transactionid", F::TRANSACTION_ID),
        ("citrix-customerid", F::CUSTOMER),
        ("citrix-instanceid", F::SITE),
        ("citrix-transactionid", F::TRANSACTION_ID),
        ("content-length", F::CONTENT_LENGTH),
        ("content-location", F::LINK),
        ("cookie", F::COOKIE),
        ("link", F::LINK),
        ("location", F::LINK),
        ("origin", F::BROWSER),
        ("sec-fetch-site", F::BROWSER),
        ("set-cookie", F::SET_COOKIE),
        ("traceparent", F::TRACE),
        ("x-cws-transactionid", F::TRANSACTION_ID),
        // Usual fields, listed so that their names are not examined byte by byte.
        ("accept", F::NONE),
        ("accept-encoding", F::NONE),
        ("accept-language", F::NONE),
        ("age", F::NONE),
        ("cache-control", F::NONE),
        ("content-encoding", F::NONE),
        ("content-security-policy", F::NONE),
        ("content-type", F::NONE),
        ("date", F::NONE),
        ("etag", F::NONE),
        ("expires", F::NONE),
        ("host", F::NONE),
        ("last-modified", F::NONE),
        ("pragma", F::NONE),
        ("referrer-policy", F::NONE),
        ("retry-after", F::NONE),
        ("server", F::NONE),
        ("user-agent", F::NONE),
        ("vary", F::NONE),
        ("x-content-type-options", F::NONE),
        ("x-frame-options", F::NONE),
    ]
};

/// Prefixes of names that are not listed.
static PREFIXES: [Entry; 3] = [
    ("access-control-", KnownFields::UPSTREAM_ONLY),
    ("x-forwarded-", KnownFields::GATEWAY_ONLY),
    ("x-proxy-", KnownFields::UPSTREAM_ONLY),
];

type Entry = (&'static str, KnownFields);

/// [`LISTED`] as parsed names, which are compared and cloned at no cost.
static NAMES: [HeaderName; LISTED.len()] = {
    let mut names = [const { HeaderName::from_static("te") }; LISTED.len()];
    let mut index = 0;
    while index < LISTED.len() {
        let name = HeaderName::from_static(LISTED[index].0);
        // Constants cannot be dropped during compilation.
        std::mem::forget(std::mem::replace(&mut names[index], name));
        index += 1;
    }
    names
};

/// A slot without an entry.
const FREE: u8 = u8::MAX;

/// The hash table of [`LISTED`], by index. Each entry is at [`slot_of`] its name or in the next free
/// slot.
static SLOTS: [u8; 256] = {
    let mut slots = [FREE; 256];
    let mut index = 0_u8;
    while (index as usize) < LISTED.len() {
        let mut slot = slot_of(LISTED[index as usize].0.as_bytes());
        while slots[slot] != FREE {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = index;
        index += 1;
    }
    slots
};

/// Returns the index of the listed name that `is_name` accepts, among those where the search for
/// `name` leads.
fn find(name: &[u8], is_name: impl Fn(usize) -> bool) -> Option<usize> {
    let mut slot = slot_of(name);
    while SLOTS[slot] != FREE {
        let index = usize::from(SLOTS[slot]);
        if is_name(index) {
            return Some(index);
        }
        slot = (slot + 1) % SLOTS.len();
    }
    None
}

/// Bytes with the letters in lower case.
static LOWER_CASE: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        bytes[byte as usize] = byte.to_ascii_lowercase();
        byte += 1;
    }
    bytes[u8::MAX as usize] = u8::MAX;
    bytes
};

/// Returns `true` if `name` is the listed name in any case. Names in lower case, which many servers
/// send, are compared as a whole; others by a table, which takes two thirds of
/// `eq_ignore_ascii_case`.
fn is_same(listed: &[u8], name: &[u8]) -> bool {
    let lower_case = || name.iter().map(|byte| LOWER_CASE[usize::from(*byte)]);
    listed == name || listed.len() == name.len() && listed.iter().copied().eq(lower_case())
}

/// Returns the slot at which the search for a name, in any case, begins. With these factors, nearly
/// all listed names have slots of their own.
const fn slot_of(name: &[u8]) -> usize {
    const LOWER_CASE: usize = 0x20;
    let [first, .., last] = name else { return 0 };
    let first = *first as usize | LOWER_CASE;
    let middle = name[name.len() / 2] as usize | LOWER_CASE;
    let last = *last as usize | LOWER_CASE;
    (7 * name.len() + 19 * first + 17 * middle + last) % 256
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const SETS: [KnownFields; 15] = [
        KnownFields::HOP_BY_HOP,
        KnownFields::GATEWAY_ONLY,
        KnownFields::UPSTREAM_ONLY,
        KnownFields::CUSTOMER,
        KnownFields::SITE,
        KnownFields::TRANSACTION_ID,
        KnownFields::TRACE,
        KnownFields::BROWSER,
        KnownFields::CONTENT_LENGTH,
        KnownFields::TRANSFER_ENCODING,
        KnownFields::EXPECT,
        KnownFields::COOKIE,
        KnownFields::SET_COOKIE,
        KnownFields::LINK,
        KnownFields::UNUSUAL,
    ];

    fn of_name(name: &str) -> KnownFields {
        KnownFields::of_name(&name.parse().unwrap())
    }

    #[test]
    fn names_belong_to_their_groups() {
        type F = KnownFields;
        for (name, groups) in [
            ("Transfer-Encoding", F::HOP_BY_HOP | F::TRANSFER_ENCODING),
            ("Customer", F::GATEWAY_ONLY | F::CUSTOMER),
            ("Expect", F::GATEWAY_ONLY | F::EXPECT),
            ("Via", F::GATEWAY_ONLY),
            ("X-Forwarded", F::GATEWAY_ONLY),
            ("X-Forwarded-Anything", F::GATEWAY_ONLY),
            ("X-Forwardedfor", F::NONE),
            ("NEL", F::UPSTREAM_ONLY),
            ("Access-Control-Max-Age", F::UPSTREAM_ONLY),
            ("X-Proxy-Error", F::UPSTREAM_ONLY),
            ("Citrix-CustomerId", F::CUSTOMER),
            ("Citrix-InstanceId", F::SITE),
            ("CC-TransactionId", F::TRANSACTION_ID),
            ("traceparent", F::TRACE),
            ("Sec-Fetch-Site", F::BROWSER),
            ("Content-Location", F::LINK),
            ("User-Agent", F::NONE),
            ("X-Custom-1", F::NONE),
            ("x_custom", F::UNUSUAL),
            ("x-forwarded-a_b", F::GATEWAY_ONLY | F::UNUSUAL),
            ("via.", F::UNUSUAL),
            ("x", F::NONE),
        ] {
            assert_eq!(of_name(name), groups, "{name}");
        }
    }

    #[test]
    fn every_listed_name_is_found_once() {
        for (name, groups) in &LISTED {
            assert_eq!(of_name(name), *groups, "{name}");
            for written in [(*name).to_owned(), name.to_ascii_uppercase()] {
                let (parsed, of_parsed) = KnownFields::parse_name(written.as_bytes()).unwrap();
                assert_eq!((parsed.as_str(), of_parsed), (*name, *groups));
            }
            let same = LISTED.iter().filter(|(other, _)| other == name);
            assert_eq!(same.count(), 1, "{name}");
        }
    }

    fn any_name() -> impl Strategy<Value = String> {
        let listed = (0..LISTED.len()).prop_map(|index| LISTED[index].0.to_owned());
        prop_oneof![
            listed,
            "(x-forwarded-|access-control-|x-proxy-)?[a-z0-9_.-]{1,12}"
        ]
    }

    proptest! {
        #[test]
        fn name_is_parsed_as_by_http(name in "[a-zA-Z0-9_. :-]{0,12}") {
            let parsed = KnownFields::parse_name(name.as_bytes()).ok();
            let expected = HeaderName::from_bytes(name.as_bytes()).ok();
            let expected = expected.map(|name| (name.clone(), KnownFields::of_name(&name)));
            prop_assert_eq!(parsed, expected);
        }

        #[test]
        fn set_of_a_head_equals_lookups_of_its_names(names in prop::collection::vec(any_name(), 0..12)) {
            let value = HeaderValue::from_static("v");
            let mut headers = HeaderMap::new();
            for name in &names {
                headers.append(name.parse::<HeaderName>().unwrap(), value.clone());
            }
            let found = KnownFields::of(&headers);
            for set in SETS {
                let members = || LISTED.iter().filter(|(_, groups)| groups.has(set));
                let listed = members().any(|(name, _)| headers.contains_key(*name));
                let unlisted = headers.keys().map(HeaderName::as_str).any(|name| match set {
                    KnownFields::GATEWAY_ONLY => name.starts_with("x-forwarded-"),
                    KnownFields::UPSTREAM_ONLY => {
                        name.starts_with("access-control-") || name.starts_with("x-proxy-")
                    }
                    KnownFields::UNUSUAL => name.contains(['_', '.']),
                    _ => false,
                });
                prop_assert_eq!(found.has(set), listed || unlisted, "{:?}", set);
            }
        }
    }
}
