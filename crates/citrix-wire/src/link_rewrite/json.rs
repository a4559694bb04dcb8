//! The links in a JSON body, rewritten as it streams by.

use bytes::Bytes;

use super::output::Output;
use super::pairs::{Closed, Header, Pairs};
use super::search::{Found, Search, Tail, Watched};
use super::{LinkCounts, LinkRewriter, text};

/// How long a link may be, in bytes of JSON; a longer one stays as it is. Also bounds what is held back of a `Headers`
/// pair whose value comes before its name.
pub const MAX_LINK: usize = 16 * 1024;

/// Rewrites the links of a JSON body that comes in pieces.
///
/// Links are the strings behind the names `@odata.nextLink`, `@odata.context`, `@odata.deltaLink` (also as annotations
/// of a property), `ResultLocation` and `Location`, at any depth, and the `Value` of the objects directly in an array
/// `Headers` whose `Name` is `Location`. (A `Headers` inside a `Headers` is not read like that.)
///
/// - What comes out is what went in but for the beginnings of known links, whether it is JSON or not.
/// - It does not depend on how the body is cut into pieces.
/// - All but links comes out as slices of what went in.
/// - Nothing is held back but a link that has not ended, and a pair from its value on until its name comes: at most
///   [`MAX_LINK`] bytes of each. The rest comes out as soon as it went in.
pub struct JsonRewriter {
    links: LinkRewriter,
    counts: LinkCounts,
    place: Place,
    /// Set inside an array `Headers`. Only there structure matters, and each string is looked at.
    pairs: Option<Pairs>,
    output: Output,
}

/// Where in the text we are.
enum Place {
    /// Before a name. The tail is what was searched already, since the last name.
    Search(Tail),
    /// Behind a name, and its colon if `colon`.
    Behind { watched: Watched, colon: bool },
    /// Inside a string.
    Inside(Inside),
}

struct Inside {
    string: Text,
    /// The last byte was a backslash that begins an escape.
    escaping: bool,
}

/// What a string is to us.
enum Text {
    /// A name in a pair, perhaps; its end is enough to tell.
    Name(Tail),
    /// A header's name.
    HeaderName(Tail),
    /// A link, and what of it came in earlier pieces and is held back.
    Link(Vec<u8>),
    /// Perhaps a link: the value of a header whose name comes later.
    HeaderValue(Vec<u8>),
    /// Nothing.
    Other,
}

impl JsonRewriter {
    /// One for a body.
    pub fn new(links: LinkRewriter) -> Self {
        Self {
            links,
            counts: LinkCounts::default(),
            place: Place::Search(Tail::default()),
            pairs: None,
            output: Output::default(),
        }
    }

    /// Takes the next piece of the body.
    pub fn push(&mut self, chunk: &Bytes) {
        let mut pass = Pass {
            search: Search::new(chunk),
            chunk,
            passed: 0,
        };
        let mut at = 0;
        while at < chunk.len() {
            at = match std::mem::replace(&mut self.place, Place::Search(Tail::default())) {
                Place::Search(_) if self.pairs.is_some() => self.next_token(&mut pass, at),
                Place::Search(tail) => self.next_name(&mut pass, at, tail),
                Place::Behind { watched, colon } => self.behind(chunk, at, watched, colon),
                Place::Inside(inside) => self.inside(&mut pass, at, inside),
            };
        }
        self.output.push(pass.until(chunk.len()));
    }

    /// Says that the body is over: what was held back is no link any more.
    pub fn finish(&mut self) {
        if let Place::Inside(Inside {
            string: Text::Link(held) | Text::HeaderValue(held),
            ..
        }) = &mut self.place
        {
            self.output.push(Bytes::from(std::mem::take(held)));
        }
        self.output.release();
    }

    /// What comes out next; `None` until the next piece has gone in.
    pub fn pull(&mut self) -> Option<Bytes> {
        self.output.pull()
    }

    /// How many links there were so far.
    pub fn counts(&self) -> LinkCounts {
        self.counts
    }

    /// Outside an array `Headers`: on to the next name.
    fn next_name(&mut self, pass: &mut Pass<'_>, at: usize, mut tail: Tail) -> usize {
        let across = tail.name_across(pass.chunk);
        let found = across.or_else(|| pass.search.next(at, tail.as_bytes().last().copied()));
        if let Some(Found { watched, end }) = found {
            self.place = Place::Behind {
                watched,
                colon: false,
            };
            return end;
        }
        tail.push(&pass.chunk[at..]);
        self.place = Place::Search(tail);
        pass.chunk.len()
    }

