//! Primitive values and their types (OData CSDL 4.01, section 3.3).

use std::cmp::Ordering;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EdmType {
    Boolean,
    DateTimeOffset,
    Double,
    Guid,
    Int32,
    Int64,
    String,
}

impl EdmType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Boolean => "Edm.Boolean",
            Self::DateTimeOffset => "Edm.DateTimeOffset",
            Self::Double => "Edm.Double",
            Self::Guid => "Edm.Guid",
            Self::Int32 => "Edm.Int32",
            Self::Int64 => "Edm.Int64",
            Self::String => "Edm.String",
        }
    }

    /// Returns `true` if values of both types have an order.
    pub(super) fn is_comparable(self, other: Self) -> bool {
        let is_number = |kind| matches!(kind, Self::Double | Self::Int32 | Self::Int64);
        self == other || is_number(self) && is_number(other)
    }
}

/// A value of a primitive type, or null.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Primitive {
    Null,
    Boolean(bool),
    Date(SystemTime),
    Double(f64),
    Guid(Uuid),
    Integer(i64),
    String(String),
}

impl Primitive {
    /// Parses a literal (OData ABNF 4.01, `primitiveLiteral`).
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(quoted) = text.strip_prefix('\'') {
            return quoted
                .strip_suffix('\'')
                .map(|inner| Self::String(inner.replace("''", "'")));
        }
        Some(match text {
            "null" => Self::Null,
            "true" => Self::Boolean(true),
            "false" => Self::Boolean(false),
            _ if text.len() == 36
                && let Ok(guid) = Uuid::try_parse(text) =>
            {
                Self::Guid(guid)
            }
            // Words are names, also those that are numbers in Rust (`inf`).
            _ if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => return None,
            _ if let Ok(integer) = text.parse() => Self::Integer(integer),
            _ if let Ok(number) = text.parse::<f64>() => {
                number.is_finite().then_some(Self::Double(number))?
            }
            _ => Self::Date(parse_date(text)?),
        })
    }

    /// Returns the type, and `None` for null.
    pub(super) fn edm_type(&self) -> Option<EdmType> {
        Some(match self {
            Self::Null => return None,
            Self::Boolean(_) => EdmType::Boolean,
            Self::Date(_) => EdmType::DateTimeOffset,
            Self::Double(_) => EdmType::Double,
            Self::Guid(_) => EdmType::Guid,
            Self::Integer(_) => EdmType::Int64,
            Self::String(_) => EdmType::String,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => json!(value),
            Self::Date(_) | Self::Guid(_) => json!(self.literal()),
            Self::Double(value) => json!(value),
            Self::Integer(value) => json!(value),
            Self::String(value) => json!(value),
        }
    }

    /// Returns the notation that [`Primitive::parse`] parses.
    pub(super) fn literal(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Boolean(value) => value.to_string(),
            Self::Date(value) => humantime::format_rfc3339(*value).to_string(),
            Self::Double(value) => value.to_string(),
            Self::Guid(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::String(value) => format!("'{}'", value.replace('\'', "''")),
        }
    }

    /// Returns the order of two values of comparable types; null equals null only.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a comparison with a fraction is as exact as that"
    )]
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, Self::Null) => Some(Ordering::Equal),
            (Self::Boolean(left), Self::Boolean(right)) => Some(left.cmp(right)),
            (Self::Date(left), Self::Date(right)) => Some(left.cmp(right)),
            (Self::Double(left), Self::Double(right)) => left.partial_cmp(right),
            (Self::Double(left), Self::Integer(right)) => left.partial_cmp(&(*right as f64)),
            (Self::Guid(left), Self::Guid(right)) => Some(left.cmp(right)),
            (Self::Integer(left), Self::Double(right)) => (*left as f64).partial_cmp(right),
            (Self::Integer(left), Self::Integer(right)) => Some(left.cmp(right)),
            (Self::String(left), Self::String(right)) => Some(left.cmp(right)),
            _ => None,
        }
    }

    /// Returns the order in a sorted result: null comes before all values (OData Protocol 4.01,
    /// section 11.2.6.2).
    pub(super) fn sort_order(&self, other: &Self) -> Ordering {
        let by_null = (*self != Self::Null).cmp(&(*other != Self::Null));
        self.compare(other).unwrap_or(by_null)
    }
}

