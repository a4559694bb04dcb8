//! Parser for token responses (contract §1.1). Pure.
//!
//! Both dialects are parsed leniently, because real responses deviate from the documented format:
//! numbers as strings, other letter case, whitespace around the JSON, no lifetime.

mod jwt;

use std::fmt;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserializer;
use serde::de::{Deserialize, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::outcome::Outcome;
use super::status::Skew;
use citrix_wire::citrix::TokenDialect;
use citrix_wire::json;

/// Lifetime of a token whose response states none, as Citrix documents it (contract §1.2).
pub(crate) const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
/// Longest plausible lifetime of a token; a response that states more is treated as one that states
/// none.
pub const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Content of a successful token response.
#[derive(Debug)]
pub struct Grant {
    /// The token, in visible ASCII without spaces.
    pub token: SecretString,
    /// The lifetime, as stated by the response or the token.
    pub lifetime: Lifetime,
    /// Issue time on Citrix's clock, if the token is a JWT with `iat`.
    pub(crate) issued: Option<SystemTime>,
}

/// Lifetime of a token, by its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Duration from the login request on, from the response.
    FromRequest(Duration),
    /// Expiry on Citrix's clock, from `exp` in the token.
    Until(SystemTime),
    /// Not stated; `DEFAULT_LIFETIME` applies.
    Assumed,
}

impl Lifetime {
    /// Returns the local time at which the token expires, for a login request sent at `sent`. May
    /// be in the past.
    ///
    /// A time of Citrix's clock is corrected by the skew, if known.
    pub fn expires_at(self, sent: SystemTime, skew: Option<Skew>) -> SystemTime {
        let assumed = sent + DEFAULT_LIFETIME;
        let local = match self {
            Self::FromRequest(lifetime) => return sent + lifetime,
            Self::Assumed => return assumed,
            Self::Until(expires) => skew.map_or(Some(expires), |skew| skew.to_local(expires)),
        };
        local
            .filter(|at| at.duration_since(sent).unwrap_or_default() <= MAX_LIFETIME)
            .unwrap_or(assumed)
    }
}

/// Parses the body of a 200 response.
///
/// Field names of both dialects are accepted; those of `dialect` take precedence.
///
/// # Errors
/// [`Outcome::Empty`], [`Outcome::NotJson`], [`Outcome::Truncated`], [`Outcome::Malformed`],
/// [`Outcome::ErrorIn200`], [`Outcome::InvalidClient`] for that `error` code, and
/// [`Outcome::BadToken`]. A `token_type` other than `bearer` is malformed: a token of an unknown
/// type must not be used (RFC 6749 section 7.1).
pub fn parse(dialect: TokenDialect, body: &[u8]) -> Result<Grant, Outcome> {
    let body = json::without_bom(body).trim_ascii();
    match body.first() {
        None => return Err(Outcome::Empty),
        Some(b'{') => {}
        Some(_) => return Err(Outcome::NotJson),
    }
    let fields: ResponseFields = serde_json::from_slice(body).map_err(|error| {
        if error.is_eof() {
            Outcome::Truncated
        } else {
            Outcome::Malformed
        }
    })?;
    match fields.error.as_deref() {
        Some(INVALID_CLIENT) => return Err(Outcome::InvalidClient),
        Some(_) => return Err(Outcome::ErrorIn200),
        None => {}
    }
    if fields.has_unknown_type {
        return Err(Outcome::Malformed);
    }
    let (token, lifetime) = match dialect {
        TokenDialect::Oauth2 => (
            fields.access_token.or(fields.token),
            fields.expires_snake.or(fields.expires_camel),
        ),
        TokenDialect::Trust => (
            fields.token.or(fields.access_token),
            fields.expires_camel.or(fields.expires_snake),
        ),
    };
    let token = token.ok_or(Outcome::Malformed)?;
    let text = token.expose_secret();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Outcome::BadToken);
    }
    let times = jwt::times(text);
    let lifetime = match (lifetime, &times) {
        (Some(lifetime), _) => Lifetime::FromRequest(lifetime),
        (None, Some(times)) => Lifetime::Until(times.expires),
        (None, None) => Lifetime::Assumed,
    };
    let issued = times.and_then(|times| times.issued);
    Ok(Grant {
        token,
        lifetime,
        issued,
    })
}

