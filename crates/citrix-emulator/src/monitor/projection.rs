//! `$select` and `$expand` (OData URL Conventions 4.01, sections 5.1.3 and 5.1.4).

use serde_json::{Map, Value};

use super::model::{EntitySet, Navigation, Property};
use super::query_error::QueryError;
use crate::query::Query;

/// Maximum nesting of `$expand`.
const MAX_DEPTH: usize = 3;

/// The properties and related rows that a response contains.
#[derive(Default)]
pub(super) struct Projection {
    /// Empty for all.
    select: Vec<&'static Property>,
    expand: Vec<(&'static Navigation, Projection)>,
}

impl Projection {
    pub(super) fn parse(query: Query<'_>, set: &'static EntitySet) -> Result<Self, QueryError> {
        let option = |name| query.get(name).unwrap_or_default();
        Self::of(&option("$select"), &option("$expand"), set, MAX_DEPTH)
    }

    fn of(
        select: &str,
        expand: &str,
        set: &'static EntitySet,
        depth: usize,
    ) -> Result<Self, QueryError> {
        let mut projection = Self::default();
        for name in items(select, ',').filter(|name| *name != "*") {
            let property = set.property(name)?;
            // A repetition has no effect; without it, the work for a row is bounded.
            if !projection.select.iter().any(|other| other.name == name) {
                projection.select.push(property);
            }
        }
        for item in items(expand, ',') {
            let depth = depth
                .checked_sub(1)
                .ok_or(QueryError::TooComplex("$expand"))?;
            let (name, options) = match item.split_once('(') {
                Some((name, rest)) => (name, rest.strip_suffix(')').ok_or_else(|| invalid(item))?),
                None => (item, ""),
            };
            let navigation = set.navigation(name.trim())?;
            if projection
                .expand
                .iter()
                .any(|(other, _)| other.name == navigation.name)
            {
                let name = name.to_owned();
                return Err(QueryError::Repeated { name });
            }
            let nested = Self::nested(options, navigation.target, depth)?;
            projection.expand.push((navigation, nested));
        }
        Ok(projection)
    }

    /// Parses the options of an expanded property: `$select=…;$expand=…`.
    fn nested(options: &str, set: &'static EntitySet, depth: usize) -> Result<Self, QueryError> {
        let (mut select, mut expand) = ("", "");
        for option in items(options, ';') {
            match option.split_once('=') {
                Some(("$select", names)) => select = names,
                Some(("$expand", names)) => expand = names,
                Some((name, _)) => return Err(QueryError::NotImplemented(name.to_owned())),
                None => return Err(invalid(option)),
            }
        }
        Self::of(select, expand, set, depth)
    }

    /// Returns the list for the context URL: `(Name,User())`, or nothing.
    pub(super) fn context(&self) -> String {
        let list = self.list();
        if list.is_empty() {
            list
        } else {
            format!("({list})")
        }
    }

    fn list(&self) -> String {
        let selected = self.select.iter().map(|property| property.name.to_owned());
        let expanded = self
            .expand
            .iter()
            .map(|(navigation, nested)| format!("{}({})", navigation.name, nested.list()));
        selected.chain(expanded).collect::<Vec<_>>().join(",")
    }

    /// Returns what the response contains of the row at `index`.
    pub(super) fn row(&self, set: &EntitySet, index: usize) -> Map<String, Value> {
        let mut row = set.row(index, &self.select);
        for (navigation, nested) in &self.expand {
            let related = nested.row(navigation.target, (navigation.index)(index));
            row.insert(navigation.name.to_owned(), Value::Object(related));
        }
        row
    }
}

fn invalid(value: &str) -> QueryError {
    QueryError::Value {
        option: "$expand",
        value: value.to_owned(),
    }
}

/// Splits at `separator` outside parentheses; without spaces around items, and without empty ones.
fn items(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == separator && depth == 0
    })
    .map(str::trim)
    .filter(|item| !item.is_empty())
}
