//! The format of `GET /callers`: the callers and the last use of each of their secrets.

use serde::{Deserialize, Serialize};

/// The callers of the configuration in force. The response contains no secret and no whole hash.
#[derive(Debug, Deserialize, Serialize)]
pub struct CallerList {
    pub(crate) format: u32,
    /// In the order of the configuration, then those without a block that sent requests.
    pub(crate) callers: Vec<CallerView>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct CallerView {
    pub(crate) name: String,
    pub(crate) configured: bool,
    pub(crate) requests: u64,
    /// Requests rejected by the gateway for a fault of the caller.
    pub(crate) refused: u64,
    /// `enforce` or `observe`, for a configured caller.
    pub(crate) mode: Option<String>,
    /// Requests that its rules would have rejected.
    pub(crate) would_deny: u64,
    pub(crate) last_seen_at: Option<String>,
    /// In the order of `secret_sha256`.
    pub(crate) secrets: Vec<SecretView>,
}

/// A secret of a caller.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct SecretView {
    /// The first digits of its SHA-256.
    pub(crate) sha256: String,
    /// Its last use in this process.
    pub(crate) last_used_at: Option<String>,
}
