//! Tokens: login at Citrix, refresh, publication to the data path.
//!
//! One [`Keeper`] per credential runs on the control runtime and never returns. It requests a token
//! from an [`Issuer`], publishes it in a [`TokenSlot`], and sleeps until the deadline that
//! [`schedule`] computes or until a 401 from Citrix forces a refresh. A request only reads the
//! slot, so a slow token endpoint never delays it.
//!
//! ```text
//! issuer (control_plane) ─ response (pure) ─> keeper ─ schedule (pure) ─> slot <─ requests, readiness, status page
//!                                         ├─> metrics, tracing
//!                                         └─> cache (disk, off by default)
//! ```

pub mod acceptance;
pub mod cache;
pub mod events;
pub mod issuer;
pub mod keeper;
pub mod login_gate;
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
