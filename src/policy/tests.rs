//! What the rules say, in tables and by properties.

mod batch;
mod bypasses;
mod pattern;
mod property;
#[path = "../../fuzz/src/servers.rs"]
mod servers;
mod spellings;
mod table;

use super::path::Unjudgeable;
