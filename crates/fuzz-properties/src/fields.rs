//! Single fields of requests and responses.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use citrix_auth_proxy::callers::credentials::PresentedCredentials;
use citrix_wire::basic_auth::BasicCredentials;
use citrix_wire::citrix::accept::wants_json;
use citrix_wire::coding::retain_decodable;
use citrix_wire::forwarded::forwarded_for;
use citrix_wire::hop_by_hop;
use citrix_wire::known_fields::KnownFields;
use citrix_wire::link_rewrite::{
    CookieScope, LinkMap, LinkRewriter, LinkRoute, add_strong_tags, rewrite_cookies,
    rewrite_headers, strip_content_metadata,
};
use citrix_wire::lookalikes::is_lookalike;
use citrix_wire::max_forwards;
use citrix_wire::trace_context::TraceParent;
use citrix_wire::transaction_id;
use http::header::{CONNECTION, FORWARDED, MAX_FORWARDS};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields whose values the gateway parses. The first byte of a line selects one.
const NAMES: [&str; 18] = [
    "forwarded",
    "traceparent",
    "citrix-transactionid",
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "connection",
    "max-forwards",
    "accept",
    "accept-encoding",
    "if-match",
    "x-unknown",
    "location",
    "content-location",
    "link",
    "set-cookie",
    "etag",
    "content-length",
];

