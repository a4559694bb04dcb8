//! What is particular to Citrix Cloud: its clouds, services, token dialects, headers and retired addresses. No
//! sockets here.

pub mod batch;
pub mod clouds;
pub mod headers;
pub mod legacy;
pub mod login;
pub mod services;

use http::HeaderValue;
use http::header::InvalidHeaderValue;

/// What Citrix answers when a site that nobody used for long was put to sleep (contract §4).
pub const SITE_FROZEN: u16 = 530;

/// Which of Citrix's two token endpoints a credential logs in at (contract §1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenDialect {
    /// The current one: a form in, `access_token` and a string `expires_in` out.
    Oauth2,
    /// The legacy trust service: JSON in, `token` and a number `expiresIn` out.
    Trust,
}

/// How a token is written into `Authorization` (contract §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthorizationScheme {
    /// `CwsAuth Bearer=<token>`, which nearly every Citrix service wants.
    Cws,
    /// `Bearer <token>` (RFC 6750), for the few that want the standard form.
    Bearer,
}

impl AuthorizationScheme {
    /// The whole header value for a token, marked sensitive so that nothing prints or indexes it.
    ///
    /// # Errors
    /// When the token holds a byte that no header may carry.
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
