//! Rewrites links in a streaming JSON body.

use bytes::Bytes;

use super::output::Output;
use super::pairs::{ClosedBracket, HeaderPairs, PairHeader};
use super::search::{NameKind, NameMatch, Search, Tail};
use super::{LinkCounts, LinkRewriter, MAX_LINK, text};

/// Rewrites the links of a JSON body that arrives in pieces.
///
/// Links are the string values of `@odata.nextLink`, `@odata.context`, `@odata.deltaLink` (also as
/// annotations of a property, and without `odata.`), `ResultLocation` (or `resultLocation`) and `Location` at
/// any depth, and the `Value` of objects directly in an array `Headers` whose `Name` is `Location`. A `Headers`
/// array within another is not parsed as such.
///
/// - The output equals the input except for the beginning of known links, even if the input is not
///   JSON.
/// - The output does not depend on the boundaries of pieces.
/// - Unchanged parts are slices of the input, not copies.
/// - At most [`MAX_LINK`] bytes are held back: of an unfinished link, and of a pair from its value
///   to its name.
pub struct JsonRewriter {
    links: LinkRewriter,
    counts: LinkCounts,
    position: Position,
    /// Present inside an array `Headers`. Only there every string and bracket is parsed.
    pairs: Option<HeaderPairs>,
    output: Output,
}

/// The position in the text.
enum Position {
    /// Before a name. The tail holds the end of the text searched since the last name.
    Searching(Tail),
    /// After a name and, if `colon`, its colon.
    AfterName {
        name: NameKind,
        colon: bool,
    },
    InString(OpenString),
}

struct OpenString {
    role: StringRole,
    /// The last byte was a backslash that begins an escape.
    escaping: bool,
}

/// The meaning of a string.
enum StringRole {
    /// Possibly a member name in a pair; its tail identifies it.
    MemberName(Tail),
    /// The name of a header field.
    HeaderName(Tail),
    /// A link, with its held-back part.
    Link(Vec<u8>),
    /// The value of a header field whose name has not arrived, hence possibly a link.
    HeaderValue(Vec<u8>),
    Other,
}

impl JsonRewriter {
    /// Creates a rewriter for one body.
    pub fn new(links: LinkRewriter) -> Self {
        Self {
            links,
            counts: LinkCounts::default(),
            position: Position::Searching(Tail::default()),
            pairs: None,
            output: Output::default(),
        }
    }

    /// Appends a piece of the body.
    pub fn push(&mut self, text: &Bytes) {
        let mut piece = Piece {
            search: Search::new(text),
            text,
            emitted: 0,
        };
        let mut at = 0;
        while at < text.len() {
            let start = Position::Searching(Tail::default());
            at = match std::mem::replace(&mut self.position, start) {
                Position::Searching(_) if self.pairs.is_some() => self.next_token(&mut piece, at),
                Position::Searching(tail) => self.find_name(&mut piece, at, tail),
                Position::AfterName { name, colon } => self.after_name(text, at, name, colon),
                Position::InString(string) => self.in_string(&mut piece, at, string),
            };
        }
        self.output.push(piece.take(text.len()));
    }

    /// Marks the end of the body and releases held-back text unchanged.
    pub fn finish(&mut self) {
        if let Position::InString(OpenString {
            role: StringRole::Link(held) | StringRole::HeaderValue(held),
            ..
        }) = &mut self.position
        {
            self.output.push(Bytes::from(std::mem::take(held)));
        }
        self.output.release();
    }

    /// Returns the next piece of output; `None` until more input arrives.
    pub fn pull(&mut self) -> Option<Bytes> {
        self.output.pull()
    }

    /// Returns the number of links so far.
    pub fn counts(&self) -> LinkCounts {
        self.counts
    }

    /// Outside an array `Headers`: advances to the end of the next name.
    fn find_name(&mut self, piece: &mut Piece<'_>, at: usize, mut tail: Tail) -> usize {
        let across = tail.name_across(piece.text);
        let found = across.or_else(|| piece.search.next(at, tail.as_bytes().last().copied()));
        if let Some(NameMatch { name, end }) = found {
            self.position = Position::AfterName { name, colon: false };
            return end;
        }
        tail.push(&piece.text[at..]);
        self.position = Position::Searching(tail);
        piece.text.len()
    }

