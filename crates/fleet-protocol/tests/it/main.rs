//! The protocol against its model, a real server, and simulated fleets.

#![allow(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` marks the interface of a helper"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that cannot continue panics, also in helpers; skipped tests say so"
)]

mod machine;
mod scripts;
mod server;
mod simulation;
