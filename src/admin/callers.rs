//! The format of `GET /callers`: the callers and the last use of each of their secrets.

use serde::{Deserialize, Serialize};

/// The callers of the configuration in force. The response contains no secret and no whole hash.
#[derive(Debug, Deserialize, Serialize)]
pub struct CallerList {
    pub(crate) format: u32,
    /// In the order of the configuration, then those without a block that sent requests.
    pub(crate) callers: Vec<CallerView>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
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
    /// Requests per second.
    #[serde(default)]
    pub(crate) rate_1m: f64,
    #[serde(default)]
    pub(crate) rate_5m: f64,
    /// Requests in progress, those in queues included. For a configured caller.
    #[serde(default)]
    pub(crate) in_flight: Option<usize>,
    #[serde(default)]
    pub(crate) max_concurrent: Option<usize>,
    #[serde(default)]
    pub(crate) max_per_second: Option<u32>,
    /// The last recorded failure or rejection.
    #[serde(default)]
    pub(crate) last_error: Option<ErrorView>,
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

/// A failure or rejection.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ErrorView {
    pub(crate) at: Option<String>,
    pub(crate) status: u16,
    /// Of a response that the gateway generated.
    pub(crate) reason: Option<String>,
    pub(crate) request_id: String,
}
