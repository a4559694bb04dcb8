//! Finds the names of members that hold links without parsing the surrounding JSON.
//!
//! A page of machines has a hundred strings per kilobyte; parsing each takes ten times as long as
//! searching three words. The search is exact: in JSON, a quote before a letter opens a string
//! unless a backslash precedes it, and only a name is followed by a colon. `"ResultLocation"`
//! followed by a colon is thus always that name, and nothing inside a string looks like it. In
//! invalid JSON a name may be found where a parser would have failed; then the link after it is
//! rewritten.
//!
//! Names with escapes are not found; no serializer writes them.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Length of the longest match: an annotation with its closing quote, or a property with both
/// quotes and the byte before.
pub(super) const REACH: usize = 17;

/// The kind of a member, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameKind {
    /// The value is a link.
    Link,
    /// The value is an array of name/value pairs.
    Headers,
    /// The value is the name of a pair's header field.
    PairName,
    /// The value is the value of a pair's header field.
    PairValue,
}

/// The position of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameMatch {
    pub(super) name: NameKind,
    /// Offset after the closing quote.
    pub(super) end: usize,
}

/// Annotations that are links, possibly after the annotated property: `Sessions@odata.nextLink`.
/// OData 4.01 permits them without `odata.` (OData JSON 4.01, section 4.6).
const ANNOTATIONS: [&[u8]; 6] = [
    b"@odata.nextLink",
    b"@odata.context",
    b"@odata.deltaLink",
    b"@nextLink",
    b"@context",
    b"@deltaLink",
];
/// Properties that are links.
const PROPERTIES: [&[u8]; 3] = [b"ResultLocation", b"resultLocation", b"Location"];

impl NameKind {
    /// Returns the kind of a name, of which the last [`REACH`] bytes suffice.
    pub(super) fn outside_headers(name: &[u8]) -> Option<Self> {
        if name == b"Headers" {
            Some(Self::Headers)
        } else {
            Self::link(name)
        }
    }

    /// Like [`outside_headers`](Self::outside_headers), inside an array `Headers`, where a nested
    /// `Headers` is ignored.
    pub(super) fn link(name: &[u8]) -> Option<Self> {
        let is_link = PROPERTIES.contains(&name)
            || ANNOTATIONS
                .iter()
                .any(|annotation| name.ends_with(annotation));
        is_link.then_some(Self::Link)
    }

    /// Returns the kind of a pair's member.
    pub(super) fn in_pair(name: &[u8]) -> Option<Self> {
        match name {
            b"Name" => Some(Self::PairName),
            b"Value" => Some(Self::PairValue),
            _ => Self::link(name),
        }
    }
}

/// Words of which each name contains one.
static WORDS: LazyLock<[Finder<'static>; 3]> = LazyLock::new(|| {
    [
        Finder::new("@"),
        Finder::new("Location\""),
        Finder::new("Headers\""),
    ]
});

/// A search in one piece of text.
pub(super) struct Search<'t> {
    text: &'t [u8],
    /// Offset of the next occurrence of each word, or `usize::MAX`. Cached, so that many
    /// occurrences of one word do not repeat the search for the others.
    upcoming: [usize; 3],
}

impl<'t> Search<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        let mut search = Self {
            text,
            upcoming: [0; 3],
        };
        for word in 0..WORDS.len() {
            search.advance(word, 0);
        }
        search
    }

    /// Returns the first name that begins at or after `from`. `before` is the byte before `from`,
    /// if it belongs to the same text.
    pub(super) fn next(&mut self, from: usize, before: Option<u8>) -> Option<NameMatch> {
        for word in 0..WORDS.len() {
            if self.upcoming[word] < from {
                self.advance(word, from);
            }
        }
        loop {
            let (word, at) = self
                .upcoming
                .into_iter()
                .enumerate()
                .min_by_key(|(_, at)| *at)?;
            if at == usize::MAX {
                return None;
            }
            self.advance(word, at + 1);
            let found = match word {
                0 => annotation(self.text, at),
                _ => quoted(&self.text[from..], at - from, before).map(|found| NameMatch {
                    end: from + found.end,
                    ..found
                }),
            };
            if found.is_some() {
                return found;
            }
        }
    }

    fn advance(&mut self, word: usize, from: usize) {
        let next = WORDS[word].find(&self.text[from..]);
        self.upcoming[word] = next.map_or(usize::MAX, |at| from + at);
    }
}

/// Returns the name that ends with the annotation at `at`.
fn annotation(text: &[u8], at: usize) -> Option<NameMatch> {
    let rest = &text[at..];
    let length = ANNOTATIONS
        .into_iter()
        .find(|name| rest.starts_with(name))?
        .len();
    (rest.get(length) == Some(&b'"')).then_some(NameMatch {
        name: NameKind::Link,
        end: at + length + 1,
    })
}

/// Returns the property whose last word begins at `at`.
fn quoted(text: &[u8], at: usize, before: Option<u8>) -> Option<NameMatch> {
    let end = at + text[at..].iter().position(|byte| *byte == b'"')?;
    let start = text[..at].iter().rposition(|byte| *byte == b'"')? + 1;
    let name = NameKind::outside_headers(&text[start..end])?;
    let before = text[..start - 1].last().copied().or(before);
    (before != Some(b'\\')).then_some(NameMatch { name, end: end + 1 })
}

/// The last [`REACH`] bytes of a text that arrives in pieces, and the byte before them.
#[derive(Default)]
pub(super) struct Tail {
    bytes: [u8; REACH],
    length: usize,
    before: Option<u8>,
}

impl Tail {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(super) fn push(&mut self, text: &[u8]) {
        let end = &text[text.len().saturating_sub(REACH)..];
        let kept = self.length.min(REACH - end.len());
        let dropped = self.length - kept;
        self.before = match text.len().checked_sub(REACH + 1) {
            Some(at) => Some(text[at]),
            None if dropped > 0 => Some(self.bytes[dropped - 1]),
            None => self.before,
        };
        self.bytes.copy_within(dropped..self.length, 0);
        self.bytes[kept..kept + end.len()].copy_from_slice(end);
        self.length = kept + end.len();
    }

    /// Returns a name that begins in the tail and ends in `text`.
    pub(super) fn name_across(&self, text: &[u8]) -> Option<NameMatch> {
        if self.length == 0 {
            return None;
        }
        let head = &text[..text.len().min(REACH)];
        let window = [self.as_bytes(), head].concat();
        let found = Search::new(&window).next(0, self.before)?;
        Some(NameMatch {
            end: found.end.checked_sub(self.length)?,
            ..found
        })
    }
}
