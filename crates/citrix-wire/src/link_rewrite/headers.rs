//! Links in header fields: `Location` and `Content-Location` (RFC 9110 sections 10.2.2 and 8.7), `Link` (RFC 8288); and
//! what else a head says that no longer holds when links in the body changed.

use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_LOCATION, ETAG, IF_MATCH, LINK, LOCATION,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{LinkCounts, LinkRewriter};

/// Rewrites the links in an answer's head. What is not a link, or no well-formed field, stays as it is.
pub fn rewrite_headers(links: &LinkRewriter, headers: &mut HeaderMap) -> LinkCounts {
    let mut counts = LinkCounts::default();
    rewrite_each(headers, &LOCATION, |value| url(links, value, &mut counts));
    rewrite_each(headers, &CONTENT_LOCATION, |value| {
        url(links, value, &mut counts)
    });
    rewrite_each(headers, &LINK, |value| {
        link_field(links, value, &mut counts)
    });
    counts
}

/// Takes out of an answer's head what is said about the bytes of its body, for one whose links are rewritten: its
/// length, its digests (RFC 9530, and their forerunners), and that parts of it may be asked for. An `ETag` becomes a
/// weak one (RFC 9110 section 8.8.1): the body means the same, but its bytes are others.
pub fn strip_content_metadata(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, ACCEPT_RANGES] {
        headers.remove(name);
    }
    for name in ["content-digest", "repr-digest", "digest", "content-md5"] {
        headers.remove(name);
    }
    rewrite_each(headers, &ETAG, |tag| {
        tag.starts_with(b"\"").then(|| [b"W/", tag].concat())
    });
}

/// Adds to each weak tag in a request's `If-Match` the strong one it may have been before [`strip_content_metadata`]: a weak one
/// matches nothing there (RFC 9110 section 13.1.1), so a change on condition would always fail. One that was weak at
/// Citrix still stands beside it. What is no list of tags stays as it is.
pub fn add_strong_tags(headers: &mut HeaderMap) {
    rewrite_each(headers, &IF_MATCH, |list| {
        let both = tags(list)?
            .into_iter()
            .flat_map(|tag| [tag.strip_prefix(b"W/"), Some(tag)]);
        Some(both.flatten().collect::<Vec<_>>().join(&b", "[..]))
    });
}

/// The tags of a list (RFC 9110 section 8.8.3); there may be commas in them. `None` when it is no such list.
fn tags(list: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut tags, mut rest) = (Vec::new(), list);
    while let Some(start) = rest
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t' | b','))
    {
        rest = &rest[start..];
        let quote = if rest.starts_with(b"W/") { 2 } else { 0 };
        let opaque = rest[quote..].strip_prefix(b"\"")?;
        let (tag, behind) =
            rest.split_at(quote + opaque.iter().position(|byte| *byte == b'"')? + 2);
        tags.push(tag);
        rest = behind;
    }
    Some(tags)
}

/// A name may come with several fields; their order stays.
fn rewrite_each(
    headers: &mut HeaderMap,
    name: &HeaderName,
    mut rewrite: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) {
    let http::header::Entry::Occupied(mut fields) = headers.entry(name) else {
        return;
    };
    for field in fields.iter_mut() {
        let rewritten =
            rewrite(field.as_bytes()).and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        if let Some(rewritten) = rewritten {
            *field = rewritten;
        }
    }
}

/// A field that is one URL.
fn url(links: &LinkRewriter, value: &[u8], counts: &mut LinkCounts) -> Option<Vec<u8>> {
    let splice = counts.note(links.rewrite(value))?;
    Some([splice.insert.as_bytes(), &value[splice.remove..]].concat())
}

/// A list of `<URL>; parameter="…"`. Parameters stay, also an `anchor`: it says what the link is about.
fn link_field(links: &LinkRewriter, value: &[u8], counts: &mut LinkCounts) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len());
    let (mut copied, mut at) = (0, 0);
    while let Some(&byte) = value.get(at) {
        at += 1;
        match byte {
            b'"' => at = end_of_quoted(value, at),
            b'<' => {
                let Some(length) = value[at..].iter().position(|byte| *byte == b'>') else {
                    break;
                };
                let end = at + length;
                if let Some(splice) = counts.note(links.rewrite(&value[at..end])) {
                    out.extend_from_slice(&value[copied..at]);
                    out.extend_from_slice(splice.insert.as_bytes());
                    copied = at + splice.remove;
                }
                at = end + 1;
            }
            _ => {}
        }
    }
    out.extend_from_slice(&value[copied..]);
    (copied > 0).then_some(out)
}

/// The place after the quote that closes a quoted string (RFC 9110 section 5.6.4) which began before `at`.
fn end_of_quoted(value: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = value.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    value.len()
}
