//! The faults of response heads and trailers.

use crate::head_limit::HeadTooLarge;
use crate::response_framing::ResponseFramingError;

/// A head that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("not HTTP/1.0 or HTTP/1.1")]
    NotHttp,
    #[error("a line does not end with CR LF")]
    LineEnd,
    #[error("{0}")]
    Syntax(httparse::Error),
    #[error(transparent)]
    TooLarge(#[from] HeadTooLarge),
    #[error(transparent)]
    Framing(#[from] ResponseFramingError),
}
