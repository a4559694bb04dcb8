//! Rules of Citrix Cloud: clouds, services, token endpoints, header fields, batches and retired
//! addresses.

pub mod accept;
pub mod batch;
pub mod clouds;
pub mod cvad;
pub mod headers;
pub mod legacy;
pub mod login;
pub mod redirect;
pub mod services;

use http::HeaderValue;
use http::header::InvalidHeaderValue;

/// Status for a site that is frozen after long inactivity (contract §4).
pub const SITE_FROZEN: u16 = 530;

/// The two generations of Citrix's token endpoints (contract §1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenDialect {
    /// Current: form requests; responses with `access_token` and a string `expires_in`.
    Oauth2,
    /// Legacy trust service: JSON requests; responses with `token` and a number `expiresIn`.
    Trust,
}

/// The forms of a token in `Authorization` (contract §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthorizationScheme {
    /// `CwsAuth Bearer=<token>`, required by nearly every Citrix service.
    Cws,
    /// `Bearer <token>` (RFC 6750), required by a few services.
    Bearer,
}

impl AuthorizationScheme {
    /// Returns the field value for a token, marked sensitive so that it is neither printed nor
    /// indexed by HPACK.
    ///
    /// # Errors
    /// If the token has a byte that a field value must not contain.
    pub fn header_value(self, token: &str) -> Result<HeaderValue, InvalidHeaderValue> {
        let text = match self {
            Self::Cws => format!("CwsAuth Bearer={token}"),
            Self::Bearer => format!("Bearer {token}"),
        };
        let mut value = HeaderValue::try_from(text)?;
        value.set_sensitive(true);
        Ok(value)
    }
}
