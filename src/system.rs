//! The machine: clock, files and their descriptors, log lines, blocking calls, hardening and SHA-256.
//! It depends on no other module.

pub mod blocking;
pub mod clock;
pub mod descriptors;
pub mod digest;
pub mod files;
pub mod hardening;
pub mod log_limit;
