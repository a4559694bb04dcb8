//! Functions in `$filter` (OData URL Conventions 4.01, section 5.1.1.5).

use crate::monitor::primitive::{EdmType, Primitive};

/// A function with the types of its arguments and of its result.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) arguments: &'static [EdmType],
    pub(super) result: EdmType,
    /// Returns `None` for null, whose result is null.
    call: fn(&[Primitive]) -> Option<Primitive>,
}

const TEXT: &[EdmType] = &[EdmType::String];
const TEXTS: &[EdmType] = &[EdmType::String, EdmType::String];
const DATE: &[EdmType] = &[EdmType::DateTimeOffset];

#[rustfmt::skip]
static FUNCTIONS: [Function; 15] = [
    function("contains", TEXTS, EdmType::Boolean, |given| Some(text(given, 0)?.contains(text(given, 1)?).into())),
    function("startswith", TEXTS, EdmType::Boolean, |given| Some(text(given, 0)?.starts_with(text(given, 1)?).into())),
    function("endswith", TEXTS, EdmType::Boolean, |given| Some(text(given, 0)?.ends_with(text(given, 1)?).into())),
    function("indexof", TEXTS, EdmType::Int32, |given| index_of(text(given, 0)?, text(given, 1)?)),
    function("length", TEXT, EdmType::Int32, |given| Some(text(given, 0)?.chars().count().into())),
    function("tolower", TEXT, EdmType::String, |given| Some(text(given, 0)?.to_lowercase().into())),
    function("toupper", TEXT, EdmType::String, |given| Some(text(given, 0)?.to_uppercase().into())),
    function("trim", TEXT, EdmType::String, |given| Some(text(given, 0)?.trim().into())),
    function("date", DATE, EdmType::DateTimeOffset, |given| Primitive::parse(rfc3339(given)?.get(..10)?)),
    function("year", DATE, EdmType::Int32, |given| field(given, 0, 4)),
    function("month", DATE, EdmType::Int32, |given| field(given, 5, 7)),
    function("day", DATE, EdmType::Int32, |given| field(given, 8, 10)),
    function("hour", DATE, EdmType::Int32, |given| field(given, 11, 13)),
    function("minute", DATE, EdmType::Int32, |given| field(given, 14, 16)),
    function("second", DATE, EdmType::Int32, |given| field(given, 17, 19)),
];

const fn function(
    name: &'static str,
    arguments: &'static [EdmType],
    result: EdmType,
    call: fn(&[Primitive]) -> Option<Primitive>,
) -> Function {
    Function {
        name,
        arguments,
        result,
        call,
    }
}

impl Function {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FUNCTIONS.iter().find(|function| function.name == name)
    }

    pub(super) fn call(&self, arguments: &[Primitive]) -> Primitive {
        (self.call)(arguments).unwrap_or(Primitive::Null)
    }
}

fn text(arguments: &[Primitive], position: usize) -> Option<&str> {
    match arguments.get(position)? {
        Primitive::String(text) => Some(text),
        _ => None,
    }
}

/// Returns the position of `part` in characters, and -1 if it is absent.
fn index_of(text: &str, part: &str) -> Option<Primitive> {
    match text.find(part) {
        Some(end) => Some(text.get(..end)?.chars().count().into()),
        None => Some((-1_i64).into()),
    }
}

fn rfc3339(arguments: &[Primitive]) -> Option<String> {
    match arguments.first()? {
        Primitive::Date(date) => Some(humantime::format_rfc3339(*date).to_string()),
        _ => None,
    }
}

/// Returns the number at a position of `2025-01-15T08:30:00Z`.
fn field(arguments: &[Primitive], start: usize, end: usize) -> Option<Primitive> {
    let number: i64 = rfc3339(arguments)?.get(start..end)?.parse().ok()?;
    Some(number.into())
}
