//! A batch, taken apart with serde_json one level after the other: what does not matter here stays text.

use std::fmt;
use std::ops::Range;

use http::header::HOST;
use http::{HeaderName, HeaderValue};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::{BatchError, BatchItem, MAX_ITEMS, Spot};
use crate::citrix::AuthorizationScheme;
use crate::citrix::headers::{CITRIX_CUSTOMER_ID, CUSTOMER, is_gateway_only};
use crate::lookalikes::is_lookalike;

/// The method of an item that names none (default of Citrix's SDK).
const DEFAULT_METHOD: &str = "GET";
/// Header fields of one item that are looked at; an item with more is refused.
const MAX_FIELDS: usize = 1000;

/// The operations of a batch, and where the tokens in it stand.
pub(super) fn read(body: &[u8]) -> Result<(Vec<BatchItem>, Vec<Spot>), BatchError> {
    let text = std::str::from_utf8(body).map_err(|error| not_utf8(body, error.valid_up_to()))?;
    // .NET may write a byte order mark, and reads over it.
    let json = text.strip_prefix('\u{feff}').unwrap_or(text);
    let [items] = members(json, ["Items"]).map_err(|error| not_a_batch(&error))?;
    let items = items.ok_or(BatchError::NoItems)?;
    let items = elements(items.get(), MAX_ITEMS + 1).map_err(|_| BatchError::NoItems)?;
    if items.len() > MAX_ITEMS {
        return Err(BatchError::TooManyItems);
    }
    let (mut operations, mut spots) = (Vec::with_capacity(items.len()), Vec::new());
    for (number, item) in items.into_iter().enumerate() {
        let (operation, authorization) = read_item(item).map_err(|_| BatchError::Item(number))?;
        operations.push(operation);
        spots.extend(authorization.map(|(value, scheme)| Spot {
            value: place(value, text),
            scheme,
        }));
    }
    Ok((operations, spots))
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

fn not_a_batch(error: &serde_json::Error) -> BatchError {
    match error.classify() {
        // The text of the error could quote the body.
        Category::Syntax | Category::Eof | Category::Io => BatchError::NotJson {
            line: error.line(),
            column: error.column(),
        },
        Category::Data => BatchError::NoItems,
    }
}

type Authorization<'b> = (&'b RawValue, AuthorizationScheme);

fn read_item(item: &RawValue) -> serde_json::Result<(BatchItem, Option<Authorization<'_>>)> {
    let [method, relative_url, headers] =
        members(item.get(), ["Method", "RelativeUrl", "Headers"])?;
    let method = method.map_or_else(|| Ok(DEFAULT_METHOD.to_owned()), text_of)?;
    let relative_url =
        text_of(relative_url.ok_or_else(|| serde_json::Error::missing_field("RelativeUrl"))?)?;
    let fields = headers.map_or_else(
        || Ok(Vec::new()),
        |headers| elements(headers.get(), MAX_FIELDS + 1),
    )?;
    if fields.len() > MAX_FIELDS {
        return Err(serde_json::Error::custom("too many fields"));
    }
    let mut operation = BatchItem {
        method,
        relative_url,
        customers: Vec::new(),
        has_misleading_fields: false,
    };
    let mut found = None;
    for field in fields {
        let [name, value] = members(field.get(), ["Name", "Value"])?;
        let (Some(name), Some(value)) = (name, value) else {
            continue;
        };
        let name = text_of(name)?;
        if !name.trim().eq_ignore_ascii_case("authorization") {
            operation.note(name.trim(), text_of(value).ok().as_deref());
        } else if found
            .replace((value, scheme_of(&text_of(value)?)))
            .is_some()
        {
            return Err(serde_json::Error::duplicate_field("Authorization"));
        }
    }
    Ok((operation, found))
}

impl BatchItem {
    /// Notes what a header field says of what is asked for; `None` is a value that is no text.
    fn note(&mut self, name: &str, value: Option<&str>) {
        let field = HeaderName::from_bytes(name.as_bytes()).ok();
        let value = value.filter(|value| HeaderValue::from_bytes(value.as_bytes()).is_ok());
        match field.zip(value) {
            Some((field, value)) if field == CITRIX_CUSTOMER_ID || field == CUSTOMER => {
                self.customers.push(value.trim().to_owned());
            }
            Some((field, _)) => {
                self.has_misleading_fields |=
                    field == HOST || is_gateway_only(&field) || is_lookalike(name)
            }
            None => self.has_misleading_fields = true,
        }
    }
}

/// The scheme in which a caller wrote its token (contract §2). What is none of Citrix's is written as `Bearer`, which
/// nested fields are known to have.
fn scheme_of(value: &str) -> AuthorizationScheme {
    match value.trim_start().get(..7) {
        Some(start) if start.eq_ignore_ascii_case("cwsauth") => AuthorizationScheme::Cws,
        _ => AuthorizationScheme::Bearer,
    }
}

/// Where a part of `text` stands in it.
fn place(part: &RawValue, text: &str) -> Range<usize> {
    let start = part.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + part.get().len()
}

fn text_of(value: &RawValue) -> serde_json::Result<String> {
    serde_json::from_str(value.get())
}

/// The members of an object that have these names, in whatever letter case; `null` is none. A name that comes twice is
/// an error: one reader takes the first, another the last.
fn members<'b, const N: usize>(
    json: &'b str,
    names: [&'static str; N],
) -> serde_json::Result<[Option<&'b RawValue>; N]> {
    let found = parse(json, Members(names))?;
    Ok(found.map(|value| value.filter(|value| value.get() != "null")))
}

/// The elements of an array; of a longer one the first `limit`.
fn elements(json: &str, limit: usize) -> serde_json::Result<Vec<&RawValue>> {
    parse(json, Elements(limit))
}

fn parse<'b, S: DeserializeSeed<'b>>(json: &'b str, seed: S) -> serde_json::Result<S::Value> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let value = seed.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

struct Members<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Members<N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
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
                    "a name that only some readers take for another",
                ));
            }
        }
        Ok(found)
    }
}

/// Whether a reader that knows all of Unicode takes a name for this one: the long s for an S, the dotless i for an I.
fn folds_to(name: &str, wanted: &str) -> bool {
    [name.to_uppercase(), name.to_lowercase()]
        .iter()
        .any(|folded| folded.eq_ignore_ascii_case(wanted))
}

struct Elements(usize);

impl<'de> DeserializeSeed<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_seq(self)
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
