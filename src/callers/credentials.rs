//! What a request shows of who it is from: `X-Api-Key` or `Authorization`, in every spelling that tools of Citrix's
//! have (contract §2).

use citrix_wire::basic_auth::BasicCredentials;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A secret in a field of its own.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A credential as it was sent. No `Debug`: it is a secret.
pub enum PresentedCredentials<'r> {
    /// None, or none in a form that this gateway understands.
    Absent,
    /// `X-Api-Key`; `Authorization` beside it is not looked at.
    ApiKey(&'r [u8]),
    /// HTTP Basic (RFC 7617); `None` when it is broken.
    Basic(Option<BasicCredentials>),
    /// `Bearer`, or `CwsAuth Bearer=`.
    Bearer(&'r [u8]),
}

/// Two fields of one credential: whoever reads the other one than we do sees another caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request has {0} twice")]
pub struct DuplicateField(&'static str);

impl<'r> PresentedCredentials<'r> {
    /// Reads a request's credential.
    ///
    /// # Errors
    /// When a field that holds one is there twice.
    pub fn read(headers: &'r HeaderMap) -> Result<Self, DuplicateField> {
        let key = single(headers, &X_API_KEY).ok_or(DuplicateField("X-Api-Key"))?;
        let authorization =
            single(headers, &AUTHORIZATION).ok_or(DuplicateField("Authorization"))?;
        Ok(match (key, authorization) {
            (Some(key), _) => Self::ApiKey(key.as_bytes().trim_ascii()),
            (None, Some(value)) => Self::in_authorization(value.as_bytes()),
            (None, None) => Self::Absent,
        })
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

    /// The secret.
    pub fn secret(&self) -> Option<&[u8]> {
        match self {
            Self::Absent | Self::Basic(None) => None,
            Self::ApiKey(secret) | Self::Bearer(secret) => Some(secret),
            Self::Basic(Some(shown)) => Some(shown.password()),
        }
    }

    /// Whose secret it is said to be, where that is said.
    pub fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Basic(Some(shown)) => Some(shown.user()),
            _ => None,
        }
    }

    /// Whether it was meant for this gateway, so that it decides alone. A bearer token may be an old one of Citrix's
    /// that a tool goes on sending.
    pub fn decides(&self) -> bool {
        matches!(self, Self::ApiKey(_) | Self::Basic(_))
    }
}

/// The only field of a name, if it is there; `None` when there are two.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Option<&'h HeaderValue>> {
    let mut fields = headers.get_all(name).iter();
    let first = fields.next();
    fields.next().is_none().then_some(first)
}

/// What comes after a scheme of this name, in any letter case, and the blanks behind it.
fn after_scheme<'v>(value: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let (first, rest) = value.trim_ascii().split_at_checked(scheme.len())?;
    let follows = rest.first().is_some_and(u8::is_ascii_whitespace);
    (first.eq_ignore_ascii_case(scheme) && follows).then(|| rest.trim_ascii_start())
}

/// The token of `Bearer=<token>`, with or without blanks behind `=`.
fn cws_token(credentials: &[u8]) -> Option<&[u8]> {
    const BEARER: &[u8] = b"bearer=";
    let (first, token) = credentials.split_at_checked(BEARER.len())?;
    first
        .eq_ignore_ascii_case(BEARER)
        .then(|| token.trim_ascii_start())
}

/// Some tools put the token in quotes.
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

    /// The kind of credential, the name and the secret.
    fn read(fields: &[(&str, &str)]) -> (&'static str, Option<String>, Option<String>) {
        let headers = headers(fields);
        let shown = PresentedCredentials::read(&headers).unwrap();
        let kind = match shown {
            PresentedCredentials::Absent => "nothing",
            PresentedCredentials::ApiKey(_) => "key",
            PresentedCredentials::Basic(_) => "basic",
            PresentedCredentials::Bearer(_) => "bearer",
        };
        let text =
            |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        (kind, text(shown.name()), text(shown.secret()))
    }

    #[test]
    fn contract_2_every_spelling_of_a_bearer_token_is_read() {
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
    fn a_key_decides_alone_and_no_field_may_be_there_twice() {
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
        // Two fields are two readings, even where neither would be read.
        assert!(
            PresentedCredentials::read(&headers(&[("x-api-key", "k"), bearer, bearer])).is_err()
        );
    }
}
