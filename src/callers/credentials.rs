//! The credentials of a request: `X-Api-Key`, or `Authorization` in every form that Citrix's tools
//! send (contract §2).

use citrix_wire::basic_auth::BasicCredentials;
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The field for a secret alone.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The credentials as sent. No `Debug`: they are secret.
pub enum PresentedCredentials<'r> {
    /// No credentials, or none of a known scheme.
    Absent,
    /// `X-Api-Key`, which takes precedence over `Authorization`.
    ApiKey(&'r [u8]),
    /// HTTP Basic (RFC 7617); `None` if it is malformed.
    Basic(Option<BasicCredentials>),
    /// `Bearer`, or `CwsAuth Bearer=`.
    Bearer(&'r [u8]),
}

/// A field of credentials that occurs twice: another recipient may read the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("duplicate field {0}")]
pub struct DuplicateField(&'static str);

impl<'r> PresentedCredentials<'r> {
    /// Reads the credentials of a request.
    ///
    /// # Errors
    /// If `X-Api-Key` or `Authorization` occurs twice.
    pub fn read(headers: &'r HeaderMap) -> Result<Self, DuplicateField> {
        let key = single(headers, &X_API_KEY, "X-Api-Key")?;
        let authorization = single(headers, &AUTHORIZATION, "Authorization")?;
        Ok(match (key, authorization) {
            (Some(key), _) => Self::ApiKey(key.as_bytes().trim_ascii()),
            (None, Some(value)) => Self::in_authorization(value.as_bytes()),
            (None, None) => Self::Absent,
        })
    }

    /// Reads the credentials for the gateway as a proxy (RFC 9110 section 11.7.2).
    ///
    /// # Errors
    /// If `Proxy-Authorization` occurs twice.
    pub fn read_proxy(headers: &'r HeaderMap) -> Result<Self, DuplicateField> {
        let field = single(headers, &PROXY_AUTHORIZATION, "Proxy-Authorization")?;
        Ok(field.map_or(Self::Absent, |value| {
            Self::in_authorization(value.as_bytes())
        }))
    }

    fn in_authorization(value: &'r [u8]) -> Self {
        if let Some(credentials) = after_scheme(value, b"basic") {
            return Self::Basic(BasicCredentials::decode(credentials));
        }
        let token = after_scheme(value, b"cwsauth").and_then(cws_token);
        match token.or_else(|| after_scheme(value, b"bearer")) {
            Some(token) => Self::Bearer(unquoted(token)),
            None => Self::Absent,
        }
    }

    /// Returns the secret or token.
    pub fn secret(&self) -> Option<&[u8]> {
        match self {
            Self::Absent | Self::Basic(None) => None,
            Self::ApiKey(secret) | Self::Bearer(secret) => Some(secret),
            Self::Basic(Some(basic)) => Some(basic.password()),
        }
    }

    /// Returns the user-id of HTTP Basic.
    pub fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Basic(Some(basic)) => Some(basic.user()),
            _ => None,
        }
    }

    /// Returns `true` if the credentials are those of `Authorization`.
    pub fn is_authorization(&self) -> bool {
        matches!(self, Self::Basic(_) | Self::Bearer(_))
    }

    /// Returns `true` if the credentials can only be meant for the gateway. A bearer token may be
    /// an old one of Citrix that a tool still sends.
    pub fn is_for_gateway(&self) -> bool {
        matches!(self, Self::ApiKey(_) | Self::Basic(_))
    }
}

/// Returns the field `name`, if any. `shown` is its name in messages.
fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'h HeaderValue>, DuplicateField> {
    let mut fields = headers.get_all(name).iter();
    let first = fields.next();
    match fields.next() {
        None => Ok(first),
        Some(_) => Err(DuplicateField(shown)),
    }
}

/// Returns the part after the scheme, which is case-insensitive, and its spaces.
fn after_scheme<'v>(value: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let (first, rest) = value.trim_ascii().split_at_checked(scheme.len())?;
    let follows = rest.first().is_some_and(u8::is_ascii_whitespace);
    (first.eq_ignore_ascii_case(scheme) && follows).then(|| rest.trim_ascii_start())
}

/// Returns the token of `Bearer=<token>`, with or without spaces after `=`.
fn cws_token(credentials: &[u8]) -> Option<&[u8]> {
    const BEARER: &[u8] = b"bearer=";
    let (first, token) = credentials.split_at_checked(BEARER.len())?;
    first
        .eq_ignore_ascii_case(BEARER)
        .then(|| token.trim_ascii_start())
}

