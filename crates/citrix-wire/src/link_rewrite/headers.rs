//! Links in header fields: `Location`, `Content-Location` (RFC 9110 sections 10.2.2 and 8.7) and
//! `Link` (RFC 8288); and fields that no longer hold for a body with rewritten links.

use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_LOCATION, ETAG, IF_MATCH, LINK, LOCATION,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{LinkCounts, LinkRewriter};

/// Rewrites links in the header fields of a response. Other or malformed fields are unchanged.
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

/// Removes fields about the bytes of a body that is about to change: length, digests (RFC 9530 and
/// predecessors) and range support. An `ETag` becomes weak (RFC 9110 section 8.8.1), since the body
/// stays semantically equivalent.
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

/// Adds, for each weak tag in a request's `If-Match`, the strong tag that
/// [`strip_content_metadata`] may have weakened. Weak tags never match there (RFC 9110
/// section 13.1.1), so that conditional changes would always fail. The weak tag is kept, since it
/// may be Citrix's own. A value that is no list of tags is unchanged.
pub fn add_strong_tags(headers: &mut HeaderMap) {
    rewrite_each(headers, &IF_MATCH, |list| {
        let both = tags(list)?
            .into_iter()
            .flat_map(|tag| [tag.strip_prefix(b"W/"), Some(tag)]);
        Some(both.flatten().collect::<Vec<_>>().join(&b", "[..]))
    });
}

/// Parses a list of entity tags (RFC 9110 section 8.8.3), which may contain commas.
fn tags(list: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut tags, mut rest) = (Vec::new(), list);
    while let Some(start) = rest
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t' | b','))
    {
        rest = &rest[start..];
        let quote = if rest.starts_with(b"W/") { 2 } else { 0 };
        let opaque = rest[quote..].strip_prefix(b"\"")?;
        let (tag, after) = rest.split_at(quote + opaque.iter().position(|byte| *byte == b'"')? + 2);
        tags.push(tag);
        rest = after;
    }
    Some(tags)
}

/// Rewrites all fields of a name in place.
pub(super) fn rewrite_each(
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

/// Rewrites a field that is one URL.
fn url(links: &LinkRewriter, value: &[u8], counts: &mut LinkCounts) -> Option<Vec<u8>> {
    let splice = counts.add(links.rewrite(value))?;
    Some([splice.insert.as_bytes(), &value[splice.remove..]].concat())
}

/// Rewrites the targets of a list of `<URL>; parameter="…"`. Parameters are unchanged, including
/// `anchor`, the context of the link.
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
                if let Some(splice) = counts.add(links.rewrite(&value[at..end])) {
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

/// Returns the offset after the closing quote of a quoted string (RFC 9110 section 5.6.4) that
/// began before `at`.
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
