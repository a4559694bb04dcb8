//! TOML text to values, going on after a mistake.
//!
//! Deserializing would stop at the first mistake and print the line it is in, secrets included. Here every
//! syntax error is reported by position and kind alone, and what is broken is blanked out, so that the rest can
//! be read and checked as well.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeFloat, DeInteger, DeTable, DeValue, Error};
use toml::{Table, Value};

use super::report::Report;

/// After so many syntax errors the text is taken for something other than TOML.
const MOST_ERRORS: usize = 50;

/// What of `text` can be read; the rest is reported.
pub(super) fn parse(text: &str, report: &mut Report<'_>) -> Table {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    // The parser does not find them in the order they are in.
    let mut errors = BTreeMap::new();
    let table = loop {
        let text = lines.concat();
        match parse_whole(&text, &mut errors) {
            Ok(table) => break table,
            Err(error) => {
                let place = position(&text, error.span().map_or(0, |span| span.start));
                errors.insert(place, error.message().to_owned());
                if errors.len() == MOST_ERRORS || !blank(&mut lines, place.0 - 1) {
                    break Table::new();
                }
            }
        }
    };
    for ((line, column), what) in errors {
        report.syntax(line, column, &what);
    }
    table
}

/// An inline table, as an environment variable may hold it.
pub(super) fn parse_table(text: &str) -> Option<Table> {
    match parse_value(text)? {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

/// A list, as an environment variable may hold it.
pub(super) fn parse_list(text: &str) -> Option<Vec<Value>> {
    match parse_value(text)? {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

fn parse_value(text: &str) -> Option<Value> {
    toml::from_str::<Table>(&format!("value = {text}"))
        .ok()?
        .remove("value")
}

type Errors = BTreeMap<(usize, usize), String>;

fn parse_whole(text: &str, errors: &mut Errors) -> Result<Table, Error> {
    let document = DeTable::parse(text)?;
    Ok(Reader { text, errors }.table(document.get_ref()))
}

/// Line and column, both from 1, of a byte.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    (before.matches('\n').count() + 1, column)
}

/// Blanks out the statement that the line with index `at` belongs to, as far as one can see without a parser. A
/// `[header]` takes its table along, whose keys would go to the table before. False when there is nothing to
/// blank out.
fn blank(lines: &mut [String], at: usize) -> bool {
    let is_header = |line: &String| line.trim_start().starts_with('[');
    let begins = |line: &String| {
        is_header(line)
            || line
                .trim_start()
                .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    };
    let Some(broken) = lines.get(at).filter(|line| !line.trim().is_empty()) else {
        return false;
    };
    let whole_table = is_header(broken);
    let first = lines[..=at]
        .iter()
        .rposition(begins)
        .filter(|first| *first == at || !is_header(&lines[*first]));
    let after = lines[at + 1..].iter().position(|line| {
        if whole_table {
            is_header(line)
        } else {
            begins(line)
        }
    });
    let end = after.map_or(lines.len(), |after| at + 1 + after);
    lines[first.unwrap_or(at)..end].fill("\n".to_owned());
    true
}

/// Parsed text to plain values. Numbers are where the two differ: text may hold larger ones.
struct Reader<'t, 'e> {
    text: &'t str,
    errors: &'e mut Errors,
}

impl Reader<'_, '_> {
    fn table(&mut self, table: &DeTable<'_>) -> Table {
        let entries = table.iter();
        entries
            .filter_map(|(key, value)| Some((key.get_ref().to_string(), self.value(value)?)))
            .collect()
    }

    fn array(&mut self, array: &DeArray<'_>) -> Vec<Value> {
        array.iter().filter_map(|value| self.value(value)).collect()
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        match value.get_ref() {
            DeValue::String(text) => Some(Value::String(text.to_string())),
            DeValue::Integer(number) => self.number(value.span(), integer(number)),
            DeValue::Float(number) => self.number(value.span(), float(number)),
            DeValue::Boolean(yes) => Some(Value::Boolean(*yes)),
            DeValue::Datetime(date) => Some(Value::Datetime(*date)),
            DeValue::Array(array) => Some(Value::Array(self.array(array))),
            DeValue::Table(table) => Some(Value::Table(self.table(table))),
        }
    }

    fn number(&mut self, span: Range<usize>, number: Option<Value>) -> Option<Value> {
        if number.is_none() {
            self.errors.insert(
                position(self.text, span.start),
                "a number that TOML cannot hold".to_owned(),
            );
        }
        number
    }
}

fn integer(number: &DeInteger<'_>) -> Option<Value> {
    i64::from_str_radix(number.as_str(), number.radix())
        .ok()
        .map(Value::Integer)
}

fn float(number: &DeFloat<'_>) -> Option<Value> {
    number.as_str().parse().ok().map(Value::Float)
}

#[cfg(test)]
mod tests {
    use super::super::environment::Environment;
    use super::*;

    /// The positions of syntax errors in `text`, and the keys read all the same.
    fn read(text: &str) -> (Vec<String>, Vec<String>) {
        let environment = Environment::new([]);
        let mut report = Report::new(&environment);
        let table = parse(text, &mut report);
        let mut keys: Vec<String> = Vec::new();
        for (key, value) in &table {
            match value {
                Value::Table(table) => {
                    keys.extend(table.keys().map(|below| format!("{key}.{below}")))
                }
                _ => keys.push(key.clone()),
            }
        }
        let problems = report.finish(None::<()>).unwrap_err();
        (
            problems.into_iter().map(|problem| problem.key).collect(),
            keys,
        )
    }

    #[test]
    fn what_is_beside_a_broken_line_is_read() {
        for (text, errors, keys) in [
            ("[a]\nx = 1\ny = 2", vec![], vec!["a.x", "a.y"]),
            ("[a]\nx = \"1\ny = 2", vec!["line 2, column 7"], vec!["a.y"]),
            ("[a]\nx 1\ny = 2", vec!["line 2, column 3"], vec!["a.y"]),
            ("[a]\nx: 1\ny = 2", vec!["line 2, column 4"], vec!["a.y"]),
            (
                "[a]\nx = 1 2\r\ny = 2\r\n",
                vec!["line 2, column 5"],
                vec!["a.y"],
            ),
            // A broken header takes its keys along.
            (
                "[a]\nx = 1\n[b\ny = 2\n[c]\nz = 3",
                vec!["line 3, column 3"],
                vec!["a.x", "c.z"],
            ),
            (
                "[a]\nx = 1\n[a]\ny = 2\n[c]\nz = 3",
                vec!["line 3, column 2"],
                vec!["a.x", "c.z"],
            ),
            ("[a]\nx = 1\nx = 2", vec!["line 3, column 1"], vec!["a.x"]),
            // A value of several lines is one statement.
            ("[a]\nx = [\n  1,\n  2\n", vec!["line 4, column 4"], vec![]),
            (
                "[a]\nx = [\n'p'\n'q'\n]\ny = 2",
                vec!["line 4, column 1"],
                vec!["a.y"],
            ),
            // Whatever follows may belong to it.
            (
                "[a]\ny = 2\nx = \"\"\"1\n[b]\nz = 3\n",
                vec!["line 6, column 1"],
                vec![],
            ),
            (
                "x = 99999999999999999999\ny = 0x7fff",
                vec!["line 1, column 5"],
                vec!["y"],
            ),
        ] {
            let (found, read) = read(text);
            let read: Vec<_> = read.iter().map(String::as_str).collect();
            let found: Vec<_> = found.iter().map(String::as_str).collect();
            assert_eq!((found, read), (errors, keys), "{text}");
        }
    }

    #[test]
    fn what_is_no_toml_at_all_is_given_up() {
        assert_eq!(read(&"no toml\n".repeat(1000)).0.len(), MOST_ERRORS);
        assert!(!read(&"[".repeat(100_000)).0.is_empty());
        assert!(!read(&"x = [".repeat(10_000)).0.is_empty());
    }
}
