//! Search of the recorded exchanges.

use super::Record;

/// Conditions of a search; an absent one matches every exchange.
#[derive(Debug, Default)]
pub struct Search {
    /// One of the exchange's ids, case-insensitively.
    pub(crate) id: Option<String>,
    pub(crate) caller: Option<String>,
    pub(crate) customer: Option<String>,
    pub(crate) route: Option<String>,
    pub(crate) status: Option<StatusSearch>,
    /// Start of the path.
    pub(crate) path: Option<String>,
}

/// A condition on the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusSearch {
    Exactly(u16),
    /// By the first digit.
    Class(u16),
}

impl StatusSearch {
    /// Parses a status, like `502`, or a class, like `5xx`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.as_bytes() {
            [class @ b'1'..=b'9', b'x' | b'X', b'x' | b'X'] => {
                Some(Self::Class(u16::from(class - b'0')))
            }
            [b'1'..=b'9', _, _] => text.parse().ok().map(Self::Exactly),
            _ => None,
        }
    }

    fn matches(self, status: u16) -> bool {
        match self {
            Self::Exactly(code) => status == code,
            Self::Class(class) => status / 100 == class,
        }
    }
}

impl Search {
    /// Returns `true` if the exchange meets all conditions.
    pub(super) fn matches(&self, record: &Record) -> bool {
        fn is_met<T>(condition: Option<T>, check: impl FnOnce(T) -> bool) -> bool {
            condition.is_none_or(check)
        }
        is_met(self.status, |status| status.matches(record.status))
            && is_met(self.id.as_ref(), |id| record.has_id(id.as_bytes()))
            && is_met(self.caller.as_ref(), |caller| {
                record.caller.is(caller.as_bytes())
            })
            && is_met(self.customer.as_ref(), |customer| {
                record.customer.is(customer.as_bytes())
            })
            && is_met(self.route.as_ref(), |route| {
                record.route.is(route.as_bytes())
            })
            && is_met(self.path.as_ref(), |path| {
                record.path.starts_with(path.as_bytes())
            })
    }
}
