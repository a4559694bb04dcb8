//! Rewrites links in responses to point at the gateway (interface §4.2, contract §5).
//!
//! A tool that follows an unchanged link would bypass the gateway and receive 401 from Citrix: page
//! 1 works, page 2 fails. A link to a host of the route table is rewritten such that the same table
//! forwards it to where it pointed. Only the beginning of a link changes; the rest of its path,
//! query and fragment keep their bytes.
//!
//! ```text
//! map        reversed route table                          LinkMap, LinkRewriter
//! headers    Location, Content-Location, Link
//! cookies    Domain and Path of Set-Cookie
//! json       members with links in a streaming JSON body   JsonRewriter
//!   search     finds the names of these members
//!   pairs      name/value pairs in the Headers of a batch response
//!   text       links in JSON strings with escapes
//!   output     emitted and held-back pieces
//! body       a body in its content coding                  BodyRewriter
//! ```

mod body;
mod cookies;
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
pub use cookies::{CookieScope, rewrite_cookies};
pub use headers::{add_strong_tags, rewrite_headers, strip_content_metadata};
pub use json::JsonRewriter;
pub use map::{LinkMap, LinkOutcome, LinkRewriter, LinkRoute, Splice};

/// Maximum length of a rewritten link, and of a buffered `Headers` pair whose value precedes its
/// name, in bytes of JSON.
pub const MAX_LINK: usize = 16 * 1024;

/// Numbers of links, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    pub rewritten: u64,
    /// URLs of a host or path to which no route forwards.
    pub unknown: u64,
}

impl LinkCounts {
    /// Counts a link and returns the change to it.
    fn add(&mut self, outcome: LinkOutcome) -> Option<Splice> {
        match outcome {
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
