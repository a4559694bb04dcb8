//! The state that requests look up: published once for all workers, and resolved by each worker for
//! itself.

pub mod addressing;
mod customer;
mod customer_index;
pub mod known_hosts;
pub mod lifecycle;
mod limits;
mod origins;
pub mod published;
mod reversed_routes;
mod route;
pub mod shared;
mod snapshot;
mod token_wait;

pub use customer::{Customer, HeldToken};
pub use published::Published;
pub use reversed_routes::known_host_names;
pub use route::{Destination, Route};
pub use shared::Shared;
pub use snapshot::Snapshot;
