//! The protocol of a fleet of replicas that share permits, rate limits, gates and logins through a
//! store (Redis or Valkey).
//!
//! The crate is pure: no sockets, no runtime, no clock. [`Machine`] is one replica's side: events
//! in, outputs out. Its [`Command`]s run as scripts in the store ([`script`]). The store is soft
//! state: it holds nothing that the replicas cannot report again within a grace period, and all
//! times in it are on its own clock.

pub mod command;
pub mod machine;
pub mod name;
pub mod reply;
pub mod script;
pub mod spacing;
pub mod time;

pub use command::Command;
pub use machine::{Event, Machine, Output, State};
pub use name::{Keys, Name, Replica, Ticket};
pub use reply::{Push, Reply};
pub use time::{StoreTime, Time, Timing};
