//! The machine: clock, files, blocking calls and SHA-256. It depends on no other module.

pub mod blocking;
pub mod clock;
pub mod digest;
pub mod files;
