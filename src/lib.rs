//! An authenticating reverse proxy for the Citrix Cloud REST APIs.

pub mod citrix;
pub mod clock;
pub mod config;
pub mod emulator;
pub mod idle;
pub mod token;
pub mod wire;
