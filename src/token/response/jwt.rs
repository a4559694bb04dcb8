//! Unverified claims of a JWT. Citrix verifies the signature; here the claims only schedule the
//! next login.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::plausible;

/// Maximum length of a customer id, in bytes.
const MAX_CUSTOMER_LEN: usize = 128;

/// Registered claims of RFC 7519, section 4.1, which permits fractions of a second.
#[derive(Deserialize)]
struct RegisteredClaims {
    exp: f64,
    iat: Option<f64>,
}

/// Issue and expiry of a token, on the issuer's clock.
pub(super) struct TokenTimes {
    pub(super) expires: SystemTime,
    pub(super) issued: Option<SystemTime>,
}

fn payload(token: &str) -> Option<Zeroizing<Vec<u8>>> {
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    Some(Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?))
}

/// Citrix documents no claim for the customer; these names are likely.
#[derive(Deserialize)]
struct CustomerClaim {
    #[serde(
        alias = "customerId",
        alias = "customer_id",
        alias = "CustomerId",
        alias = "Customer"
    )]
    customer: String,
}

/// Returns the customer that a JWT names; `None` if there is none or it is not a valid id.
pub(super) fn customer(token: &str) -> Option<String> {
    let CustomerClaim { customer } = serde_json::from_slice(&payload(token)?).ok()?;
    let is_valid = (1..=MAX_CUSTOMER_LEN).contains(&customer.len())
        && customer.bytes().all(|b| b.is_ascii_graphic());
    is_valid.then_some(customer)
}

/// Returns the times of a JWT; `None` if the token is not a JWT or the times are implausible.
pub(super) fn times(token: &str) -> Option<TokenTimes> {
    let claims: RegisteredClaims = serde_json::from_slice(&payload(token)?).ok()?;
    let issued = match claims.iat {
        Some(iat) => {
            plausible(claims.exp - iat)?;
            Some(instant(iat)?)
        }
        None => None,
    };
    Some(TokenTimes {
        expires: instant(claims.exp)?,
        issued,
    })
}

fn instant(seconds: f64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}
