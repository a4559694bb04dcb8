//! Reads a token answer (contract 1.1). Pure.
//!
//! Both dialects are read leniently, for the shapes in the wild differ from the documented ones: numbers as
//! strings, other letter case, blanks around the JSON, no lifetime at all.

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

/// The life of a token that tells nothing of it: what Citrix documents (contract 1.2).
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
/// A longer life than this is a mistake, not a promise.
pub const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a login brings.
#[derive(Debug)]
pub struct Grant {
    /// The token: visible ASCII without blanks.
    pub token: SecretString,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// When it was issued, by Citrix's clock, if it is a JWT that says so (`iat`).
    pub issued: Option<SystemTime>,
}

/// How long a token lives, as it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// For this long, counted from the login request.
    FromRequest(Duration),
    /// Until an instant of Citrix's clock, out of the token itself (`exp`).
    Until(SystemTime),
    /// Nothing was told: [`DEFAULT_LIFETIME`] is assumed.
    Assumed,
}

impl Lifetime {
    /// The instant of our clock at which the token dies, for a login request sent at `sent`.
    ///
    /// A time of Citrix's clock is corrected by the skew, where that is known. May lie in the past.
    pub fn expires_at(self, sent: SystemTime, skew: Option<Skew>) -> SystemTime {
        let assumed = sent + DEFAULT_LIFETIME;
        let ours = match self {
            Self::FromRequest(life) => return sent + life,
            Self::Assumed => return assumed,
            Self::Until(expires) => skew.map_or(Some(expires), |skew| skew.to_ours(expires)),
        };
        ours.filter(|at| at.duration_since(sent).unwrap_or_default() <= MAX_LIFETIME)
            .unwrap_or(assumed)
    }
}

/// Reads the body of a 200.
///
/// The names of both dialects are understood in either; those of `dialect` win.
///
/// # Errors
/// [`Outcome::Empty`], [`Outcome::NotJson`], [`Outcome::Truncated`], [`Outcome::Malformed`],
/// [`Outcome::ErrorIn200`] (or [`Outcome::InvalidClient`], when that is the error) and [`Outcome::BadToken`].
pub fn parse(dialect: TokenDialect, body: &[u8]) -> Result<Grant, Outcome> {
    let body = body
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(body)
        .trim_ascii();
    match body.first() {
        None => return Err(Outcome::Empty),
        Some(b'{') => {}
        Some(_) => return Err(Outcome::NotJson),
    }
    let members: ResponseFields = serde_json::from_slice(body).map_err(|error| {
        if error.is_eof() {
            Outcome::Truncated
        } else {
            Outcome::Malformed
        }
    })?;
    match members.error.as_deref() {
        Some(INVALID_CLIENT) => return Err(Outcome::InvalidClient),
        Some(_) => return Err(Outcome::ErrorIn200),
        None => {}
    }
    let (token, lifetime) = match dialect {
        TokenDialect::Oauth2 => (
            members.access_token.or(members.token),
            members.expires_snake.or(members.expires_camel),
        ),
        TokenDialect::Trust => (
            members.token.or(members.access_token),
            members.expires_camel.or(members.expires_snake),
        ),
    };
    let token = token.ok_or(Outcome::Malformed)?;
    let text = token.expose_secret();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Outcome::BadToken);
    }
    let claims = jwt::claims(text);
    let lifetime = match (lifetime, &claims) {
        (Some(life), _) => Lifetime::FromRequest(life),
        (None, Some(claims)) => Lifetime::Until(claims.expires),
        (None, None) => Lifetime::Assumed,
    };
    let issued = claims.and_then(|claims| claims.issued);
    Ok(Grant {
        token,
        lifetime,
        issued,
    })
}

/// The customer that a token says it is for; `None` when it says none. Its signature is not checked.
pub fn customer_of(token: &SecretString) -> Option<String> {
    jwt::customer(token.expose_secret())
}

/// The `error` code that refuses id or secret.
const INVALID_CLIENT: &str = "invalid_client";

/// Whether the body of an error answer is `{"error":"invalid_client", …}` (contract 1.3).
pub fn is_invalid_client(body: &[u8]) -> bool {
    serde_json::from_slice::<ResponseFields>(body.trim_ascii())
        .is_ok_and(|members| members.error.as_deref() == Some(INVALID_CLIENT))
}

/// A life in seconds, if it is one to believe.
fn believable(seconds: f64) -> Option<Duration> {
    let life = Duration::try_from_secs_f64(seconds).ok()?;
    (!life.is_zero() && life <= MAX_LIFETIME).then_some(life)
}

/// The members of a token answer that matter. The token goes straight into its wiped box.
#[derive(Default)]
struct ResponseFields {
    access_token: Option<SecretString>,
    token: Option<SecretString>,
    expires_snake: Option<Duration>,
    expires_camel: Option<Duration>,
    error: Option<String>,
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
        f.write_str("a token answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResponseFields, A::Error> {
        let mut members = ResponseFields::default();
        while let Some(mut key) = map.next_key::<String>()? {
            key.make_ascii_lowercase();
            match key.as_str() {
                "access_token" => {
                    members.access_token = map.next_value::<Option<String>>()?.map(Into::into)
                }
                "token" => members.token = map.next_value::<Option<String>>()?.map(Into::into),
                "expires_in" => members.expires_snake = lifetime(&map.next_value()?),
                "expiresin" => members.expires_camel = lifetime(&map.next_value()?),
                "error" => members.error = error(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }
}

fn lifetime(value: &Value) -> Option<Duration> {
    match value {
        Value::Number(number) => believable(number.as_f64()?),
        Value::String(text) => believable(text.trim().parse().ok()?),
        _ => None,
    }
}

/// An error code. Citrix's own client takes the empty string for "no error"; what is no string is an error
/// without a code.
fn error(value: Value) -> Option<String> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(code) => Some(code).filter(|code| !code.is_empty()),
        _ => Some(String::new()),
    }
}

#[cfg(test)]
mod tests;
