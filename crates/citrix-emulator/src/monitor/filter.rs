//! `$filter`: comparisons, `in`, functions, `and`, `or`, `not` and parentheses over the properties
//! of a row (OData URL Conventions 4.01, section 5.1.1).

mod function;
mod parser;

use std::cmp::Ordering;

use self::function::Function;
use super::model::{EntitySet, PropertyPath};
use super::primitive::{EdmType, Primitive};
use super::query_error::QueryError;

/// A boolean expression.
pub(super) struct Filter(Expression);

impl Filter {
    /// Parses and type-checks an expression over the rows of `set`.
    pub(super) fn parse(text: &str, set: &'static EntitySet) -> Result<Self, QueryError> {
        let expression = parser::parse(text, set)?;
        match expression.edm_type() {
            None | Some(EdmType::Boolean) => Ok(Self(expression)),
            Some(_) => Err(QueryError::NotBoolean),
        }
    }

    /// Returns `true` if the expression is true, and not null, for the row at `index`.
    pub(super) fn matches(&self, index: usize) -> bool {
        self.0.truth(index) == Some(true)
    }
}

enum Expression {
    Literal(Primitive),
    Property(PropertyPath),
    Call(&'static Function, Vec<Expression>),
    Compare(Box<Expression>, Operator, Box<Expression>),
    In(Box<Expression>, Vec<Primitive>),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
}

impl Expression {
    /// Returns the type of the value, and `None` for the literal null.
    fn edm_type(&self) -> Option<EdmType> {
        match self {
            Self::Literal(value) => value.edm_type(),
            Self::Property(path) => Some(path.property.kind),
            Self::Call(function, _) => Some(function.result),
            _ => Some(EdmType::Boolean),
        }
    }

    fn value(&self, index: usize) -> Primitive {
        match self {
            Self::Literal(value) => value.clone(),
            Self::Property(path) => path.value(index),
            Self::Call(function, arguments) => {
                let arguments: Vec<_> = arguments.iter().map(|part| part.value(index)).collect();
                function.call(&arguments)
            }
            Self::Compare(left, operator, right) => operator
                .holds(&left.value(index), &right.value(index))
                .into(),
            Self::In(operand, list) => {
                let value = operand.value(index);
                let is_equal = |item| value.compare(item) == Some(Ordering::Equal);
                list.iter().any(is_equal).into()
            }
            Self::Not(operand) => operand.truth(index).map(|truth| !truth).into(),
            Self::And(parts) => decide(parts, index, false).into(),
            Self::Or(parts) => decide(parts, index, true).into(),
        }
    }

    fn truth(&self, index: usize) -> Option<bool> {
        match self.value(index) {
            Primitive::Boolean(value) => Some(value),
            _ => None,
        }
    }
}

/// Returns `decisive` if any part has this value; otherwise null if any part is null (OData URL
/// Conventions 4.01, sections 5.1.1.1.7 and 5.1.1.1.8).
fn decide(parts: &[Expression], index: usize, decisive: bool) -> Option<bool> {
    let mut result = Some(!decisive);
    for part in parts {
        match part.truth(index) {
            Some(truth) if truth == decisive => return Some(decisive),
            None => result = None,
            Some(_) => {}
        }
    }
    result
}

#[derive(Clone, Copy)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    const ALL: [(&'static str, Self); 6] = [
        ("eq", Self::Equal),
        ("ne", Self::NotEqual),
        ("lt", Self::Less),
        ("le", Self::LessOrEqual),
        ("gt", Self::Greater),
        ("ge", Self::GreaterOrEqual),
    ];

    /// Null equals only null, and has no order.
    fn holds(self, left: &Primitive, right: &Primitive) -> bool {
        let order = left.compare(right);
        let is_null = *left == Primitive::Null;
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            _ if is_null => false,
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

#[cfg(test)]
mod tests;