/// Strips the quotes that some tools send.
fn unquoted(token: &[u8]) -> &[u8] {
    token
        .strip_prefix(b"\"")
        .and_then(|token| token.strip_suffix(b"\""))
        .unwrap_or(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
        fields
            .iter()
            .map(field)
            .collect::<Vec<(HeaderName, HeaderValue)>>()
            .into_iter()
            .collect()
    }

    /// Returns the kind, the name and the secret.
    fn read(fields: &[(&str, &str)]) -> (&'static str, Option<String>, Option<String>) {
        let headers = headers(fields);
        let presented = PresentedCredentials::read(&headers).unwrap();
        let kind = match presented {
            PresentedCredentials::Absent => "nothing",
            PresentedCredentials::ApiKey(_) => "key",
            PresentedCredentials::Basic(_) => "basic",
            PresentedCredentials::Bearer(_) => "bearer",
        };
        let text =
            |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        (kind, text(presented.name()), text(presented.secret()))
    }

    #[test]
    fn contract_2_every_form_of_a_bearer_token_is_read() {
        for value in [
            "Bearer t0k.en",
            "bearer t0k.en",
            "BEARER   t0k.en  ",
            "CwsAuth Bearer=t0k.en",
            "CWSAuth Bearer=t0k.en",
            "CWSAuth bearer=t0k.en",
            "CwsAuth bearer=t0k.en",
            "cwsauth\tBEARER=t0k.en",
            "CWSAuth bearer= t0k.en",
            "CWSAuth   bearer=     t0k.en",
            "CWSAuth bearer=\"t0k.en\"",
            "CWSAuth bearer= \"t0k.en\"",
            "Bearer \"t0k.en\"",
        ] {
            let expected = ("bearer", None, Some("t0k.en".to_owned()));
            assert_eq!(read(&[("authorization", value)]), expected, "{value}");
        }
        for value in [
            "CWSAuth service=t0k.en",
            "CwsAuth t0k.en",
            "CwsAuthBearer=t0k.en",
            "Bearert0k.en",
            "Bearer",
            "Negotiate t0k.en",
            "Digest username=\"a\"",
            "",
        ] {
            assert_eq!(
                read(&[("authorization", value)]),
                ("nothing", None, None),
                "{value}"
            );
        }
    }

    #[test]
    fn rfc7617_basic_is_a_name_and_a_secret_that_may_have_colons() {
        for (value, name, secret) in [
            ("Basic c3BsdW5rOnMzY3JldA==", "splunk", "s3cret"),
            ("basic  c3BsdW5rOnMzY3JldA==", "splunk", "s3cret"),
            ("Basic YTpiOmM=", "a", "b:c"),
            ("Basic Ojo=", "", ":"),
            ("Basic YTo=", "a", ""),
        ] {
            let expected = ("basic", Some(name.to_owned()), Some(secret.to_owned()));
            assert_eq!(read(&[("authorization", value)]), expected, "{value}");
        }
        for value in [
            "Basic c3BsdW5r",
            "Basic %%%",
            "Basic c3BsdW5rOnMzY3JldA",
            "Basic a:b",
            "Basic \"",
        ] {
            assert_eq!(
                read(&[("authorization", value)]),
                ("basic", None, None),
                "{value}"
            );
        }
    }

    #[test]
    fn api_key_takes_precedence_and_duplicate_field_is_an_error() {
        let bearer = ("authorization", "Bearer other");
        assert_eq!(
            read(&[bearer, ("x-api-key", "k")]),
            ("key", None, Some("k".to_owned()))
        );
        assert_eq!(
            read(&[("x-api-key", ""), bearer]),
            ("key", None, Some(String::new()))
        );
        assert_eq!(read(&[]), ("nothing", None, None));
        for name in ["authorization", "x-api-key"] {
            for value in ["Bearer t", "Bearer u"] {
                let headers = headers(&[(name, "Bearer t"), (name, value)]);
                assert!(PresentedCredentials::read(&headers).is_err(), "{name}");
            }
        }
        // Even where `Authorization` would not be read.
        assert!(
            PresentedCredentials::read(&headers(&[("x-api-key", "k"), bearer, bearer])).is_err()
        );
    }
}
