//! What requests look up: published once for the whole program, resolved by each worker for itself.

pub mod addressing;
mod customers;
pub mod lifecycle;
mod limits;
pub mod published;
pub mod shared;
pub mod snapshot;
mod token_wait;

pub use published::Published;
pub use shared::Shared;
pub use snapshot::Snapshot;
