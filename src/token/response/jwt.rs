//! Unverified claims of a JWT. Citrix verifies the signature; here the claims only schedule the
//! next login.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::plausible;
use citrix_wire::json;

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

/// Claims that may name the customer, case-insensitive. Citrix documents none; these are likely.
const CUSTOMER_CLAIMS: [&str; 3] = ["customer", "customerId", "customer_id"];

/// Returns the customer that a JWT names; `None` if there is none or it is not a valid id.
pub(super) fn customer(token: &str) -> Option<String> {
    let claims = json::parse(&payload(token)?)?;
    let customer = CUSTOMER_CLAIMS
        .iter()
        .find_map(|name| json::member(&claims, name)?.as_str())?;
    let is_valid = (1..=MAX_CUSTOMER_LEN).contains(&customer.len())
        && customer.bytes().all(|b| b.is_ascii_graphic());
    is_valid.then(|| customer.to_owned())
}

/// Returns the times of a JWT; `None` if the token is not a JWT or the times are implausible.
pub(super) fn times(token: &str) -> Option<TokenTimes> {
    let claims: RegisteredClaims =
        serde_json::from_slice(json::without_bom(&payload(token)?)).ok()?;
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
