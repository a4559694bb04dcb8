//! What requests look up: published once for the whole program, resolved by each worker for itself.

mod customers;
pub mod lifecycle;
mod limits;
pub mod published;
pub mod shared;
pub mod snapshot;

pub use published::Published;
pub use shared::Shared;
pub use snapshot::Snapshot;
