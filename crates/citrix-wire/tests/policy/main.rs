//! Callers' rules, in tables and by properties.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failing test panics, in its helpers as well"
)]

mod batch;
mod bypasses;
mod pattern;
mod property;
mod spellings;
