//! Classification of failed exchanges with the token endpoint into [`Outcome`]s.

use std::io::ErrorKind;

use super::LoginError;
use crate::error::chain;
use crate::tls::fault::TlsFault;
use crate::token::outcome::Outcome;
use crate::upstream::bounded::BoundExceeded;
use crate::upstream::control_plane::{self, BodyReadError, SendError};
use crate::upstream::dial::ConnectError;

/// Returns the failure for a request without a response.
pub(super) fn no_response(error: &SendError) -> LoginError {
    LoginError::new(outcome(error), Some(control_plane::root_cause(error)))
}

/// Returns the outcome for a response body that was not read to its end.
pub(super) fn incomplete_body(error: BodyReadError) -> Outcome {
    match error {
        BodyReadError::TooLarge => Outcome::TooLarge,
        BodyReadError::TimedOut => Outcome::Timeout,
        BodyReadError::Truncated => Outcome::Truncated,
    }
}

fn outcome(error: &SendError) -> Outcome {
    match error {
        SendError::TimedOut(_) | SendError::Connect(ConnectError::Timeout(_)) => Outcome::Timeout,
        SendError::Connect(ConnectError::Dns(_) | ConnectError::NotPublic) => Outcome::Dns,
        SendError::Connect(ConnectError::Tcp(error))
            if error.kind() == ErrorKind::ConnectionRefused =>
        {
            Outcome::Refused
        }
        SendError::Connect(ConnectError::Proxy(_)) => Outcome::EgressProxy,
        SendError::Connect(ConnectError::Tls(error)) => Outcome::of_tls(TlsFault::of(error)),
        SendError::Connect(ConnectError::Own | ConnectError::Tcp(_) | ConnectError::Http(_))
        | SendError::BadUrl(_) => Outcome::Connect,
        SendError::Broken(error)
            if error.is_parse() || error.is_parse_status() || error.is_parse_too_large() =>
        {
            Outcome::Malformed
        }
        SendError::Broken(error)
            if chain::sources(error).any(|source| source.is::<BoundExceeded>()) =>
        {
            Outcome::TooLarge
        }
        SendError::Broken(_) => Outcome::Truncated,
    }
}
