//! Finds out which of the closed set of failures an error of the HTTP client is, by walking its chain of
//! sources: the types are told apart, not the texts.

use std::error::Error;
use std::io::{self, ErrorKind};

use super::Failure;
use crate::token::outcome::Outcome;

/// A request that got no answer.
pub(super) fn no_answer(error: &reqwest::Error) -> Failure {
    Failure::new(outcome(error), innermost(error))
}

/// An answer whose body did not arrive whole.
pub(super) fn cut_off(error: &reqwest::Error) -> Outcome {
    if error.is_timeout() { Outcome::Timeout } else { Outcome::Truncated }
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

/// The error's sources, with what an `io::Error` wraps: its `source` passes that over.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&current: &&'a (dyn Error + 'static)| {
        match current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => current.source(),
        }
    })
}

/// What the innermost error says. The outer ones say no more than the outcome does, and name the URL.
fn innermost(error: &reqwest::Error) -> Option<String> {
    chain(error).skip(1).last().map(ToString::to_string)
}
