//! What goes wrong on purpose.

use std::time::Duration;

/// Faults, each off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// How the token endpoints misbehave.
    pub token: Option<TokenFault>,
    /// How long every service takes before it answers an admitted request. Monitor takes it with its only slot
    /// occupied, so that a second request meets the limit.
    pub latency: Duration,
    /// No answer carries a transaction id.
    pub no_transaction_ids: bool,
}

/// What the token endpoints do instead of (or besides) issuing a good token (contract 1.3, 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenFault {
    /// 429 with `Retry-After: 1`, as the API gateway writes it.
    RateLimited,
    /// 429 whose hint is only the body's `retryDelay`.
    RateLimitedBody,
    /// 500 from the API gateway.
    ServerError,
    /// 200 with a web page, as a captive portal gives.
    Html,
    /// 200 with nothing in it.
    Empty,
    /// 200 with JSON that ends in the middle of the token.
    Truncated,
    /// 200 with `error` and `error_description` in it.
    #[value(name = "error-in-200")]
    ErrorIn200,
    /// A good answer, twenty seconds late.
    Slow,
    /// The lifetime in the other type: a number from the form endpoint, a string from the JSON one.
    ExpiresInNumber,
    /// No lifetime.
    ExpiresInMissing,
    /// A lifetime of 0.
    ExpiresInZero,
}
