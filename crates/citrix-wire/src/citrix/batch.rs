//! `$batch` requests of CVAD: several operations in one body, each with its own header fields
//! (contract §5).
//!
//! ```json
//! {"Items": [{"Reference": "0", "Method": "POST", "RelativeUrl": "Machines/1/$reboot",
//!             "Headers": [{"Name": "Authorization", "Value": "Bearer …"}], "Body": "…"}]}
//! ```
//!
//! The values of nested `Authorization` fields are replaced by the gateway's token; all other bytes
//! are kept. A body that parsers may read in several ways is rejected.

mod parse;

#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;
use secrecy::zeroize::Zeroizing;

use super::{AuthorizationScheme, legacy};
use crate::path_readings::PathReadings;

/// Maximum number of items. Citrix documents no limit; a token in each of these adds 20 MB to a
/// small batch.
pub const MAX_ITEMS: usize = 10_000;

/// The kind of a path in the form in which Citrix receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchPath {
    /// Not that of a batch of CVAD.
    Other,
    /// That of a batch, in every reading.
    Api,
    /// One that a server may read as that of a batch, or a batch at a place where none is
    /// documented. It must not be forwarded with a body: its tokens would be the caller's.
    Lookalike,
}

impl BatchPath {
    /// Classifies a path by its readings.
    pub fn of(path: &str, readings: &PathReadings) -> Self {
        let mut all = readings.with(path);
        let depth = |path: &str| path.strip_suffix('/').unwrap_or(path).matches('/').count();
        if all
            .clone()
            .all(|reading| is_api_batch(reading) && depth(reading) == depth(path))
        {
            Self::Api
        } else if all.any(is_batch) {
            Self::Lookalike
        } else {
            Self::Other
        }
    }
}

/// Returns `true` if a path is that of a batch: below CVAD's management API or, on direct hosts,
/// the orchestration API.
fn is_batch(path: &str) -> bool {
    let operation = path
        .strip_suffix('/')
        .unwrap_or(path)
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let has_name = ["$batch", "%24batch"]
        .iter()
        .any(|name| operation.eq_ignore_ascii_case(name));
    has_name
        && ["/cvad/manage", legacy::ORCHESTRATION]
            .iter()
            .any(|api| legacy::below(path, api).is_some())
}

/// Returns `true` if the path is that of a batch directly below the API, so that the base of its
/// items is certain. On direct hosts a version, the customer and the site may precede `$batch`. No
/// deeper batch of Citrix is documented.
fn is_api_batch(path: &str) -> bool {
    const MAX_SEGMENTS: [(&str, usize); 2] = [("/cvad/manage", 1), (legacy::ORCHESTRATION, 4)];
    let segments = |rest: &str| {
        rest.split('/')
            .filter(|segment| !segment.is_empty())
            .count()
    };
    is_batch(path)
        && MAX_SEGMENTS.iter().any(|(api, maximum)| {
            legacy::below(path, api).is_some_and(|rest| segments(rest) <= *maximum)
        })
}

/// Why a body is rejected as a batch. The texts quote nothing from the body.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Invalid JSON or UTF-8.
    #[error("the $batch body is not UTF-8 JSON at line {line}, column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1.
        column: usize,
    },
    /// JSON without an array `Items`, or with two.
    #[error("the $batch body is not an object with one array Items")]
    NoItems,
    /// An invalid or ambiguous item.
    #[error(
        "item {0} of the $batch body (counted from 0) is not an object with the string RelativeUrl and, optionally, \
         the string Method and the array Headers of objects with strings Name and Value, each name once and at most \
         one Authorization"
    )]
    Item(usize),
    /// More than [`MAX_ITEMS`].
    #[error("the $batch body has more than {MAX_ITEMS} items")]
    TooManyItems,
}

/// A parsed batch. No `Debug`: callers put credentials into batches.
pub struct BatchBody {
    items: Vec<BatchItem>,
    template: BatchTemplate,
}

/// The request that an item describes.
pub struct BatchItem {
    /// The method as written; `GET` by default.
    pub method: String,
    /// The URL as written, possibly with a leading customer and site.
    pub relative_url: String,
    /// Values of the item's customer fields.
    pub customers: Vec<String>,
    /// Header fields of the item may change its method, path or host, have a lookalike name, or are
    /// malformed.
    pub has_misleading_fields: bool,
}

impl BatchBody {
    /// Parses a body. Member names are case-insensitive and may contain JSON escapes.
    ///
    /// # Errors
    /// If the body is no batch, or ambiguous.
    pub fn parse(body: &Bytes) -> Result<Self, BatchError> {
        let (items, tokens) = parse::parse(body)?;
        Ok(Self {
            items,
            template: BatchTemplate {
                body: body.clone(),
                tokens,
            },
        })
    }

    /// Returns the items in order.
    pub fn items(&self) -> &[BatchItem] {
        &self.items
    }

    /// Returns the body with its tokens to be replaced.
    pub fn into_template(self) -> BatchTemplate {
        self.template
    }
}

/// The value of a nested `Authorization`.
#[derive(Debug, PartialEq, Eq)]
struct NestedToken {
    /// Position in the body, including the quotes.
    value: Range<usize>,
    scheme: AuthorizationScheme,
}

/// A body whose nested tokens are to be replaced.
pub struct BatchTemplate {
    body: Bytes,
    /// In ascending order.
    tokens: Vec<NestedToken>,
}

impl BatchTemplate {
    /// Returns the body with nested values of `Authorization` replaced, each by the one for the
    /// scheme that the caller used. The new values are zeroized on drop; the rest is not copied.
    pub fn fill<'v>(
        &self,
        authorization: impl Fn(AuthorizationScheme) -> &'v HeaderValue,
    ) -> Vec<Bytes> {
        let [cws, bearer] = [AuthorizationScheme::Cws, AuthorizationScheme::Bearer]
            .map(|scheme| Bytes::from_owner(quoted(authorization(scheme))));
        let mut pieces = Vec::with_capacity(2 * self.tokens.len() + 1);
        let mut done = 0;
        for NestedToken { value, scheme } in &self.tokens {
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

/// Returns a field value as a JSON string. Its only possible control character is a tab (RFC 9110
/// section 5.5).
fn quoted(value: &HeaderValue) -> Zeroizing<Vec<u8>> {
    // Full capacity: reallocation would leave copies that are not zeroized.
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
