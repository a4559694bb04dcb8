//! Several replicas that share permits, rate limits, gates and logins through a store.
//!
//! The protocol is the crate `fleet_protocol`; this module gives it keys and a connection.

mod connection;
mod dial;
pub mod keys;
pub mod link;
pub mod metrics;
mod sentinels;

pub use connection::{StoreError, Target};
pub use dial::Address;