    /// Inside an array `Headers`: advances past the next quote or bracket.
    fn next_token(&mut self, piece: &mut Piece<'_>, at: usize) -> usize {
        let Some(pairs) = &mut self.pairs else {
            return at;
        };
        let rest = &piece.text[at..];
        let Some(next) = rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']'))
        else {
            return piece.text.len();
        };
        match rest[next] {
            b'"' => self.position = StringRole::MemberName(Tail::default()).begin(),
            bracket @ (b'{' | b'[') => pairs.open(bracket),
            _ => match pairs.close() {
                ClosedBracket::Inner => {}
                ClosedBracket::Element => self.output.release(),
                ClosedBracket::Array => self.pairs = None,
            },
        }
        at + next + 1
    }

    /// After a name: checks for a colon and a value of the expected type.
    fn after_name(&mut self, text: &[u8], at: usize, name: NameKind, colon: bool) -> usize {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let Some(spaces) = text[at..].iter().position(|byte| !is_space(byte)) else {
            self.position = Position::AfterName { name, colon };
            return text.len();
        };
        let next = at + spaces;
        match (colon, text[next], name) {
            (false, b':', _) => self.position = Position::AfterName { name, colon: true },
            (true, b'[', NameKind::Headers) => self.pairs = Some(HeaderPairs::default()),
            (true, b'"', NameKind::Link) => self.position = StringRole::Link(Vec::new()).begin(),
            (true, b'"', NameKind::PairName | NameKind::PairValue) => {
                self.position = self.role_in_pair(name).begin()
            }
            _ => return next,
        }
        next + 1
    }

    /// Returns the role of a value in a pair. Only the first `Name` counts, and only the first
    /// `Value` before it.
    fn role_in_pair(&mut self, name: NameKind) -> StringRole {
        let Some(pairs) = &mut self.pairs else {
            return StringRole::Other;
        };
        match (name, pairs.header()) {
            (NameKind::PairName, PairHeader::Unknown) => StringRole::HeaderName(Tail::default()),
            (NameKind::PairValue, PairHeader::Location) => StringRole::Link(Vec::new()),
            (NameKind::PairValue, PairHeader::Unknown) if pairs.is_first_value() => {
                StringRole::HeaderValue(Vec::new())
            }
            _ => StringRole::Other,
        }
    }

    /// Inside a string: advances past its end.
    fn in_string(&mut self, piece: &mut Piece<'_>, at: usize, mut string: OpenString) -> usize {
        let end = end_of_string(piece.text, at, &mut string.escaping);
        let stop = end.unwrap_or(piece.text.len());
        let part = &piece.text[at..stop];
        match &mut string.role {
            StringRole::MemberName(tail) | StringRole::HeaderName(tail) => tail.push(part),
            StringRole::Link(held) | StringRole::HeaderValue(held)
                if held.len() + part.len() > MAX_LINK =>
            {
                self.output.push(Bytes::from(std::mem::take(held)));
                string.role = StringRole::Other;
            }
            StringRole::Link(held) | StringRole::HeaderValue(held) => {
                self.output.push(piece.take(at));
                held.extend_from_slice(part);
                piece.emitted = stop;
            }
            StringRole::Other => {}
        }
        if end.is_none() {
            self.position = Position::InString(string);
            return stop;
        }
        self.end_string(piece, stop, string.role);
        stop + 1
    }

    /// Handles a string that ended at `end`.
    fn end_string(&mut self, piece: &mut Piece<'_>, end: usize, role: StringRole) {
        match role {
            StringRole::MemberName(tail) => {
                let in_pair = self.pairs.is_some_and(|pairs| pairs.is_pair());
                let name = if in_pair {
                    NameKind::in_pair(tail.as_bytes())
                } else {
                    NameKind::link(tail.as_bytes())
                };
                if let Some(name) = name {
                    self.position = Position::AfterName { name, colon: false };
                }
            }
            StringRole::HeaderName(tail) => {
                // Emitted first, so that the limit of held-back text does not depend on the
                // boundaries of pieces.
                self.output.push(piece.take(end));
                let header = self
                    .pairs
                    .as_mut()
                    .map(|pairs| pairs.set_header(tail.as_bytes()));
                if header != Some(PairHeader::Location) {
                    self.output.release();
                } else if let Some(link) = self.output.held().cloned() {
                    let pieces = self.rewrite(link);
                    self.output.replace(pieces);
                }
            }
            StringRole::Link(link) => {
                for part in self.rewrite(Bytes::from(link)) {
                    self.output.push(part);
                }
            }
            StringRole::HeaderValue(link) => self.output.hold(Bytes::from(link)),
            StringRole::Other => {}
        }
    }

    /// Returns the new beginning of a link and its unchanged rest.
    fn rewrite(&mut self, mut link: Bytes) -> [Bytes; 2] {
        match text::rewrite(&self.links, &link, &mut self.counts) {
            Some(splice) => [Bytes::from(splice.insert), link.split_off(splice.remove)],
            None => [Bytes::new(), link],
        }
    }
}

impl StringRole {
    /// Returns the position at the beginning of a string with this role.
    fn begin(self) -> Position {
        Position::InString(OpenString {
            role: self,
            escaping: false,
        })
    }
}

/// The current piece of the body.
struct Piece<'c> {
    text: &'c Bytes,
    search: Search<'c>,
    /// Length of the part that was emitted or is held back.
    emitted: usize,
}

impl Piece<'_> {
    /// Returns the part up to `end` that was not emitted.
    fn take(&mut self, end: usize) -> Bytes {
        self.text
            .slice(std::mem::replace(&mut self.emitted, end)..end)
    }
}

/// Returns the offset of the quote that closes the current string, from `at` on.
fn end_of_string(text: &[u8], mut at: usize, escaping: &mut bool) -> Option<usize> {
    if std::mem::take(escaping) {
        at += 1;
    }
    while let Some(next) = text
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += next;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
    *escaping = at > text.len();
    None
}
