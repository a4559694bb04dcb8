//! The life that a token tells of itself. Its signature is none of our business: Citrix checks it, and all we
//! decide by it is when to ask for the next one.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::{Lifetime, believable};

/// The registered claims of RFC 7519 that bound a life; fractions are allowed there.
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    iat: Option<f64>,
}

/// `exp` and `iat` of a JWT; `None` when the token is no JWT or they make no sense.
pub(super) fn lifetime(token: &str) -> Option<Lifetime> {
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
    let claims: Claims = serde_json::from_slice(&json).ok()?;
    if let Some(iat) = claims.iat {
        believable(claims.exp - iat)?;
    }
    let instant = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?);
    let issued = match claims.iat {
        Some(iat) => Some(instant(iat)?),
        None => None,
    };
    Some(Lifetime::Until { expires: instant(claims.exp)?, issued })
}
