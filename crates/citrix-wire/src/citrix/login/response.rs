//! Responses of token endpoints, byte for byte like Citrix's (contract §1.1, §1.3): official
//! clients require one lifetime to be a string and the other a number.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::super::TokenDialect;
use super::request::InvalidRequest;

/// Description of a wrong id and of a wrong secret.
const INVALID_CLIENT: &str = "Invalid client id or client secret.";
/// Reason phrase of the OAuth 2.0 endpoint's 400 responses over HTTP/1.1 (contract §1.3).
pub const BAD_REQUEST_PHRASE: &[u8] = b"Invalid request";
const WRONG_TYPE: &str = "Content-Type must be set to application/x-www-form-urlencoded";

/// The fields in the order of Citrix's sample.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrustToken<'a> {
    principal: &'a str,
    subject: &'a str,
    token: &'a str,
    open_id_token: String,
    expires_in: u64,
}

/// Returns a response with a token for `principal` that is valid for `seconds`.
pub fn token(dialect: TokenDialect, token: &str, principal: &str, seconds: u64) -> Response<Bytes> {
    match dialect {
        // Indented, with surrounding spaces, like Citrix's response.
        TokenDialect::Oauth2 => oauth2(
            StatusCode::OK,
            format!(
                "\n{{\n  \"token_type\": \"bearer\",\n  \"access_token\": \"{token}\",\n  \
                 \"expires_in\": \"{seconds}\"\n}}\n  "
            ),
        ),
        TokenDialect::Trust => {
            // Clients may only decode it: the signature `aWQ` is invalid.
            let open_id_token = token.split('.').take(2).collect::<Vec<_>>().join(".") + ".aWQ";
            let (subject, expires_in) = (principal, seconds);
            let body = TrustToken {
                principal,
                subject,
                token,
                open_id_token,
                expires_in,
            };
            // Strings and numbers always serialize.
            trust(
                StatusCode::OK,
                serde_json::to_string(&body).unwrap_or_default(),
            )
        }
    }
}

/// Returns the response to a wrong id or secret. The trust endpoint's is not documented; 401 is
/// assumed (contract §1.3).
pub fn invalid_client(dialect: TokenDialect) -> Response<Bytes> {
    match dialect {
        TokenDialect::Oauth2 => oauth2_error("invalid_client", INVALID_CLIENT),
        TokenDialect::Trust => trust_message(StatusCode::UNAUTHORIZED, INVALID_CLIENT),
    }
}

/// Returns the response to an invalid token request.
pub fn invalid_request(dialect: TokenDialect, error: InvalidRequest) -> Response<Bytes> {
    match (dialect, error) {
        (TokenDialect::Oauth2, InvalidRequest::MediaType) => {
            oauth2_error("invalid_request", WRONG_TYPE)
        }
        (TokenDialect::Oauth2, InvalidRequest::GrantType) => oauth2_error(
            "unsupported_grant_type",
            "The grant type must be client_credentials.",
        ),
        (TokenDialect::Oauth2, InvalidRequest::Malformed) => {
            oauth2_error("invalid_request", "A parameter is repeated.")
        }
        (TokenDialect::Trust, InvalidRequest::MediaType) => trust_message(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The request entity's media type is not supported for this resource.",
        ),
        (TokenDialect::Trust, InvalidRequest::GrantType | InvalidRequest::Malformed) => {
            let state = json!({ "credentials": ["An error has occurred."] });
            let body = json!({ "message": "The request is invalid.", "modelState": state });
            trust(StatusCode::BAD_REQUEST, body.to_string())
        }
    }
}

/// Returns the response to a method other than POST.
pub fn method_not_allowed(method: &Method) -> Response<Bytes> {
    let message = format!("The requested resource does not support http method '{method}'.");
    let mut response = trust_message(StatusCode::METHOD_NOT_ALLOWED, &message);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

fn oauth2_error(error: &str, description: &str) -> Response<Bytes> {
    let body = json!({ "error": error, "error_description": description });
    oauth2(StatusCode::BAD_REQUEST, body.to_string())
}

fn oauth2(status: StatusCode, body: String) -> Response<Bytes> {
    // Without Citrix's `Access-Control-Expose-Headers`: pages of other origins must not read the
    // response.
    let fields = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
        (PRAGMA, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    response(status, &fields, body)
}

fn trust(status: StatusCode, body: String) -> Response<Bytes> {
    let fields = [
        (CONTENT_TYPE, "application/json; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
    ];
    response(status, &fields, body)
}

fn trust_message(status: StatusCode, message: &str) -> Response<Bytes> {
    trust(status, json!({ "message": message }).to_string())
}

fn response(
    status: StatusCode,
    fields: &[(HeaderName, &'static str)],
    body: String,
) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    for (name, value) in fields {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
