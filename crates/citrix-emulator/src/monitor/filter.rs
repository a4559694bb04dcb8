//! `$filter`: comparisons, `contains`, `startswith`, `endswith`, `and`, `or`, `not` and parentheses
//! (OData URL Conventions 4.01, section 5.1.1).

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::schema::EntitySet;

/// Maximum nesting of parentheses and `not`.
const MAX_DEPTH: usize = 20;

/// A parsed expression.
pub(super) enum Filter {
    Compare(String, Operator, Value),
    Text(TextFunction, String, String),
    Not(Box<Filter>),
    And(Vec<Filter>),
    Or(Vec<Filter>),
}

#[derive(Clone, Copy)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy)]
pub(super) enum TextFunction {
    Contains,
    StartsWith,
    EndsWith,
}

impl Filter {
    /// Returns `None` if the expression is invalid or uses another part of OData.
    pub(super) fn parse(text: &str, set: &EntitySet) -> Option<Self> {
        let mut parser = Parser { rest: text, set };
        let filter = parser.any_of(MAX_DEPTH)?;
        parser.rest.trim().is_empty().then_some(filter)
    }

    pub(super) fn matches(&self, row: &Map<String, Value>) -> bool {
        let value = |name: &str| row.get(name).unwrap_or(&Value::Null);
        match self {
            Self::Compare(name, operator, literal) => operator.holds(value(name), literal),
            Self::Text(function, name, part) => {
                let text = value(name).as_str().unwrap_or_default();
                match function {
                    TextFunction::Contains => text.contains(part),
                    TextFunction::StartsWith => text.starts_with(part),
                    TextFunction::EndsWith => text.ends_with(part),
                }
            }
            Self::Not(inner) => !inner.matches(row),
            Self::And(parts) => parts.iter().all(|part| part.matches(row)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(row)),
        }
    }
}

impl Operator {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "eq" => Self::Equal,
            "ne" => Self::NotEqual,
            "lt" => Self::Less,
            "le" => Self::LessOrEqual,
            "gt" => Self::Greater,
            "ge" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    /// Values of different types are unequal and have no order.
    fn holds(self, left: &Value, right: &Value) -> bool {
        let order = compare(left, right);
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

/// Returns the order of two values of one type.
pub(super) fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

struct Parser<'t> {
    rest: &'t str,
    set: &'t EntitySet,
}

impl Parser<'_> {
    fn any_of(&mut self, depth: usize) -> Option<Filter> {
        let mut parts = vec![self.all_of(depth)?];
        while self.keyword("or") {
            parts.push(self.all_of(depth)?);
        }
        Some(Filter::Or(parts))
    }

    fn all_of(&mut self, depth: usize) -> Option<Filter> {
        let mut parts = vec![self.term(depth)?];
        while self.keyword("and") {
            parts.push(self.term(depth)?);
        }
        Some(Filter::And(parts))
    }

    fn term(&mut self, depth: usize) -> Option<Filter> {
        let depth = depth.checked_sub(1)?;
        if self.keyword("not") {
            return Some(Filter::Not(Box::new(self.term(depth)?)));
        }
        if self.symbol('(') {
            let inner = self.any_of(depth)?;
            return self.symbol(')').then_some(inner);
        }
        let word = self.word()?;
        let function = match word {
            "contains" => Some(TextFunction::Contains),
            "startswith" => Some(TextFunction::StartsWith),
            "endswith" => Some(TextFunction::EndsWith),
            _ => None,
        };
        if let Some(function) = function
            && self.symbol('(')
        {
            let name = self.property()?;
            let part = self.symbol(',').then(|| self.literal())??;
            let Value::String(part) = part else {
                return None;
            };
            return self
                .symbol(')')
                .then_some(Filter::Text(function, name, part));
        }
        self.set.property(word)?;
        let name = word.to_owned();
        let operator = Operator::parse(self.word()?)?;
        Some(Filter::Compare(name, operator, self.literal()?))
    }

    fn property(&mut self) -> Option<String> {
        let word = self.word()?;
        self.set.property(word).map(|_| word.to_owned())
    }

    /// Reads a literal. GUIDs and dates are strings in JSON.
    fn literal(&mut self) -> Option<Value> {
        if self.symbol('\'') {
            return self.string();
        }
        let word = self.word()?;
        Some(match word {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            number if number.parse::<f64>().is_ok() => serde_json::from_str(number).ok()?,
            other => Value::String(other.to_owned()),
        })
    }

    /// Reads the rest of a string, in which a quote is doubled.
    fn string(&mut self) -> Option<Value> {
        let mut text = String::new();
        loop {
            let (part, rest) = self.rest.split_once('\'')?;
            text.push_str(part);
            self.rest = rest;
            match rest.strip_prefix('\'') {
                Some(rest) => {
                    text.push('\'');
                    self.rest = rest;
                }
                None => return Some(Value::String(text)),
            }
        }
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let before = self.rest;
        if self.word() == Some(keyword) {
            return true;
        }
        self.rest = before;
        false
    }

    fn symbol(&mut self, symbol: char) -> bool {
        let rest = self.rest.trim_start().strip_prefix(symbol);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

impl<'t> Parser<'t> {
    /// Reads up to a space, parenthesis, comma or quote.
    fn word(&mut self) -> Option<&'t str> {
        let text: &'t str = self.rest.trim_start();
        let end = text
            .find(|c: char| c.is_whitespace() || "(),'".contains(c))
            .unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::MONITOR;
    use super::*;

    #[test]
    fn expressions_select_rows() {
        let set = &MONITOR.sets[0];
        for (text, matching) in [
            ("Name ne null", 100),
            ("Name eq null", 0),
            ("Name eq 'ACME\\Machines-0007'", 1),
            ("CurrentRegistrationState eq 1 and LifecycleState lt 1", 100),
            ("CurrentRegistrationState eq 2 or LifecycleState eq 0", 100),
            ("not (LifecycleState eq 0)", 0),
            ("endswith(Name,'-0001') or contains(DnsName, 'vda-0002')", 2),
            ("startswith(Name, 'O''Neill')", 0),
            ("ModifiedDate ge 2025-01-15T08:30:00Z", 100),
            ("ModifiedDate gt 2025-01-15T08:30:00Z", 0),
            ("Id eq c1700003-0000-4000-8000-000000000005", 1),
        ] {
            let filter = Filter::parse(text, set).unwrap();
            let count = (0..100)
                .filter(|index| filter.matches(&set.row(*index)))
                .count();
            assert_eq!(count, matching, "{text}");
        }
        let deep = "(".repeat(10_000);
        for text in [
            "",
            "Name",
            "Name eq",
            "Nothing eq 1",
            "Name is 1",
            "Name eq 'x",
            "(Name eq 'x'",
            "Name eq 'x' 'y'",
            "contains(Name)",
            "contains(Name,1)",
            &deep,
        ] {
            assert!(Filter::parse(text, set).is_none(), "{text}");
        }
    }
}
