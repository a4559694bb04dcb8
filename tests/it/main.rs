//! Integration tests in one binary: one module for each step of the data path.

#![allow(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` marks the interface of a helper"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot continue panics, also in helpers"
)]

mod accept;
mod admin;
mod admit;
mod adversarial;
mod architecture;
mod batch;
mod browser_guard;
mod callers;
mod contract;
mod cookies;
mod corpus;
mod customers;
mod dependencies;
mod deploy;
mod documents;
mod drain_race;
mod egress;
mod emulator;
mod endings;
mod fairness;
mod faults;
mod fleet;
mod fleet_gateways;
mod fleet_members;
mod fleet_shared;
mod fleet_store;
mod fleet_tokens;
mod harness;
mod http2_abuse;
mod intercept;
mod links;
mod login;
mod metrics;
mod named_tests;
mod packages;
mod path_readings;
mod pick_route;
mod policies;
mod prepare;
mod queue;
mod references;
mod regressions;
mod rejected_customers;
mod reliability;
mod reload;
mod replay;
mod rewritten;
mod secrets;
mod send;
mod services;
mod sites;
mod standards;
mod strict;
mod token_failures;
mod token_waits;
mod training;
mod transaction_ids;
mod translate;
mod workflows;
