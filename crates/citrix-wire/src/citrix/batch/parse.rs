//! Parses a batch level by level with serde_json; irrelevant values stay raw text.

use std::fmt;
use std::ops::Range;

use http::header::HOST;
use http::{HeaderName, HeaderValue};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::{BatchError, BatchItem, MAX_ITEMS, NestedToken};
use crate::citrix::AuthorizationScheme;
use crate::citrix::headers::{CITRIX_CUSTOMER_ID, CUSTOMER, is_gateway_only};
use crate::lookalikes::is_lookalike;

/// Method of an item without one (default of Citrix's SDK).
const DEFAULT_METHOD: &str = "GET";
/// Maximum number of header fields of an item.
const MAX_FIELDS: usize = 1000;

/// Returns the items of a batch and the positions of nested tokens.
pub(super) fn parse(body: &[u8]) -> Result<(Vec<BatchItem>, Vec<NestedToken>), BatchError> {
    let text = std::str::from_utf8(body).map_err(|error| not_utf8(body, error.valid_up_to()))?;
    // .NET may write a byte order mark, and ignores one.
    let json = text.strip_prefix('\u{feff}').unwrap_or(text);
    let [items] = members(json, ["Items"]).map_err(|error| syntax_error(&error))?;
    let items = items.ok_or(BatchError::NoItems)?;
    let items = elements(items.get(), MAX_ITEMS + 1).map_err(|_| BatchError::NoItems)?;
    if items.len() > MAX_ITEMS {
        return Err(BatchError::TooManyItems);
    }
    let (mut parsed, mut tokens) = (Vec::with_capacity(items.len()), Vec::new());
    for (number, item) in items.into_iter().enumerate() {
        let (item, authorization) = parse_item(item).map_err(|_| BatchError::Item(number))?;
        parsed.push(item);
        tokens.extend(authorization.map(|(value, scheme)| NestedToken {
            value: position(value, text),
            scheme,
        }));
    }
    Ok((parsed, tokens))
}

fn not_utf8(body: &[u8], valid: usize) -> BatchError {
    let before = &body[..valid];
    let line_start = before
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
    BatchError::NotJson {
        line,
        column: valid - line_start + 1,
    }
}

fn syntax_error(error: &serde_json::Error) -> BatchError {
    match error.classify() {
        // Drops serde_json's text, which may quote the body.
        Category::Syntax | Category::Eof | Category::Io => BatchError::NotJson {
            line: error.line(),
            column: error.column(),
        },
        Category::Data => BatchError::NoItems,
    }
}

type Authorization<'b> = (&'b RawValue, AuthorizationScheme);

fn parse_item(item: &RawValue) -> serde_json::Result<(BatchItem, Option<Authorization<'_>>)> {
    let [method, relative_url, headers] =
        members(item.get(), ["Method", "RelativeUrl", "Headers"])?;
    let method = method.map_or_else(|| Ok(DEFAULT_METHOD.to_owned()), string)?;
    let relative_url =
        string(relative_url.ok_or_else(|| serde_json::Error::missing_field("RelativeUrl"))?)?;
    let fields = headers.map_or_else(
        || Ok(Vec::new()),
        |headers| elements(headers.get(), MAX_FIELDS + 1),
    )?;
    if fields.len() > MAX_FIELDS {
        return Err(serde_json::Error::custom("too many fields"));
    }
    let mut parsed = BatchItem {
        method,
        relative_url,
        customers: Vec::new(),
        has_misleading_fields: false,
    };
    let mut authorization = None;
    for field in fields {
        let [name, value] = members(field.get(), ["Name", "Value"])?;
        let (Some(name), Some(value)) = (name, value) else {
            continue;
        };
        let name = string(name)?;
        if !name.trim().eq_ignore_ascii_case("authorization") {
            parsed.add_field(name.trim(), string(value).ok().as_deref());
        } else if authorization
            .replace((value, scheme(&string(value)?)))
            .is_some()
        {
            return Err(serde_json::Error::duplicate_field("Authorization"));
        }
    }
    Ok((parsed, authorization))
}

impl BatchItem {
    /// Evaluates a header field other than `Authorization`; `value` is `None` if it is not a
    /// string.
    fn add_field(&mut self, name: &str, value: Option<&str>) {
        let field = HeaderName::from_bytes(name.as_bytes()).ok();
        let value = value.filter(|value| HeaderValue::from_bytes(value.as_bytes()).is_ok());
        match field.zip(value) {
            Some((field, value)) if field == CITRIX_CUSTOMER_ID || field == CUSTOMER => {
                let named = value.trim();
                // An empty one counts as absent.
                self.customers
                    .extend((!named.is_empty()).then(|| named.to_owned()));
            }
            Some((field, _)) => {
                self.has_misleading_fields |=
                    field == HOST || is_gateway_only(&field) || is_lookalike(name)
            }
            None => self.has_misleading_fields = true,
        }
    }
}

/// Returns the scheme of a caller's token (contract §2); `Bearer`, the documented one of nested
/// fields, for any other.
fn scheme(value: &str) -> AuthorizationScheme {
    match value.trim_start().get(..7) {
        Some(start) if start.eq_ignore_ascii_case("cwsauth") => AuthorizationScheme::Cws,
        _ => AuthorizationScheme::Bearer,
    }
}

/// Returns the position of a slice of `text`.
fn position(part: &RawValue, text: &str) -> Range<usize> {
    let start = part.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + part.get().len()
}

fn string(value: &RawValue) -> serde_json::Result<String> {
    serde_json::from_str(value.get())
}

/// Returns the members of an object with these case-insensitive names; `null` counts as absent. A
/// repeated name is an error, since some parsers use the first and others the last.
fn members<'b, const N: usize>(
    json: &'b str,
    names: [&'static str; N],
) -> serde_json::Result<[Option<&'b RawValue>; N]> {
    let found = deserialize(json, Members(names))?;
    Ok(found.map(|value| value.filter(|value| value.get() != "null")))
}

/// Returns at most the first `limit` elements of an array.
fn elements(json: &str, limit: usize) -> serde_json::Result<Vec<&RawValue>> {
    deserialize(json, Elements(limit))
}

fn deserialize<'b, S: DeserializeSeed<'b>>(json: &'b str, seed: S) -> serde_json::Result<S::Value> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

struct Members<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Members<N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            let wanted = self
                .0
                .iter()
                .position(|wanted| wanted.eq_ignore_ascii_case(&name));
            if let Some(wanted) = wanted
                && found[wanted].replace(value).is_some()
            {
                return Err(A::Error::duplicate_field(self.0[wanted]));
            }
            if !name.is_ascii() && self.0.iter().any(|wanted| folds_to(&name, wanted)) {
                return Err(A::Error::custom(
                    "a name that only some parsers match, ignoring case",
                ));
            }
        }
        Ok(found)
    }
}

/// Returns `true` if Unicode case folding maps a name to this one: the long s to S, the dotless i
/// to I.
fn folds_to(name: &str, wanted: &str) -> bool {
    [name.to_uppercase(), name.to_lowercase()]
        .iter()
        .any(|folded| folded.eq_ignore_ascii_case(wanted))
}

struct Elements(usize);

impl<'de> DeserializeSeed<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(element) = array.next_element()? {
            if found.len() < self.0 {
                found.push(element);
            }
        }
        Ok(found)
    }
}
