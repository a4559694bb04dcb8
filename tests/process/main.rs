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
#[path = "../it/harness/egress.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, which use all of it"
)]
mod egress_proxy;
mod gateway;
mod lifecycle;
mod log_level;
#[path = "../it/harness/logins.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, which use all of it"
)]
mod logins;
mod peers;
#[path = "../it/harness/pki.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, which use all of it"
)]
mod pki;
mod program;
mod reload;
mod rules;
mod signals;
mod spans;
mod token;
#[path = "../it/harness/upstream.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, which use all of it"
)]
mod upstream;
#[path = "../it/harness/wire.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, which use all of it"
)]
mod wire;
