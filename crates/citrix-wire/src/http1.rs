//! HTTP/1.1 as a client writes and reads it (RFC 9112), on byte slices.
//!
//! Input that two implementations may read in two ways is rejected, even where RFC 9112 permits a
//! recipient to repair it: lines that end without CR LF, folded lines, white space before a colon,
//! both framing fields, other transfer codings, other versions.

pub mod chunk_framing;
pub mod chunked;
pub mod head;
mod head_error;
pub mod request;
mod section;
