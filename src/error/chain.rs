//! An error and its sources as text.

use std::error::Error;
use std::io;

/// Returns an error and its sources, including the error that an `io::Error` wraps, which its
/// `source` skips.
pub fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(
        Some(error),
        |&current: &&'a (dyn Error + 'static)| match current
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => current.source(),
        },
    )
}

/// Returns the text of one error. The debug data of a peer's GOAWAY is omitted: it may contain
/// anything, a token too.
pub fn text(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<h2::Error>() {
        Some(error) if error.is_go_away() && error.is_remote() => {
            let reason = error.reason().unwrap_or(h2::Reason::NO_ERROR);
            format!("connection error received: {reason}")
        }
        _ => error.to_string(),
    }
}

/// Returns the text of the innermost source.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    sources(error).last().map(text).unwrap_or_default()
}
