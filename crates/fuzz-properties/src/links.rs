//! Links in JSON bodies, compared with a reference that parses the whole document.

use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use citrix_wire::coding::ContentCoding;
use citrix_wire::link_rewrite::{
    BodyRewriter, JsonRewriter, LinkMap, LinkOutcome, LinkRewriter, LinkRoute,
};

/// Maximum length of a body, so that no link exceeds the rewriter's limit.
const MAX_BODY: usize = 8 * 1024;

/// Checks a body. Its first byte selects the size of pieces and whether it is also decoded. The
/// output is independent of the pieces; only links of JSON change; an empty table changes nothing;
/// an encoded body ends or is rejected.
pub fn link_rewrite(input: &[u8]) {
    let Some((cut, body)) = input.split_first() else {
        return;
    };
    if body.len() > MAX_BODY {
        return;
    }
    let size = usize::from(*cut) + 1;
    let out = rewrite(links(), body, size);
    assert_eq!(
        out,
        rewrite(links(), body, usize::MAX),
        "the output depends on the pieces"
    );
    assert_eq!(
        rewrite(LinkRewriter::new(Rc::default(), BASE, API), body, size),
        body
    );
    if let Ok(text) = str::from_utf8(body)
        && serde_json::from_str::<serde_json::Value>(text).is_ok()
    {
        compare(text, &out);
    }
    match cut % 8 {
        0 => decode(ContentCoding::Gzip, body, size),
        1 => decode(ContentCoding::Deflate, body, size),
        2 => decode(ContentCoding::Brotli, body, size),
        _ => {}
    }
}

const BASE: &str = "https://gw.example.net";
const API: &str = "api.cloud.com";

fn links() -> LinkRewriter {
    let routes = [
        ("", API, ""),
        ("/eu", "api-eu.cloud.com", ""),
        ("/r", "r.cloud.com", "/api"),
    ];
    let routes = routes.map(|(prefix, upstream, base_path)| LinkRoute {
        prefix,
        strip_prefix: true,
        upstream,
        base_path,
    });
    LinkRewriter::new(Rc::new(LinkMap::new(routes, [])), BASE, "api-eu.cloud.com")
}

fn rewrite(links: LinkRewriter, body: &[u8], size: usize) -> Vec<u8> {
    let mut rewriter = JsonRewriter::new(links);
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        rewriter.push(&Bytes::copy_from_slice(piece));
        out.extend(std::iter::from_fn(|| rewriter.pull()).flatten());
    }
    rewriter.finish();
    out.extend(std::iter::from_fn(|| rewriter.pull()).flatten());
    out
}

fn decode(coding: ContentCoding, body: &[u8], size: usize) {
    let mut rewriter = BodyRewriter::new(links(), Some(coding));
    for piece in body.chunks(size) {
        rewriter.push(Bytes::copy_from_slice(piece));
        while let Ok(Some(_)) = rewriter.pull() {}
    }
    rewriter.finish();
    while let Ok(Some(_)) = rewriter.pull() {}
}

/// Asserts that all bytes outside links are unchanged and that links have their expected values.
fn compare(text: &str, out: &[u8]) {
    let mut walk = Walk {
        text,
        at: 0,
        found: Vec::new(),
    };
    walk.value("", Within::Nothing);
    let (mut copied, mut rest) = (0, str::from_utf8(out).expect("the output is still UTF-8"));
    for link in walk.found {
        let before = &text[copied..link.start];
        rest = rest
            .strip_prefix(before)
            .expect("the text before a link is unchanged");
        let end = end_of_string(rest);
        assert_eq!(plain(&rest[..end]), expected(&plain(&text[link.clone()])));
        rest = &rest[end..];
        copied = link.end;
    }
    assert_eq!(
        rest,
        &text[copied..],
        "the text after the last link is unchanged"
    );
}

fn plain(text: &str) -> String {
    serde_json::from_str(&format!("\"{text}\"")).expect("the text of a JSON string")
}

fn expected(link: &str) -> String {
    match links().rewrite(link.as_bytes()) {
        LinkOutcome::Rewrite(splice) => format!("{}{}", splice.insert, &link[splice.remove..]),
        LinkOutcome::Unknown | LinkOutcome::NotALink => link.to_owned(),
    }
}

fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    text.len()
}

/// The context of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Nothing,
    /// An element of `Headers`.
    Headers,
    /// Nested in an element of `Headers`.
    Element,
}

/// Parses valid JSON and collects the positions of links.
struct Walk<'t> {
    text: &'t str,
    at: usize,
    found: Vec<Range<usize>>,
}

impl<'t> Walk<'t> {
    fn value(&mut self, name: &str, within: Within) {
        match self.peek() {
            b'"' => {
                let text = self.string();
                if is_link(name) {
                    self.found.push(text);
                }
            }
            b'[' => {
                let inner = match within {
                    Within::Nothing if name == "Headers" => Within::Headers,
                    Within::Nothing => Within::Nothing,
                    Within::Headers | Within::Element => Within::Element,
                };
                self.list(b']', |walk| walk.value("", inner));
            }
            b'{' if within == Within::Headers => self.pair(),
            b'{' => self.list(b'}', |walk| {
                let name = walk.name();
                walk.value(name, within);
            }),
            _ => {
                let rest = self.text[self.at..].find([',', ']', '}', ' ', '\t', '\r', '\n']);
                self.at = rest.map_or(self.text.len(), |length| self.at + length);
            }
        }
    }

    /// Parses an object in `Headers`. Only the first `Name` counts, and only the first `Value`
    /// before it.
    fn pair(&mut self) {
        let (mut header, mut pending, mut has_value) = (None, None, false);
        let first = self.found.len();
        self.list(b'}', |walk| {
            let name = walk.name();
            match (name, walk.peek()) {
                ("Name", b'"') => {
                    let text = walk.string();
                    if header.is_none() {
                        header = Some(walk.text[text].eq_ignore_ascii_case("location"));
                        walk.found
                            .extend(pending.take().filter(|_| header == Some(true)));
                    }
                }
                ("Value", b'"') => {
                    let text = walk.string();
                    match header {
                        Some(true) => walk.found.push(text),
                        Some(false) => {}
                        None if !std::mem::replace(&mut has_value, true) => pending = Some(text),
                        None => {}
                    }
                }
                _ => walk.value(name, Within::Element),
            }
        });
        self.found[first..].sort_by_key(|link| link.start);
    }

    fn list(&mut self, close: u8, mut element: impl FnMut(&mut Self)) {
        self.at += 1;
        while self.peek() != close {
            if self.peek() == b',' {
                self.at += 1;
            }
            element(self);
        }
        self.at += 1;
    }

    fn name(&mut self) -> &'t str {
        self.peek();
        let name = self.string();
        assert_eq!(self.peek(), b':');
        self.at += 1;
        &self.text[name]
    }

    fn string(&mut self) -> Range<usize> {
        let start = self.at + 1;
        let end = start + end_of_string(&self.text[start..]);
        self.at = end + 1;
        start..end
    }

    /// Skips white space and returns the next byte.
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while bytes[self.at].is_ascii_whitespace() {
            self.at += 1;
        }
        bytes[self.at]
    }
}

fn is_link(name: &str) -> bool {
    ["nextLink", "context", "deltaLink"]
        .iter()
        .any(|annotation| {
            name.strip_suffix(annotation)
                .is_some_and(|start| start.ends_with("@odata.") || start.ends_with('@'))
        })
        || ["ResultLocation", "resultLocation", "Location"].contains(&name)
}
