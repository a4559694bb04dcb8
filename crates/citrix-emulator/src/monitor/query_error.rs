//! Errors of queries (OData Protocol 4.01, sections 9.3.1 and 9.4).

use http::StatusCode;
use serde_json::json;
use thiserror::Error;

use crate::responses::{self, Response};

/// The reason why a query is rejected.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum QueryError {
    #[error("Could not find a property named '{name}' on type '{kind}'.")]
    NoProperty { name: String, kind: &'static str },
    #[error("Syntax error at position {position} in '{text}'.")]
    Syntax { position: usize, text: String },
    #[error("'{operator}' does not accept operands of the types '{left}' and '{right}'.")]
    Operands {
        operator: &'static str,
        left: &'static str,
        right: &'static str,
    },
    #[error("The function '{0}' is unknown, not implemented here, or has other arguments.")]
    Function(String),
    #[error("The filter expression must have a boolean value.")]
    NotBoolean,
    #[error("The value of '{0}' is too long or too deeply nested.")]
    TooComplex(&'static str),
    #[error("Invalid value '{value}' for '{option}'.")]
    Value { option: &'static str, value: String },
    #[error("'{name}' was specified more than once.")]
    Repeated { name: String },
    #[error("The query parameter '{0}' is not supported.")]
    Unsupported(String),
    #[error("The query parameter '{0}' is not implemented by the emulator.")]
    NotImplemented(String),
    #[error("The format '{0}' is not supported.")]
    Format(String),
}

impl QueryError {
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotImplemented(_) => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
            Self::Format(_) => (StatusCode::NOT_ACCEPTABLE, "NotAcceptable"),
            _ => (StatusCode::BAD_REQUEST, "BadRequest"),
        }
    }

    /// Returns the error in Monitor's format: JSON, declared as text (contract §3).
    pub(super) fn response(&self) -> Response {
        let (status, code) = self.status();
        let message = format!("The query specified in the URI is not valid. {self}");
        let body = json!({ "error": { "code": code, "message": message } });
        responses::text(status, body.to_string())
    }
}
