//! Links in answers, made to point at the gateway (interface §4.2, contract §5).
//!
//! A tool that follows a link verbatim would leave the gateway, reach Citrix without a token, and get a 401: page 1
//! works, page 2 fails. So a link to a host that the route table knows is rewritten so that the same table leads it
//! back to where it pointed. Only the beginning of a link changes; path, query and fragment behind it keep their
//! bytes.
//!
//! ```text
//! map      which origins are known, and what to put in their place      LinkMap, LinkRewriter
//! headers  Location, Content-Location, Link
//! json     the fields of a JSON body that hold links, as it streams     JsonRewriter
//!   search   finds the names of those fields, fast
//!   pairs    the name/value pairs of a batch answer's `Headers`
//!   text     a link inside a JSON string, with its escapes
//!   output   what is ready, and what waits for a decision
//! body     a body as it comes from the wire: coding out, JSON, coding in    BodyRewriter
//! ```

mod body;
mod headers;
mod json;
mod map;
mod output;
mod pairs;
mod search;
mod text;

#[cfg(test)]
mod tests;

pub use body::BodyRewriter;
pub use headers::{add_strong_tags, rewrite_headers, strip_content_metadata};
pub use json::{JsonRewriter, MAX_LINK};
pub use map::{LinkMap, LinkOutcome, LinkRewriter, LinkRoute, Splice};

/// How many links were met, for a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// They point at the gateway now.
    pub rewritten: u64,
    /// They are whole URLs of a host, or of a path on it, that no route leads to. They stayed as they were.
    pub unknown: u64,
}

impl LinkCounts {
    /// Counts one verdict, and hands on what to change.
    fn note(&mut self, verdict: LinkOutcome) -> Option<Splice> {
        match verdict {
            LinkOutcome::Rewrite(splice) => {
                self.rewritten += 1;
                Some(splice)
            }
            LinkOutcome::Unknown => {
                self.unknown += 1;
                None
            }
            LinkOutcome::NotALink => None,
        }
    }
}
