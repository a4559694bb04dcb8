//! Requests to a token endpoint: a form or JSON with a client id and secret (contract §1.1).

use std::fmt;

use http::HeaderValue;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::super::TokenDialect;

/// The credentials of a request. No `Debug`: even `id` holds a secret if a tool swaps the two.
#[derive(Default)]
pub struct Credentials {
    /// `client_id`, or `clientId`.
    pub id: Option<Zeroizing<String>>,
    /// `client_secret`, or `clientSecret`.
    pub secret: Option<SecretString>,
}

/// Why a token request is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// `Content-Type` is not that of the endpoint.
    #[error("the token request has another media type than its endpoint")]
    MediaType,
    /// `grant_type` is not `client_credentials`.
    #[error("the token request does not have grant_type=client_credentials")]
    GrantType,
    /// The body is not of its media type, or has a repeated parameter.
    #[error("the body of the token request is malformed")]
    Malformed,
}

/// Parses the body of a token request. `content_type` is `None` if the field is absent or repeated.
///
/// # Errors
/// If the request is invalid at this endpoint.
pub fn parse(
    dialect: TokenDialect,
    content_type: Option<&HeaderValue>,
    body: &[u8],
) -> Result<Credentials, InvalidRequest> {
    let media_type = match dialect {
        TokenDialect::Oauth2 => "application/x-www-form-urlencoded",
        TokenDialect::Trust => "application/json",
    };
    if !content_type.is_some_and(|value| is_of(value, media_type)) {
        return Err(InvalidRequest::MediaType);
    }
    match dialect {
        TokenDialect::Oauth2 => parse_form(body),
        TokenDialect::Trust => serde_json::from_slice(body).map_err(|_| InvalidRequest::Malformed),
    }
}

/// Returns `true` for this media type with UTF-8 or no charset. Citrix's form endpoint rejects any
/// parameter; the gateway accepts an explicit UTF-8.
fn is_of(value: &HeaderValue, media_type: &str) -> bool {
    let mut parts = value.to_str().unwrap_or_default().split(';').map(str::trim);
    parts
        .next()
        .is_some_and(|found| found.eq_ignore_ascii_case(media_type))
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, charset)) if name.trim().eq_ignore_ascii_case("charset") => charset
                .trim()
                .trim_matches('"')
                .eq_ignore_ascii_case("utf-8"),
            _ => true,
        })
}

/// Parses parameters in any order; repeated ones are invalid (RFC 6749 section 3.2).
fn parse_form(body: &[u8]) -> Result<Credentials, InvalidRequest> {
    let (mut grant_type, mut id, mut secret) = (None, None, None);
    for (name, value) in form_urlencoded::parse(body) {
        let field = match &*name {
            "grant_type" => &mut grant_type,
            "client_id" => &mut id,
            "client_secret" => &mut secret,
            _ => continue,
        };
        if field.replace(Zeroizing::new(value.into_owned())).is_some() {
            return Err(InvalidRequest::Malformed);
        }
    }
    if grant_type.is_none_or(|grant_type| *grant_type != "client_credentials") {
        return Err(InvalidRequest::GrantType);
    }
    Ok(Credentials {
        id,
        secret: secret.map(|secret| SecretString::from(secret.as_str())),
    })
}

