//! Several replicas that share permits, rate limits, gates and logins through a store.
//!
//! The protocol is the crate `fleet_protocol`; this module gives it keys and a connection. The
//! thread `fleet` owns both (`owner`); other threads use the handle [`Fleet`].

mod changes;
mod connection;
mod contention;
mod diagnosis;
mod dial;
mod error;
pub mod facts;
mod handle;
pub mod keys;
pub mod link;
pub mod members;
pub mod metrics;
mod owner;
pub mod probe;
mod records;
mod requests;
#[cfg(test)]
pub(crate) mod scripted;
mod sentinels;
#[cfg(test)]
pub(crate) mod simulated;
mod target;
pub mod tokens;

pub use diagnosis::Diagnosis;
pub use dial::{Address, Stream};
pub use error::StoreError;
pub use fleet_protocol::State;
pub use handle::{Fleet, Source};
pub use link::LinkStatus as FleetStatus;
pub use owner::FleetThread;
pub use requests::Response;
pub use target::{Access, Target, TlsFiles};
