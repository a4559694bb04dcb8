//! Tests of the real binary: exit codes, signals, stdout and stderr, environment variables.

#![allow(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` marks what other modules of the tests use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot continue panics, also in its helpers"
)]

mod audit_flood;
mod callers;
mod canary;
mod cloud;
mod collapse;
mod commands;
mod configuration_errors;
mod demo;
mod doctor;
mod egress;
mod fleet;
mod gateway;
mod hardening;
mod lifecycle;
mod log_level;
mod log_lines;
mod open_files;
mod peers;
mod program;
mod reload;
mod rules;
mod secrets;
mod shortages;
mod signals;
mod spans;
mod token;
mod upstream_certificates;
