//! The admin secret: in `X-Api-Key`, which takes precedence, or as the password of HTTP Basic with any
//! user name.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::Full;

use super::audit::AuditedRequest;
use super::{FullResponse, text};
use crate::callers::credentials::{DuplicateField, PresentedCredentials};
use crate::error::{Failure, Reason};
use crate::system::digest::Sha256;

/// The reason that a request is not an operator's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    NoSecret,
    WrongSecret,
    Ambiguous(DuplicateField),
}

/// Marks the response to a wrong secret, which is delayed like that to a caller's.
#[derive(Clone)]
pub(super) struct WrongSecret;

/// Accepts a request that presents the `expected` secret, and any request if there is none.
pub(super) fn check(expected: Option<&Sha256>, headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let presented = PresentedCredentials::read(headers).map_err(Rejection::Ambiguous)?;
    // A bearer token is meant for Citrix or for the callers' listeners.
    if !presented.is_for_gateway() {
        return Err(Rejection::NoSecret);
    }
    match presented.secret() {
        Some(secret) if Sha256::of(secret).matches(expected) => Ok(()),
        _ => Err(Rejection::WrongSecret),
    }
}

impl Rejection {
    /// Returns the response, and writes the audit line.
    pub(super) fn into_response(self, audited: &AuditedRequest) -> FullResponse {
        match self {
            Self::NoSecret => {
                audited.log_unauthenticated("no admin secret");
                unauthorized()
            }
            Self::WrongSecret => {
                audited.log_unauthenticated("wrong admin secret");
                let mut response = unauthorized();
                response.extensions_mut().insert(WrongSecret);
                response
            }
            Self::Ambiguous(duplicate) => {
                let failure = Failure::new(Reason::BadRequest, duplicate.to_string());
                audited.log_rejected(&failure);
                failure
                    .into_response(&audited.transaction_id)
                    .map(Full::new)
            }
        }
    }
}

fn unauthorized() -> FullResponse {
    let mut response = text(StatusCode::UNAUTHORIZED, "the admin secret is required\n");
    let challenge =
        HeaderValue::from_static("Basic realm=\"citrix-auth-proxy admin\", charset=\"UTF-8\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn checked(fields: &[(&'static str, &'static str)]) -> Result<(), Rejection> {
        let field = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        check(Some(&Sha256::of(b"secret")), &headers)
    }

    #[test]
    fn secret_is_in_one_field_of_a_known_form() {
        let key = ("x-api-key", "secret");
        let wrong_key = ("x-api-key", "wrong");
        // `:secret`, and `admin:wrong`.
        let basic = ("authorization", "Basic OnNlY3JldA==");
        let wrong_basic = ("authorization", "Basic YWRtaW46d3Jvbmc=");
        let bearer = ("authorization", "Bearer secret");
        for fields in [&[key][..], &[basic], &[key, wrong_basic], &[key, bearer]] {
            assert_eq!(checked(fields), Ok(()), "{fields:?}");
        }
        for fields in [
            &[wrong_key][..],
            &[wrong_basic],
            &[wrong_key, basic],
            &[("x-api-key", "")],
            &[("authorization", "Basic !")],
        ] {
            assert_eq!(checked(fields), Err(Rejection::WrongSecret), "{fields:?}");
        }
        for fields in [&[][..], &[bearer], &[("authorization", "secret")]] {
            assert_eq!(checked(fields), Err(Rejection::NoSecret), "{fields:?}");
        }
        for fields in [
            [key, key].as_slice(),
            &[key, wrong_key],
            &[wrong_key, key],
            &[basic, basic],
            &[basic, bearer],
            &[key, basic, wrong_basic],
        ] {
            let rejection = checked(fields);
            assert!(
                matches!(rejection, Err(Rejection::Ambiguous(_))),
                "{fields:?}: {rejection:?}"
            );
        }
    }

    #[test]
    fn every_request_is_accepted_without_a_configured_secret() {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-api-key"),
            HeaderValue::from_static("any"),
        )]);
        assert_eq!(check(None, &headers), Ok(()));
    }
}
