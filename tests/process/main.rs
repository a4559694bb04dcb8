//! The real binary: exit codes, signals, what goes to stdout and stderr, the environment.

#![allow(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` tells a helper's users from its insides"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on panics, in its helpers as well"
)]

mod callers;
mod canary;
mod cloud;
mod commands;
mod demo;
mod doctor;
mod egress;
mod gateway;
mod lifecycle;
mod log_level;
mod peers;
mod program;
mod reload;
mod rules;
mod signals;
mod spans;
mod token;