/// Parses a date, with or without a time; a time has `Z` or an offset. Dates before 1970 and after
/// 9999 are invalid, since `humantime` formats none.
fn parse_date(text: &str) -> Option<SystemTime> {
    let Some((date, time)) = text.split_once(['T', 't']) else {
        return humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok();
    };
    let (time, offset) = time.split_at(time.find(['+', '-', 'Z', 'z'])?);
    let local = humantime::parse_rfc3339(&format!("{date}T{time}Z")).ok()?;
    if offset.eq_ignore_ascii_case("Z") {
        return Some(local);
    }
    let (hours, minutes) = offset[1..].split_once(':')?;
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    let ahead = Duration::from_secs(60 * (60 * u64::from(hours) + u64::from(minutes)));
    let utc = if offset.starts_with('+') {
        local.checked_sub(ahead)
    } else {
        local.checked_add(ahead)
    };
    utc.filter(|utc| (SystemTime::UNIX_EPOCH..year_10000()).contains(utc))
}

fn year_10000() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800)
}

macro_rules! from {
    ($($kind:ty => $variant:ident),*) => {
        $(impl From<$kind> for Primitive {
            fn from(value: $kind) -> Self {
                Self::$variant(value)
            }
        })*
    };
}

from!(bool => Boolean, f64 => Double, i64 => Integer, String => String, SystemTime => Date, Uuid => Guid);

impl From<&str> for Primitive {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<usize> for Primitive {
    /// Converts an index; a row has none that large.
    fn from(value: usize) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Self>> From<Option<T>> for Primitive {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn literals_have_the_type_of_their_notation() {
        let date = |seconds| Primitive::Date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (text, value) in [
            ("null", Some(Primitive::Null)),
            ("true", Some(true.into())),
            ("-7", Some((-7_i64).into())),
            ("1.5e1", Some(15.0.into())),
            ("99999999999999999999", Some(1e20.into())),
            ("1e999", None),
            ("''", Some("".into())),
            ("'O''Neill'", Some("O'Neill".into())),
            (
                "c1700003-0000-4000-8000-000000000005",
                Some(Uuid::from_u128(0xc170_0003_0000_4000_8000_0000_0000_0005).into()),
            ),
            ("1970-01-02", Some(date(86_400))),
            ("1970-01-01T00:01:00Z", Some(date(60))),
            ("1970-01-01T01:01:00.000+01:00", Some(date(60))),
            ("1970-01-01T00:00:00-00:01", Some(date(60))),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01T00:00:00+00:01", None),
            ("1969-12-31T23:59:59Z", None),
            ("9999-12-31T23:59:59-00:01", None),
            ("9999-12-31T23:59:59+00:01", Some(date(253_402_300_739))),
            ("1970-13-01", None),
            ("2024-01-01T00:00:00+é", None),
            ("'", None),
            ("inf", None),
            ("Name", None),
            ("", None),
        ] {
            assert_eq!(Primitive::parse(text), value, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_parsed_literal_is_written_in_a_notation_of_the_same_value(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9](T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](Z|[+-][0-2][0-9]:[0-9]{2}))?|'.{0,9}'|[-.0-9e]{0,9}",
        ) {
            if let Some(value) = Primitive::parse(&text) {
                let parsed_again = Primitive::parse(&value.literal()).unwrap();
                prop_assert_eq!(parsed_again.compare(&value), Some(Ordering::Equal));
            }
        }
    }

    #[test]
    fn null_sorts_first_and_numbers_compare_across_types() {
        let null = Primitive::Null;
        assert_eq!(null.sort_order(&false.into()), Ordering::Less);
        assert_eq!(Primitive::from("").sort_order(&null), Ordering::Greater);
        assert_eq!(null.sort_order(&null), Ordering::Equal);
        assert_eq!(null.compare(&0_i64.into()), None);
        assert_eq!(
            Primitive::from(2_i64).compare(&1.5.into()),
            Some(Ordering::Greater)
        );
        assert_eq!(
            Primitive::from(1.5).compare(&2_i64.into()),
            Some(Ordering::Less)
        );
    }
}
