//! Finds out which of the closed set of failures an error of the HTTP client is, by walking its chain of
//! sources: the types are told apart, not the texts.

use std::io::{self, ErrorKind};

use super::Failure;
use crate::http_client::{ReadError, chain, innermost};
use crate::token::outcome::Outcome;

/// A request that got no answer.
pub(super) fn no_answer(error: &reqwest::Error) -> Failure {
    Failure::new(outcome(error), innermost(error))
}

/// An answer whose body was not read to its end.
pub(super) fn unread(error: ReadError) -> Outcome {
    match error {
        ReadError::TooLarge => Outcome::TooLarge,
        ReadError::CutOff(error) if error.is_timeout() => Outcome::Timeout,
        ReadError::CutOff(_) => Outcome::Truncated,
    }
}

fn outcome(error: &reqwest::Error) -> Outcome {
    if error.is_timeout() {
        return Outcome::Timeout;
    }
    if error.is_dns() {
        return Outcome::Dns;
    }
    if chain(error).any(|source| source.is::<rustls::Error>()) {
        return Outcome::Tls;
    }
    let io = chain(error).filter_map(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind).last();
    if error.is_connect() {
        return match io {
            Some(ErrorKind::ConnectionRefused) => Outcome::Refused,
            // TCP was there already: only a handshake can end early.
            Some(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Outcome::Tls,
            _ => Outcome::Connect,
        };
    }
    let unreadable = chain(error)
        .filter_map(|source| source.downcast_ref::<hyper::Error>())
        .any(|error| error.is_parse() || error.is_parse_status() || error.is_parse_too_large());
    if unreadable { Outcome::Malformed } else { Outcome::Truncated }
}