impl<'de> Deserialize<'de> for Credentials {
    /// Not derived: names are case-insensitive (contract §1.1), and repeated ones are invalid.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Credentials;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Credentials, A::Error> {
                let (mut id, mut secret): (Option<Zeroizing<String>>, Option<Zeroizing<String>>) =
                    (None, None);
                while let Some(name) = fields.next_key::<String>()? {
                    let field = match () {
                        () if name.eq_ignore_ascii_case("clientId") => &mut id,
                        () if name.eq_ignore_ascii_case("clientSecret") => &mut secret,
                        () => {
                            fields.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if field
                        .replace(Zeroizing::new(fields.next_value()?))
                        .is_some()
                    {
                        return Err(A::Error::custom("repeated field"));
                    }
                }
                Ok(Credentials {
                    id,
                    secret: secret.map(|secret| SecretString::from(secret.as_str())),
                })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";

    type Found = Result<(Option<String>, Option<String>), InvalidRequest>;

    fn found(dialect: TokenDialect, content_type: &str, body: &str) -> Found {
        let content_type = HeaderValue::from_str(content_type).unwrap();
        let credentials = parse(dialect, Some(&content_type), body.as_bytes())?;
        let secret = credentials
            .secret
            .map(|secret| secret.expose_secret().to_owned());
        Ok((credentials.id.map(|id| id.to_string()), secret))
    }

    fn form(body: &str) -> Found {
        found(TokenDialect::Oauth2, FORM, body)
    }

    fn json(body: &str) -> Found {
        found(TokenDialect::Trust, JSON, body)
    }

    fn both(id: &str, secret: &str) -> Found {
        Ok((Some(id.to_owned()), Some(secret.to_owned())))
    }

    #[test]
    fn contract_1_1_form_parameters_are_parsed_in_any_order() {
        for body in [
            "grant_type=client_credentials&client_id=a&client_secret=s%2B%3D%3D",
            "client_secret=s%2b==&client_id=%61&grant_type=client_credentials",
            "client_id=a&scope=x&grant_type=client_credentials&client_secret=s%2B%3D%3D&x&&=",
        ] {
            assert_eq!(form(body), both("a", "s+=="), "{body}");
        }
        assert_eq!(form("grant_type=client_credentials"), Ok((None, None)));
        let spaces = "grant_type=client_credentials&client_id=a+b&client_secret=";
        assert_eq!(form(spaces), both("a b", ""));
    }

    #[test]
    fn rfc6749_3_2_other_grant_type_or_repeated_parameter_is_rejected() {
        for body in [
            "",
            "client_id=a&client_secret=s",
            "grant_type=password&client_id=a",
            "{}",
            "grant_type",
        ] {
            assert_eq!(form(body), Err(InvalidRequest::GrantType), "{body}");
        }
        for field in [
            "grant_type=client_credentials",
            "client_id=a",
            "client_secret=s",
        ] {
            let body = format!("grant_type=client_credentials&client_id=a&client_secret=s&{field}");
            assert_eq!(form(&body), Err(InvalidRequest::Malformed), "{body}");
        }
    }

    #[test]
    fn contract_1_1_json_names_are_case_insensitive() {
        for body in [
            r#"{"clientId":"a","clientSecret":"s"}"#,
            r#"{"ClientSecret":"s","ClientId":"a"}"#,
            "\r\n{ \"clientid\" : \"\\u0061\", \"x\": [{\"clientId\": 1}], \"CLIENTSECRET\": \"s\" }\n",
        ] {
            assert_eq!(json(body), both("a", "s"), "{body}");
        }
        assert_eq!(json("{}"), Ok((None, None)));
        for body in [
            "",
            "null",
            "[]",
            "\"clientId\"",
            r#"["a","s"]"#,
            r#"{"clientId":"a""#,
            r#"{"clientId":"a"} x"#,
            r#"{"clientId":1,"clientSecret":"s"}"#,
            r#"{"clientId":"a","clientSecret":null}"#,
            r#"{"clientId":"a","ClientId":"b","clientSecret":"s"}"#,
            r#"{"clientSecret":"s","clientSecret":"s"}"#,
            "client_id=a&client_secret=s",
        ] {
            assert_eq!(json(body), Err(InvalidRequest::Malformed), "{body}");
        }
    }

    #[test]
    fn other_content_type_is_rejected() {
        let body = "grant_type=client_credentials";
        for (content_type, is_valid) in [
            ("application/x-www-form-urlencoded", true),
            ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", true),
            ("application/x-www-form-urlencoded;charset=\"utf-8\"", true),
            ("application/x-www-form-urlencoded; charset=utf-16", false),
            ("application/json", false),
            ("text/plain", false),
            ("", false),
        ] {
            let found = found(TokenDialect::Oauth2, content_type, body);
            assert_eq!(found.is_ok(), is_valid, "{content_type}");
            assert!(
                is_valid || found == Err(InvalidRequest::MediaType),
                "{content_type}"
            );
        }
        for (content_type, is_valid) in [
            ("application/json; charset=utf-8", true),
            ("application/json", true),
            (FORM, false),
        ] {
            assert_eq!(
                found(TokenDialect::Trust, content_type, "{}").is_ok(),
                is_valid,
                "{content_type}"
            );
        }
        assert_eq!(
            parse(TokenDialect::Trust, None, b"{}").err(),
            Some(InvalidRequest::MediaType)
        );
    }

    proptest! {
        #[test]
        fn encoded_credentials_are_parsed(id in ".{0,40}", secret in ".{0,60}") {
            let mut form_body = form_urlencoded::Serializer::new(String::new());
            form_body.append_pair("client_secret", &secret).append_pair("client_id", &id);
            let form_body = form_body.append_pair("grant_type", "client_credentials").finish();
            prop_assert_eq!(form(&form_body), both(&id, &secret));
            let json_body = serde_json::json!({ "clientId": id, "clientSecret": secret }).to_string();
            prop_assert_eq!(json(&json_body), both(&id, &secret));
        }

        #[test]
        fn any_body_is_parsed_without_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            for (dialect, content_type) in [(TokenDialect::Oauth2, FORM), (TokenDialect::Trust, JSON)] {
                parse(dialect, Some(&HeaderValue::from_static(content_type)), &body).ok();
            }
        }
    }
}
