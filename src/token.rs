//! The token's life: logging in at Citrix, keeping the token fresh, handing it to the data path.
//!
//! One [`Keeper`] per credential runs on the control runtime and never ends. It asks an [`Issuer`] for a token,
//! puts it into a [`TokenSlot`] and sleeps until the instant that [`schedule`] names or until a 401 of Citrix asks
//! for a fresh one. A request reads the slot and nothing else, so a slow token endpoint never delays it.
//!
//! ```text
//! issuer (http_client) ─ answer (pure) ─> keeper ─ schedule (pure) ─> slot <─ requests, readiness, pages
//!                                       ├─> signals (metrics), tracing
//!                                       └─> cache (disk, off by default)
//! ```

pub mod cache;
pub mod issuer;
pub mod keeper;
pub mod metrics;
pub mod outcome;
pub mod rejections;
pub mod response;
pub mod schedule;
pub mod slot;
pub mod status;

pub use cache::Cache;
pub use issuer::{HttpIssuer, IssuedToken, Issuer, LoginError, LoginRequest};
pub use keeper::Keeper;
pub use metrics::{CustomerMetrics, TokenMetrics};
pub use outcome::Outcome;
pub use slot::{ForcedRefresh, Token, TokenSlot, Unavailable};
pub use status::{FailedLogin, Skew, TokenState, TokenStatus};
