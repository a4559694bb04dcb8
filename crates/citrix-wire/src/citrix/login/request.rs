//! What tools send to a token endpoint (contract §1.1): a form or JSON, in which a name and a secret stand.

use std::fmt;

use http::HeaderValue;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::super::TokenDialect;

/// What stands in a body, of what should. No `Debug`: who mistakes one field for the other writes a secret into both.
#[derive(Default)]
pub struct Credentials {
    /// `client_id`, or `clientId`.
    pub id: Option<Zeroizing<String>>,
    /// `client_secret`, or `clientSecret`.
    pub secret: Option<SecretString>,
}

/// Why a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// `Content-Type` is not that of the endpoint.
    #[error("the body of the login is of another media type")]
    MediaType,
    /// `grant_type` is not `client_credentials`.
    #[error("the login is not for grant_type=client_credentials")]
    GrantType,
    /// It is not what `Content-Type` says, or says something twice.
    #[error("the body of the login is malformed")]
    Malformed,
}

/// Reads the body of a login, of which `content_type` says what it is, if it does so once.
///
/// # Errors
/// When it is none of this endpoint's.
pub fn read(
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
        TokenDialect::Oauth2 => read_form(body),
        TokenDialect::Trust => serde_json::from_slice(body).map_err(|_| InvalidRequest::Malformed),
    }
}

/// Whether the value names this media type. Citrix's form endpoint takes no parameters; a tool that sends UTF-8's
/// means nothing else by it.
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

/// The fields in any order; none of them twice (RFC 6749 section 3.2).
fn read_form(body: &[u8]) -> Result<Credentials, InvalidRequest> {
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
    /// By hand: Citrix's own samples have the names in two spellings (contract §1.1), and none may be there twice.
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
                        return Err(A::Error::custom("a field is there twice"));
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
        let credentials = read(dialect, Some(&content_type), body.as_bytes())?;
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
    fn contract_1_1_a_form_is_read_whatever_its_order() {
        for body in [
            "grant_type=client_credentials&client_id=a&client_secret=s%2B%3D%3D",
            "client_secret=s%2b==&client_id=%61&grant_type=client_credentials",
            "client_id=a&scope=x&grant_type=client_credentials&client_secret=s%2B%3D%3D&x&&=",
        ] {
            assert_eq!(form(body), both("a", "s+=="), "{body}");
        }
        assert_eq!(form("grant_type=client_credentials"), Ok((None, None)));
        let blanks = "grant_type=client_credentials&client_id=a+b&client_secret=";
        assert_eq!(form(blanks), both("a b", ""));
    }

    #[test]
    fn rfc6749_3_2_a_form_for_something_else_or_with_a_field_twice_is_refused() {
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
    fn contract_1_1_json_is_read_in_any_letter_case() {
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
    fn a_body_is_what_its_content_type_says() {
        let body = "grant_type=client_credentials";
        for (content_type, is_read) in [
            ("application/x-www-form-urlencoded", true),
            ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", true),
            ("application/x-www-form-urlencoded;charset=\"utf-8\"", true),
            ("application/x-www-form-urlencoded; charset=utf-16", false),
            ("application/json", false),
            ("text/plain", false),
            ("", false),
        ] {
            let found = found(TokenDialect::Oauth2, content_type, body);
            assert_eq!(found.is_ok(), is_read, "{content_type}");
            assert!(
                is_read || found == Err(InvalidRequest::MediaType),
                "{content_type}"
            );
        }
        for (content_type, is_read) in [
            ("application/json; charset=utf-8", true),
            ("application/json", true),
            (FORM, false),
        ] {
            assert_eq!(
                found(TokenDialect::Trust, content_type, "{}").is_ok(),
                is_read,
                "{content_type}"
            );
        }
        assert_eq!(
            read(TokenDialect::Trust, None, b"{}").err(),
            Some(InvalidRequest::MediaType)
        );
    }

    proptest! {
        #[test]
        fn what_a_tool_encodes_is_read(id in ".{0,40}", secret in ".{0,60}") {
            let mut form_body = form_urlencoded::Serializer::new(String::new());
            form_body.append_pair("client_secret", &secret).append_pair("client_id", &id);
            let form_body = form_body.append_pair("grant_type", "client_credentials").finish();
            prop_assert_eq!(form(&form_body), both(&id, &secret));
            let json_body = serde_json::json!({ "clientId": id, "clientSecret": secret }).to_string();
            prop_assert_eq!(json(&json_body), both(&id, &secret));
        }

        #[test]
        fn no_body_is_too_strange_to_be_looked_at(body in prop::collection::vec(any::<u8>(), 0..300)) {
            for (dialect, content_type) in [(TokenDialect::Oauth2, FORM), (TokenDialect::Trust, JSON)] {
                read(dialect, Some(&HeaderValue::from_static(content_type)), &body).ok();
            }
        }
    }
}
