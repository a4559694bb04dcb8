//! The parser of `$filter`. The only Rust crate for it (`odata-params`) recurses without a bound and
//! knows no types.

use super::{Expression, Function, Operator};
use crate::monitor::model::{EntitySet, PropertyPath};
use crate::monitor::primitive::Primitive;
use crate::monitor::query_error::QueryError;

/// Maximum length in bytes.
const MAX_LENGTH: usize = 8192;
/// Maximum nesting of parentheses, functions and `not`.
const MAX_DEPTH: usize = 20;

pub(super) fn parse(text: &str, set: &'static EntitySet) -> Result<Expression, QueryError> {
    if text.len() > MAX_LENGTH {
        return Err(QueryError::TooComplex("$filter"));
    }
    let mut parser = Parser {
        text,
        rest: text,
        set,
    };
    let expression = parser.any_of(MAX_DEPTH)?;
    if parser.rest.trim_start().is_empty() {
        Ok(expression)
    } else {
        Err(parser.syntax_error())
    }
}

struct Parser<'t> {
    text: &'t str,
    /// Remaining text.
    rest: &'t str,
    set: &'static EntitySet,
}

impl Parser<'_> {
    fn any_of(&mut self, depth: usize) -> Result<Expression, QueryError> {
        let mut parts = vec![self.all_of(depth)?];
        while self.keyword("or") {
            parts.push(self.all_of(depth)?);
        }
        combine("or", parts, Expression::Or)
    }

    fn all_of(&mut self, depth: usize) -> Result<Expression, QueryError> {
        let mut parts = vec![self.term(depth)?];
        while self.keyword("and") {
            parts.push(self.term(depth)?);
        }
        combine("and", parts, Expression::And)
    }

    /// Parses `not term`, a comparison, or an operand alone.
    fn term(&mut self, depth: usize) -> Result<Expression, QueryError> {
        let depth = deeper(depth)?;
        if self.keyword("not") {
            let operand = self.term(depth)?;
            require_boolean("not", &operand)?;
            return Ok(Expression::Not(Box::new(operand)));
        }
        let left = self.operand(depth)?;
        if self.keyword("in") {
            return self.list(left);
        }
        let mut operators = Operator::ALL.into_iter();
        let Some((name, operator)) = operators.find(|(name, _)| self.keyword(name)) else {
            return Ok(left);
        };
        let right = self.operand(depth)?;
        require_comparable(name, &left, &right)?;
        let (left, right) = (Box::new(left), Box::new(right));
        Ok(Expression::Compare(left, operator, right))
    }

    /// Parses the list behind `in`.
    fn list(&mut self, operand: Expression) -> Result<Expression, QueryError> {
        self.expect('(')?;
        let mut items = Vec::new();
        loop {
            let item = Expression::Literal(self.literal()?);
            require_comparable("in", &operand, &item)?;
            if let Expression::Literal(value) = item {
                items.push(value);
            }
            if !self.symbol(',') {
                break;
            }
        }
        self.expect(')')?;
        Ok(Expression::In(Box::new(operand), items))
    }

    /// Parses an expression in parentheses, a function, a literal or a property.
    fn operand(&mut self, depth: usize) -> Result<Expression, QueryError> {
        let depth = deeper(depth)?;
        if self.symbol('(') {
            let inner = self.any_of(depth)?;
            self.expect(')')?;
            return Ok(inner);
        }
        let before = self.rest;
        if let Ok(value) = self.literal() {
            return Ok(Expression::Literal(value));
        }
        self.rest = before;
        let word = self.word().ok_or_else(|| self.syntax_error())?;
        if self.symbol('(') {
            return self.call(word, depth);
        }
        Ok(Expression::Property(PropertyPath::parse(word, self.set)?))
    }

    /// Parses the arguments of a function.
    fn call(&mut self, name: &str, depth: usize) -> Result<Expression, QueryError> {
        let unknown = || QueryError::Function(name.to_owned());
        let function = Function::named(name).ok_or_else(unknown)?;
        let mut arguments = Vec::new();
        for (position, kind) in function.arguments.iter().enumerate() {
            if position > 0 && !self.symbol(',') {
                return Err(unknown());
            }
            let argument = self.operand(depth)?;
            if argument.edm_type().is_some_and(|given| given != *kind) {
                return Err(unknown());
            }
            arguments.push(argument);
        }
        if self.symbol(')') {
            Ok(Expression::Call(function, arguments))
        } else {
            Err(unknown())
        }
    }

    fn literal(&mut self) -> Result<Primitive, QueryError> {
        let text = self.rest.trim_start();
        let end = match text.strip_prefix('\'') {
            Some(inner) => 1 + quoted_length(inner).ok_or_else(|| self.syntax_error())?,
            None => word_length(text),
        };
        let (literal, rest) = text.split_at(end);
        let value = Primitive::parse(literal).ok_or_else(|| self.syntax_error())?;
        self.rest = rest;
        Ok(value)
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

    fn expect(&mut self, symbol: char) -> Result<(), QueryError> {
        if self.symbol(symbol) {
            Ok(())
        } else {
            Err(self.syntax_error())
        }
    }

    fn syntax_error(&self) -> QueryError {
        QueryError::Syntax {
            position: self.text.len() - self.rest.len(),
            text: self.text.to_owned(),
        }
    }
}

impl<'t> Parser<'t> {
    fn word(&mut self) -> Option<&'t str> {
        let text: &'t str = self.rest.trim_start();
        let (word, rest) = text.split_at(word_length(text));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }
}

/// Returns the length up to a space, parenthesis, comma or quote.
fn word_length(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || "(),'".contains(c))
        .unwrap_or(text.len())
}

/// Returns the length of a string with its closing quote; a quote in it is doubled.
fn quoted_length(text: &str) -> Option<usize> {
    let mut length = 0;
    loop {
        length += text.get(length..)?.find('\'')? + 1;
        if !text.get(length..)?.starts_with('\'') {
            return Some(length);
        }
        length += 1;
    }
}

fn deeper(depth: usize) -> Result<usize, QueryError> {
    depth
        .checked_sub(1)
        .ok_or(QueryError::TooComplex("$filter"))
}

/// Returns the only part, or the combination of several, which must be boolean.
fn combine(
    operator: &'static str,
    mut parts: Vec<Expression>,
    combination: fn(Vec<Expression>) -> Expression,
) -> Result<Expression, QueryError> {
    if parts.len() == 1
        && let Some(part) = parts.pop()
    {
        return Ok(part);
    }
    for part in &parts {
        require_boolean(operator, part)?;
    }
    Ok(combination(parts))
}

fn require_boolean(operator: &'static str, operand: &Expression) -> Result<(), QueryError> {
    require_comparable(operator, &Expression::Literal(true.into()), operand)
}

/// Null is comparable with all types.
fn require_comparable(
    operator: &'static str,
    left: &Expression,
    right: &Expression,
) -> Result<(), QueryError> {
    match (left.edm_type(), right.edm_type()) {
        (Some(left), Some(right)) if !left.is_comparable(right) => Err(QueryError::Operands {
            operator,
            left: left.name(),
            right: right.name(),
        }),
        _ => Ok(()),
    }
}