    /// Inside an array `Headers`: on to the next string or bracket.
    fn next_token(&mut self, pass: &mut Pass<'_>, at: usize) -> usize {
        let Some(pairs) = &mut self.pairs else {
            return at;
        };
        let rest = &pass.chunk[at..];
        let Some(next) = rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']'))
        else {
            return pass.chunk.len();
        };
        match rest[next] {
            b'"' => self.place = Text::Name(Tail::default()).begins(),
            bracket @ (b'{' | b'[') => pairs.open(bracket),
            _ => match pairs.close() {
                Closed::Inner => {}
                Closed::Element => self.output.release(),
                Closed::Array => self.pairs = None,
            },
        }
        at + next + 1
    }

    /// Behind a name: is there a colon and a value of the right kind?
    fn behind(&mut self, chunk: &[u8], at: usize, watched: Watched, colon: bool) -> usize {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let Some(blanks) = chunk[at..].iter().position(|byte| !blank(byte)) else {
            self.place = Place::Behind { watched, colon };
            return chunk.len();
        };
        let next = at + blanks;
        match (colon, chunk[next], watched) {
            (false, b':', _) => {
                self.place = Place::Behind {
                    watched,
                    colon: true,
                }
            }
            (true, b'[', Watched::Headers) => self.pairs = Some(Pairs::default()),
            (true, b'"', Watched::Link) => self.place = Text::Link(Vec::new()).begins(),
            (true, b'"', Watched::PairName | Watched::PairValue) => {
                self.place = self.of_pair(watched).begins()
            }
            _ => return next,
        }
        next + 1
    }

    /// What a string in a pair is. The first `Name` counts, and so does the first `Value` before it.
    fn of_pair(&mut self, watched: Watched) -> Text {
        let Some(pairs) = &mut self.pairs else {
            return Text::Other;
        };
        match (watched, pairs.header()) {
            (Watched::PairName, Header::Unknown) => Text::HeaderName(Tail::default()),
            (Watched::PairValue, Header::Location) => Text::Link(Vec::new()),
            (Watched::PairValue, Header::Unknown) if pairs.first_value() => {
                Text::HeaderValue(Vec::new())
            }
            _ => Text::Other,
        }
    }

    /// Inside a string: on to its end.
    fn inside(&mut self, pass: &mut Pass<'_>, at: usize, mut inside: Inside) -> usize {
        let end = end_of_string(pass.chunk, at, &mut inside.escaping);
        let stop = end.unwrap_or(pass.chunk.len());
        let part = &pass.chunk[at..stop];
        match &mut inside.string {
            Text::Name(tail) | Text::HeaderName(tail) => tail.push(part),
            Text::Link(held) | Text::HeaderValue(held) if held.len() + part.len() > MAX_LINK => {
                self.output.push(Bytes::from(std::mem::take(held)));
                inside.string = Text::Other;
            }
            Text::Link(held) | Text::HeaderValue(held) => {
                self.output.push(pass.until(at));
                held.extend_from_slice(part);
                pass.passed = stop;
            }
            Text::Other => {}
        }
        if end.is_none() {
            self.place = Place::Inside(inside);
            return stop;
        }
        self.ended(pass, stop, inside.string);
        stop + 1
    }

    /// A string ended at `end`.
    fn ended(&mut self, pass: &mut Pass<'_>, end: usize, string: Text) {
        match string {
            Text::Name(tail) => {
                let in_pair = self.pairs.is_some_and(|pairs| pairs.is_pair());
                let name = tail.as_bytes();
                let watched = if in_pair {
                    Watched::in_pair(name)
                } else {
                    Watched::link(name)
                };
                if let Some(watched) = watched {
                    self.place = Place::Behind {
                        watched,
                        colon: false,
                    };
                }
            }
            Text::HeaderName(tail) => {
                // Whether the value can still be held back must not depend on how the body is cut.
                self.output.push(pass.until(end));
                let header = self
                    .pairs
                    .as_mut()
                    .map(|pairs| pairs.named(tail.as_bytes()));
                if header != Some(Header::Location) {
                    self.output.release();
                } else if let Some(link) = self.output.held().cloned() {
                    let pieces = self.rewrite(link);
                    self.output.replace(pieces);
                }
            }
            Text::Link(link) => {
                for piece in self.rewrite(Bytes::from(link)) {
                    self.output.push(piece);
                }
            }
            Text::HeaderValue(link) => self.output.hold(Bytes::from(link)),
            Text::Other => {}
        }
    }

    /// A link as it goes out, in two pieces: what is new and what is left.
    fn rewrite(&mut self, mut link: Bytes) -> [Bytes; 2] {
        match text::judge(&self.links, &link, &mut self.counts) {
            Some(splice) => [Bytes::from(splice.insert), link.split_off(splice.remove)],
            None => [Bytes::new(), link],
        }
    }
}

impl Text {
    /// The place at its beginning.
    fn begins(self) -> Place {
        Place::Inside(Inside {
            string: self,
            escaping: false,
        })
    }
}

/// One piece of the body, on its way through.
struct Pass<'c> {
    chunk: &'c Bytes,
    search: Search<'c>,
    /// Up to here it has gone out or is held back.
    passed: usize,
}

impl Pass<'_> {
    /// What has not gone out yet, up to `end`.
    fn until(&mut self, end: usize) -> Bytes {
        self.chunk
            .slice(std::mem::replace(&mut self.passed, end)..end)
    }
}

/// Where the quote is that closes the string we are in, from `at` on.
fn end_of_string(chunk: &[u8], mut at: usize, escaping: &mut bool) -> Option<usize> {
    if std::mem::take(escaping) {
        at += 1;
    }
    while let Some(next) = chunk
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += next;
        if chunk[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
    *escaping = at > chunk.len();
    None
}