/// The action to take if a token names another customer than the configured one.
pub(crate) const OTHER_CUSTOMER_ADVICE: &str =
    "set customer_id to that customer, or client_id and secret to a client of this one";

/// The customer that a token names, compared with the configured one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamedCustomer {
    /// None, or it is not a valid id.
    None,
    Configured(String),
    Other(String),
}

/// Returns the customer that a token names. The signature is not verified.
pub(crate) fn named_customer(token: &SecretString, configured: &str) -> NamedCustomer {
    match jwt::customer(token.expose_secret()) {
        None => NamedCustomer::None,
        Some(same) if same.eq_ignore_ascii_case(configured) => NamedCustomer::Configured(same),
        Some(other) => NamedCustomer::Other(other),
    }
}

/// The `error` code for a wrong id or secret.
const INVALID_CLIENT: &str = "invalid_client";

/// Returns `true` if the body of an error response is `{"error":"invalid_client", …}`
/// (contract §1.3).
pub fn is_invalid_client(body: &[u8]) -> bool {
    serde_json::from_slice::<ResponseFields>(json::without_bom(body))
        .is_ok_and(|fields| fields.error.as_deref() == Some(INVALID_CLIENT))
}

/// Converts a lifetime in seconds; `None` if it is zero, negative or above [`MAX_LIFETIME`].
fn plausible(seconds: f64) -> Option<Duration> {
    let lifetime = Duration::try_from_secs_f64(seconds).ok()?;
    (!lifetime.is_zero() && lifetime <= MAX_LIFETIME).then_some(lifetime)
}

/// The relevant fields of a token response. The token is moved directly into memory that is wiped
/// on drop.
#[derive(Default)]
struct ResponseFields {
    access_token: Option<SecretString>,
    token: Option<SecretString>,
    expires_snake: Option<Duration>,
    expires_camel: Option<Duration>,
    error: Option<String>,
    /// `token_type` is not `bearer`.
    has_unknown_type: bool,
}

impl<'de> Deserialize<'de> for ResponseFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ResponseFieldsVisitor)
    }
}

struct ResponseFieldsVisitor;

impl<'de> Visitor<'de> for ResponseFieldsVisitor {
    type Value = ResponseFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token response")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResponseFields, A::Error> {
        let mut fields = ResponseFields::default();
        while let Some(mut key) = map.next_key::<String>()? {
            key.make_ascii_lowercase();
            match key.as_str() {
                "access_token" => {
                    fields.access_token = map.next_value::<Option<String>>()?.map(Into::into)
                }
                "token" => fields.token = map.next_value::<Option<String>>()?.map(Into::into),
                "expires_in" => fields.expires_snake = lifetime(&map.next_value()?),
                "expiresin" => fields.expires_camel = lifetime(&map.next_value()?),
                "token_type" => fields.has_unknown_type = !is_bearer(&map.next_value()?),
                "error" => fields.error = error_code(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

/// Returns `true` for `bearer`, whose case makes no difference, and for no type.
fn is_bearer(token_type: &Value) -> bool {
    match token_type {
        Value::Null => true,
        Value::String(name) => name.eq_ignore_ascii_case("bearer"),
        _ => false,
    }
}

fn lifetime(value: &Value) -> Option<Duration> {
    match value {
        Value::Number(number) => plausible(number.as_f64()?),
        Value::String(text) => plausible(text.trim().parse().ok()?),
        _ => None,
    }
}

/// Returns the error code. Citrix's own client treats the empty string as no error; a value that is
/// not a string is an error with an empty code.
fn error_code(value: Value) -> Option<String> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(code) => Some(code).filter(|code| !code.is_empty()),
        _ => Some(String::new()),
    }
}

#[cfg(test)]
mod tests;