/// Reads a line for each field: a byte that selects its name, or `:` before a name and another `:`, and
/// the value.
fn fields(input: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(50) {
        let Some((first, rest)) = line.split_first() else {
            continue;
        };
        let (name, value) = match rest.iter().position(|byte| *byte == b':') {
            Some(colon) if *first == b':' => {
                (HeaderName::from_bytes(&rest[..colon]), &rest[colon + 1..])
            }
            _ => {
                let name = NAMES[usize::from(*first) % NAMES.len()];
                (Ok(HeaderName::from_static(name)), rest)
            }
        };
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// Checks the fields of a request: what is read of them is bounded and safe to log, reading it again
/// gives the same, and what is removed is gone.
pub fn request_fields(input: &[u8]) {
    let headers = fields(input);
    if let Some(nodes) = forwarded_for(&headers) {
        let is_safe = |c: char| c.is_ascii_alphanumeric() || ".:[]_-, ".contains(c);
        assert!(
            nodes.len() <= 8 * 66 && nodes.chars().all(is_safe),
            "{nodes}"
        );
        let mut again = HeaderMap::new();
        let elements = nodes.split(", ").map(|node| format!("for=\"{node}\""));
        let value = elements.collect::<Vec<_>>().join(",");
        again.insert(FORWARDED, value.parse().expect("safe characters"));
        assert_eq!(forwarded_for(&again), Some(nodes));
    }
    if let Some(parent) = TraceParent::from_headers(&headers) {
        assert_eq!(
            TraceParent::parse(parent.to_string().as_bytes()),
            Some(parent)
        );
    }
    if let Some(id) = transaction_id::from_caller(&headers) {
        assert!((1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
        let _ = transaction_id::replica_of(id.to_str().expect("visible ASCII"));
    }
    credentials(&headers);
    let _ = wants_json(&headers, &["/"]);
    for name in headers.keys() {
        let known = KnownFields::of_name(name);
        let (parsed, same) = KnownFields::parse_name(name.as_str().as_bytes()).expect("a name");
        assert_eq!((&parsed, same), (name, known));
        // The check of a head looks for lookalikes only in such a one.
        assert!(
            !is_lookalike(name.as_str()) || known.has(KnownFields::UNUSUAL),
            "{name}"
        );
    }
    removed(headers);
}

fn credentials(headers: &HeaderMap) {
    for presented in [
        PresentedCredentials::read(headers),
        PresentedCredentials::read_proxy(headers),
    ]
    .into_iter()
    .flatten()
    {
        let Some((user, password)) = presented.name().zip(presented.secret()) else {
            continue;
        };
        let joined = STANDARD.encode([user, b":", password].concat());
        let again = BasicCredentials::decode(joined.as_bytes()).expect("encoded here");
        assert_eq!((again.user(), again.password()), (user, password));
    }
}

fn removed(mut headers: HeaderMap) {
    let before = headers.get(MAX_FORWARDS).cloned();
    if max_forwards::decrement(&mut headers).is_ok()
        && let Some(before) = before.and_then(|value| value.to_str().ok()?.parse::<u32>().ok())
    {
        let after = headers
            .get(MAX_FORWARDS)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        assert!(
            after.is_none_or(|after: u32| after < before),
            "{before} {after:?}"
        );
    }
    retain_decodable(&mut headers);
    let once = headers.clone();
    retain_decodable(&mut headers);
    assert_eq!(headers, once, "it is not idempotent");
    let count = headers.len();
    add_strong_tags(&mut headers);
    assert_eq!(headers.len(), count);
    hop_by_hop::remove(&mut headers);
    assert!(!headers.contains_key(CONNECTION));
    let named = once.get_all(CONNECTION).iter();
    let named = named.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for name in named.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()) {
        assert!(
            !headers.contains_key(&name),
            "{name} is named in Connection"
        );
    }
    assert!(headers.keys().all(|name| !hop_by_hop::is_hop_by_hop(name)));
}

/// Checks the fields of a response: the number of fields is the same after links and cookies are
/// rewritten, nothing that is no link or cookie changes, an empty table changes nothing, and rewriting
/// leaves no link to a known host.
pub fn response_fields(input: &[u8]) {
    let headers = fields(input);
    let scope = CookieScope {
        request_path: "/r/x",
        prefix: "/r",
        upstream_path: "/api",
    };
    let rewritten = |links: &LinkRewriter, mut headers: HeaderMap| {
        rewrite_headers(links, &mut headers);
        rewrite_cookies(links, scope, &mut headers);
        headers
    };
    let none = LinkRewriter::new(Rc::default(), "https://gw.example.net", "api.cloud.com");
    let mut unchanged = headers.clone();
    rewrite_headers(&none, &mut unchanged);
    assert_eq!(unchanged, headers, "an empty table changes a link");
    let once = rewritten(&links(), headers.clone());
    for name in headers.keys() {
        let (before, after) = (headers.get_all(name).iter(), once.get_all(name).iter());
        if ["location", "content-location", "link", "set-cookie"].contains(&name.as_str()) {
            assert_eq!(before.count(), after.count());
        } else {
            assert!(before.eq(after), "{name} changed");
        }
    }
    for location in once.get_all("location") {
        let text = location.as_bytes();
        for (host, path) in [
            ("https://api.cloud.com", "/"),
            ("https://r.cloud.com", "/api/"),
        ] {
            let is_known = text
                .split_at_checked(host.len())
                .is_some_and(|(start, rest)| {
                    start.eq_ignore_ascii_case(host.as_bytes()) && rest.starts_with(path.as_bytes())
                });
            assert!(!is_known, "{location:?}");
        }
    }
    let mut stripped = once;
    strip_content_metadata(&mut stripped);
    assert!(!stripped.contains_key("content-length"));
    let again = {
        let mut again = stripped.clone();
        strip_content_metadata(&mut again);
        again
    };
    assert_eq!(again, stripped, "it is not idempotent");
}

fn links() -> LinkRewriter {
    // A link whose new path belongs to another route stays, so that no prefix begins with another.
    let routes = [("/c", "api.cloud.com", ""), ("/r", "r.cloud.com", "/api")];
    let routes = routes.map(|(prefix, upstream, base_path)| LinkRoute {
        prefix,
        strip_prefix: true,
        upstream,
        base_path,
    });
    let map = Rc::new(LinkMap::new(routes, []));
    LinkRewriter::new(map, "https://gw.example.net", "r.cloud.com")
}
