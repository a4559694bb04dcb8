//! Rules of callers, by tables and properties.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failing test panics, in its helpers as well"
)]

mod batch;
mod bypasses;
mod paths;
mod pattern;
mod property;
mod spellings;
