//! `$batch` requests of CVAD: several operations in one body, each with header fields of its own (contract §5).
//!
//! ```json
//! {"Items": [{"Reference": "0", "Method": "POST", "RelativeUrl": "Machines/1/$reboot",
//!             "Headers": [{"Name": "Authorization", "Value": "Bearer …"}], "Body": "…"}]}
//! ```
//!
//! A token in there is the caller's, like that in the head, and ours takes its place. All else keeps its bytes. What
//! cannot be read here for certain is refused: who knows what Citrix would read in it.

mod read;

#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;
use secrecy::zeroize::Zeroizing;

use super::{AuthorizationScheme, legacy};

/// Items of one batch at most. No limit of Citrix's is known; a token in each makes 20 MB of a batch that was small.
pub const MAX_ITEMS: usize = 10_000;

/// Whether a path, as it reaches Citrix, is that of a batch: below CVAD's management API or, on the direct hosts, the
/// orchestration API.
pub fn is_batch(path: &str) -> bool {
    let operation = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let named = ["$batch", "%24batch"]
        .iter()
        .any(|name| operation.eq_ignore_ascii_case(name));
    named
        && ["/cvad/manage", legacy::ORCHESTRATION]
            .iter()
            .any(|api| legacy::below(path, api).is_some())
}

/// Whether the path of a batch says for certain what its items are relative to: it is that of the API itself, which on
/// the direct hosts has a version, the customer and the site in it. Further down Citrix has none that is known.
pub fn is_api_batch(path: &str) -> bool {
    let segments = |rest: &str| {
        rest.split('/')
            .filter(|segment| !segment.is_empty())
            .count()
    };
    let deepest = [("/cvad/manage", 1), (legacy::ORCHESTRATION, 4)];
    is_batch(path)
        && deepest
            .iter()
            .any(|(api, most)| legacy::below(path, api).is_some_and(|rest| segments(rest) <= *most))
}

/// Why a body is not forwarded as a batch. It tells nothing of what the body holds.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Not JSON in UTF-8.
    #[error(
        "the body of a $batch request must be JSON in UTF-8; this is not, from line {line}, column {column} on"
    )]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1.
        column: usize,
    },
    /// Another kind of JSON.
    #[error("the body of a $batch request must be an object with one array Items")]
    NoItems,
    /// One of its items.
    #[error(
        "item {0} of the $batch request, counted from 0, cannot be read: an item is an object with the text \
         RelativeUrl and, if at all, the text Method and the array Headers of objects with the texts Name and Value, \
         each once, and with one Authorization among them"
    )]
    Item(usize),
    /// More than [`MAX_ITEMS`].
    #[error("the $batch request has more than {MAX_ITEMS} items")]
    TooManyItems,
}

/// A batch that was read. It does not print: callers put credentials into batches.
pub struct Batch {
    operations: Vec<BatchItem>,
    template: Template,
}

/// What an item asks for.
pub struct BatchItem {
    /// As it is written; `GET` where there is none.
    pub method: String,
    /// As it is written. It may have the customer and the site in front.
    pub relative_url: String,
    /// The customers that its own header fields name.
    pub customers: Vec<String>,
    /// Whether it has header fields that may change what it asks for: a method, a path or a host, a name that some
    /// servers take for one that matters, or what is no header field at all.
    pub has_misleading_fields: bool,
}

impl Batch {
    /// Reads the body of a request. Names are found in any letter case, in any order and in any spelling JSON has.
    ///
    /// # Errors
    /// When it is no batch, or could be read in more than one way.
    pub fn read(body: &Bytes) -> Result<Self, BatchError> {
        let (operations, spots) = read::read(body)?;
        Ok(Self {
            operations,
            template: Template {
                body: body.clone(),
                spots,
            },
        })
    }

    /// What each item asks for, in order.
    pub fn items(&self) -> &[BatchItem] {
        &self.operations
    }

    /// What is left when the callers' tokens are taken out.
    pub fn into_template(self) -> Template {
        self.template
    }
}

/// The value of a nested `Authorization`.
#[derive(Debug, PartialEq, Eq)]
struct Spot {
    /// Where in the body, with its quotes.
    value: Range<usize>,
    scheme: AuthorizationScheme,
}

/// A batch whose tokens are yet to be put in.
pub struct Template {
    body: Bytes,
    /// In their order.
    spots: Vec<Spot>,
}

impl Template {
    /// The body with the values of `Authorization` that are given for the schemes the caller used. The values are
    /// wiped when the last piece is gone; the rest is not copied.
    pub fn fill<'v>(
        &self,
        authorization: impl Fn(AuthorizationScheme) -> &'v HeaderValue,
    ) -> Vec<Bytes> {
        let [cws, bearer] = [AuthorizationScheme::Cws, AuthorizationScheme::Bearer]
            .map(|scheme| Bytes::from_owner(quoted(authorization(scheme))));
        let mut pieces = Vec::with_capacity(2 * self.spots.len() + 1);
        let mut done = 0;
        for Spot { value, scheme } in &self.spots {
            pieces.push(self.body.slice(done..value.start));
            pieces.push(match scheme {
                AuthorizationScheme::Cws => cws.clone(),
                AuthorizationScheme::Bearer => bearer.clone(),
            });
            done = value.end;
        }
        pieces.push(self.body.slice(done..));
        pieces
    }
}

/// A header value as a string of JSON. Of the control characters a value may have a tab alone (RFC 9110 section 5.5).
fn quoted(value: &HeaderValue) -> Zeroizing<Vec<u8>> {
    // Allocated whole: growing would leave copies behind.
    let mut json = Zeroizing::new(Vec::with_capacity(2 * value.len() + 2));
    json.push(b'"');
    for &byte in value.as_bytes() {
        match byte {
            b'"' | b'\\' => json.extend([b'\\', byte]),
            b'\t' => json.extend(b"\\t"),
            _ => json.push(byte),
        }
    }
    json.push(b'"');
    json
}
