//! Several replicas that share permits, rate limits, gates and logins through a store.
//!
//! The protocol is the crate `fleet_protocol`; this module gives it keys.

pub mod keys;
