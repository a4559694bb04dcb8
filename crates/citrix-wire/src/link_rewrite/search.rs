//! Finds the names of fields that hold links, without reading the JSON around them.
//!
//! This is what makes rewriting cheaper than copying. A page of machines has a hundred strings in each kilobyte, and
//! looking at every one takes ten times as long as a search for three words. It is exact all the same: in JSON, a quote
//! before a letter opens a string unless a backslash stands before it, and only a name has a colon behind it. So a match
//! of `"ResultLocation"` with a colon behind it is that name wherever it stands, and nothing inside a string can look
//! like it. In what is not JSON it may find a name where a parser would have given up; what happens then is that
//! a link next to it is rewritten.
//!
//! Names are taken as every serializer writes them: without escapes.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// The longest name with its quotes and the byte before it.
pub(super) const REACH: usize = 17;

/// What a name says about the value behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// A string that is a link.
    Link,
    /// The headers of a nested answer: an array of name/value pairs.
    Headers,
    /// A string that is a header's name, in one of these pairs.
    PairName,
    /// A string that is a header's value, in one of these pairs.
    PairValue,
}

/// A name that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) watched: Watched,
    /// The place after its closing quote.
    pub(super) end: usize,
}

/// The annotations that are links. What is annotated may stand in front: `Sessions@odata.nextLink`.
const ANNOTATIONS: [&[u8]; 3] = [b"@odata.nextLink", b"@odata.context", b"@odata.deltaLink"];
/// The properties that are links.
const PROPERTIES: [&[u8]; 2] = [b"ResultLocation", b"Location"];

impl Watched {
    /// What the name of a field says, given whole or at least its last [`REACH`] bytes.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        if name == b"Headers" {
            Some(Self::Headers)
        } else {
            Self::link(name)
        }
    }

    /// The same inside an array `Headers`: another one in there would be something else.
    pub(super) fn link(name: &[u8]) -> Option<Self> {
        let is_link = PROPERTIES.contains(&name)
            || ANNOTATIONS
                .iter()
                .any(|annotation| name.ends_with(annotation));
        is_link.then_some(Self::Link)
    }

    /// The same for a field of a pair.
    pub(super) fn in_pair(name: &[u8]) -> Option<Self> {
        match name {
            b"Name" => Some(Self::PairName),
            b"Value" => Some(Self::PairValue),
            _ => Self::link(name),
        }
    }
}

/// Words of which each name has one, and where they stand in it.
static WORDS: LazyLock<[Finder<'static>; 3]> = LazyLock::new(|| {
    [
        Finder::new("@odata."),
        Finder::new("Location\""),
        Finder::new("Headers\""),
    ]
});

/// A search through one piece of text.
pub(super) struct Search<'t> {
    text: &'t [u8],
    /// Where each word comes next; `usize::MAX` for nowhere. Remembered, so that a text full of one of them is
    /// not searched for the others again and again.
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

    /// The first name that lies wholly at or after `from`. `before` is the byte before `from`, where that belongs to
    /// the same search.
    pub(super) fn next(&mut self, from: usize, before: Option<u8>) -> Option<Found> {
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
                _ => quoted(&self.text[from..], at - from, before).map(|found| Found {
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

/// The name that ends in the annotation at `at`.
fn annotation(text: &[u8], at: usize) -> Option<Found> {
    let rest = &text[at..];
    let length = ANNOTATIONS
        .into_iter()
        .find(|name| rest.starts_with(name))?
        .len();
    (rest.get(length) == Some(&b'"')).then_some(Found {
        watched: Watched::Link,
        end: at + length + 1,
    })
}

/// The property whose last word begins at `at`.
fn quoted(text: &[u8], at: usize, before: Option<u8>) -> Option<Found> {
    let end = at + text[at..].iter().position(|byte| *byte == b'"')?;
    let start = text[..at].iter().rposition(|byte| *byte == b'"')? + 1;
    let watched = Watched::of(&text[start..end])?;
    let before = text[..start - 1].last().copied().or(before);
    (before != Some(b'\\')).then_some(Found {
        watched,
        end: end + 1,
    })
}

/// The last bytes of a text that comes in pieces, and the one before them.
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
        let fresh = &text[text.len().saturating_sub(REACH)..];
        let kept = self.length.min(REACH - fresh.len());
        let dropped = self.length - kept;
        self.before = match text.len().checked_sub(REACH + 1) {
            Some(at) => Some(text[at]),
            None if dropped > 0 => Some(self.bytes[dropped - 1]),
            None => self.before,
        };
        self.bytes.copy_within(dropped..self.length, 0);
        self.bytes[kept..kept + fresh.len()].copy_from_slice(fresh);
        self.length = kept + fresh.len();
    }

    /// The name that begins in here and ends in `text`, with its end in `text`.
    pub(super) fn name_across(&self, text: &[u8]) -> Option<Found> {
        if self.length == 0 {
            return None;
        }
        let head = &text[..text.len().min(REACH)];
        let window = [self.as_bytes(), head].concat();
        let found = Search::new(&window).next(0, self.before)?;
        Some(Found {
            end: found.end.checked_sub(self.length)?,
            ..found
        })
    }
}
