//! The token's life: logging in at Citrix, keeping the token fresh, handing it to the data path.
//!
//! One [`Keeper`] per credential runs on the control runtime and never ends. It asks an [`Issuer`] for a token,
//! puts it into a [`Slot`] and sleeps until the instant that [`schedule`] names or until a 401 of Citrix asks
//! for a fresh one. A request reads the slot and nothing else, so a slow token endpoint never delays it.
//!
//! ```text
//! issuer (http_client) ─ answer (pure) ─> keeper ─ schedule (pure) ─> slot <─ requests, readiness, pages
//!                                       ├─> signals (metrics), tracing
//!                                       └─> cache (disk, off by default)
//! ```

pub mod answer;
pub mod cache;
pub mod issuer;
pub mod keeper;
pub mod outcome;
pub mod refusals;
pub mod schedule;
pub mod signals;
pub mod slot;
pub mod status;

pub use cache::Cache;
pub use issuer::{Failure, HttpIssuer, Issued, Issuer, Login};
pub use keeper::Keeper;
pub use outcome::Outcome;
pub use signals::{CustomerSignals, Signals};
pub use slot::{Refusal, Slot, Token, Unavailable};
pub use status::{FailedLogin, Skew, State, Status};
