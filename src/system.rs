//! The machine: clock, files and their descriptors, memory limits, log lines, hardening, huge pages,
//! SHA-256 and sealed records. It depends on no other module.

pub mod burst;
pub mod clock;
pub mod descriptors;
pub mod digest;
pub mod files;
pub mod hardening;
pub mod log_limit;
pub mod memory;
pub mod memory_limit;
pub mod moment;
pub mod sealing;
