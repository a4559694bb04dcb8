//! System query options (OData URL Conventions 4.01, section 5.1).

use std::cmp::Ordering;

use super::filter::Filter;
use super::model::{EntitySet, PropertyPath};
use super::primitive::Primitive;
use super::projection::Projection;
use super::query_error::QueryError;
use crate::query::Query;

/// Options of a collection.
pub(super) const COLLECTION: &[&str] = &[
    "$count", "$expand", "$filter", "$format", "$orderby", "$select", "$skip", "$top",
];
/// Options of one entity.
pub(super) const ENTITY: &[&str] = &["$expand", "$format", "$select"];
/// Options of everything else.
pub(super) const OTHER: &[&str] = &["$format"];

/// Options that Citrix implements and the emulator does not.
const NOT_IMPLEMENTED: [&str; 3] = ["$apply", "$compute", "$search"];

/// Rejects system query options that are not `allowed`, or repeated, and formats other than `media`.
/// Other parameters are the service's own.
pub(super) fn check(query: Query<'_>, allowed: &[&str], media: &str) -> Result<(), QueryError> {
    let mut seen = Vec::new();
    for name in query.names().filter(|name| name.starts_with('$')) {
        let name = name.to_ascii_lowercase();
        if NOT_IMPLEMENTED.contains(&&name[..]) {
            return Err(QueryError::NotImplemented(name));
        }
        if !allowed.contains(&&name[..]) {
            return Err(QueryError::Unsupported(name));
        }
        if seen.contains(&name) {
            return Err(QueryError::Repeated { name });
        }
        seen.push(name);
    }
    match query.get("$format") {
        Some(format) if !is_format(&format, media) => Err(QueryError::Format(format)),
        _ => Ok(()),
    }
}

/// Returns `true` for `json` and `application/json;…`, if `media` is `json`.
fn is_format(format: &str, media: &str) -> bool {
    let name = format.split(';').next().unwrap_or_default().trim();
    name.eq_ignore_ascii_case(media) || name.eq_ignore_ascii_case(&format!("application/{media}"))
}

/// The options of a collection, parsed.
pub(super) struct QueryOptions {
    pub(super) top: Option<usize>,
    pub(super) skip: usize,
    pub(super) count: bool,
    filter: Option<Filter>,
    /// Properties, with `true` for descending order.
    order: Vec<(PropertyPath, bool)>,
    pub(super) projection: Projection,
}

impl QueryOptions {
    pub(super) fn parse(query: Query<'_>, set: &'static EntitySet) -> Result<Self, QueryError> {
        check(query, COLLECTION, "json")?;
        let filter = query.get("$filter");
        Ok(Self {
            top: number(query, "$top")?,
            skip: number(query, "$skip")?.unwrap_or(0),
            count: flag(query, "$count")?,
            filter: filter.map(|text| Filter::parse(&text, set)).transpose()?,
            order: order(&query.get("$orderby").unwrap_or_default(), set)?,
            projection: Projection::parse(query, set)?,
        })
    }

    /// Returns the indices of the rows that match, in order.
    pub(super) fn rows(&self, set: &EntitySet) -> Vec<usize> {
        let matches = |index: &usize| {
            let filter = self.filter.as_ref();
            filter.is_none_or(|filter| filter.matches(*index))
        };
        let mut rows: Vec<usize> = (0..set.rows).filter(matches).collect();
        if !self.order.is_empty() {
            rows.sort_by_cached_key(|&index| OrderKey {
                values: self
                    .order
                    .iter()
                    .map(|(path, down)| (path.value(index), *down))
                    .collect(),
            });
        }
        rows
    }
}

fn number(query: Query<'_>, option: &'static str) -> Result<Option<usize>, QueryError> {
    query.number(option).map_err(|_| invalid(query, option))
}

fn flag(query: Query<'_>, option: &'static str) -> Result<bool, QueryError> {
    match query.get(option).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(invalid(query, option)),
    }
}

fn invalid(query: Query<'_>, option: &'static str) -> QueryError {
    let value = query.get(option).unwrap_or_default();
    QueryError::Value { option, value }
}

/// Parses `$orderby`. A property may occur once, which bounds the keys of a row.
fn order(text: &str, set: &'static EntitySet) -> Result<Vec<(PropertyPath, bool)>, QueryError> {
    let mut names = Vec::new();
    let mut order = Vec::new();
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let (name, direction) = item
            .split_once(char::is_whitespace)
            .unwrap_or((item, "asc"));
        let down = match direction.trim_start() {
            "asc" => false,
            "desc" => true,
            _ => {
                return Err(QueryError::Value {
                    option: "$orderby",
                    value: item.to_owned(),
                });
            }
        };
        if names.contains(&name) {
            let name = name.to_owned();
            return Err(QueryError::Repeated { name });
        }
        names.push(name);
        order.push((PropertyPath::parse(name, set)?, down));
    }
    Ok(order)
}

/// The values of the properties in `$orderby`, with `true` for descending order.
#[derive(PartialEq)]
struct OrderKey {
    values: Vec<(Primitive, bool)>,
}

impl Eq for OrderKey {}

impl Ord for OrderKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.values.iter().zip(&other.values);
        pairs
            .map(|((left, down), (right, _))| {
                let order = left.sort_order(right);
                if *down { order.reverse() } else { order }
            })
            .fold(Ordering::Equal, Ordering::then)
    }
}

impl PartialOrd for OrderKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
