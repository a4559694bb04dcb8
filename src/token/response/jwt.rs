//! The life that a token tells of itself. Its signature is none of our business: Citrix checks it, and all we
//! decide by it is when to ask for the next one.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::believable;

/// The longest id that is repeated.
const LONGEST_CUSTOMER: usize = 128;

/// The registered claims of RFC 7519 that bound a life; fractions are allowed there.
#[derive(Deserialize)]
struct RegisteredClaims {
    exp: f64,
    iat: Option<f64>,
}

/// What a token tells, by the clock of its issuer.
pub(super) struct TokenTimes {
    /// `exp`
    pub(super) expires: SystemTime,
    /// `iat`
    pub(super) issued: Option<SystemTime>,
}

fn payload(token: &str) -> Option<Zeroizing<Vec<u8>>> {
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    Some(Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?))
}

/// Citrix documents no name for it; these are the likely ones.
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

/// The customer that a JWT names; `None` when it names none that could be one.
pub(super) fn customer(token: &str) -> Option<String> {
    let CustomerClaim { customer } = serde_json::from_slice(&payload(token)?).ok()?;
    let fits = (1..=LONGEST_CUSTOMER).contains(&customer.len())
        && customer.bytes().all(|b| b.is_ascii_graphic());
    fits.then_some(customer)
}

/// The claims of a JWT; `None` when the token is no JWT or they make no sense.
pub(super) fn claims(token: &str) -> Option<TokenTimes> {
    let written: RegisteredClaims = serde_json::from_slice(&payload(token)?).ok()?;
    let instant =
        |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?);
    let issued = match written.iat {
        Some(iat) => {
            believable(written.exp - iat)?;
            Some(instant(iat)?)
        }
        None => None,
    };
    Some(TokenTimes {
        expires: instant(written.exp)?,
        issued,
    })
}
