//! Response bodies, and the error formats of Citrix (contract §3, "Error bodies").

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(super) type Response = http::Response<Body>;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Returns a response without content; `content-length` is 0 where the status permits content.
pub(super) fn empty(status: StatusCode) -> Response {
    respond(status, Empty::new().boxed_unsync())
}

pub(super) fn respond(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// Returns a JSON response. Formats with a known order of keys are structs, the others `json!`
/// (which sorts keys).
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => full(status, JSON, bytes),
        // Only maps with non-string keys fail, and there are none.
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Returns 200 with JSON.
pub(super) fn ok(value: &Value) -> Response {
    json(StatusCode::OK, value)
}

/// Returns plain text, the error format of Monitor OData.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    full(status, TEXT, text)
}

pub(super) fn html(status: StatusCode, page: &'static str) -> Response {
    full(status, HTML, page)
}

fn full(status: StatusCode, content_type: HeaderValue, bytes: impl Into<Bytes>) -> Response {
    let response = respond(status, Full::new(bytes.into()).boxed_unsync());
    with(response, CONTENT_TYPE, content_type)
}

/// Sets a header field.
pub(super) fn with(
    mut response: Response,
    name: HeaderName,
    value: impl Into<HeaderValue>,
) -> Response {
    response.headers_mut().insert(name, value.into());
    response
}

/// Sets a header field; leaves the response unchanged if the value is invalid.
pub(super) fn with_text(response: Response, name: HeaderName, value: &str) -> Response {
    match HeaderValue::from_str(value) {
        Ok(value) => with(response, name, value),
        Err(_) => response,
    }
}

/// The standard error body, shape (a).
#[derive(Serialize)]
struct StandardError<'a> {
    r#type: String,
    detail: &'a str,
    parameters: Value,
}

/// Returns the standard error; `kind` is `{service|common}/{name}`.
pub(super) fn standard_error(
    status: StatusCode,
    kind: &str,
    detail: &str,
    parameters: Value,
) -> Response {
    let r#type = format!("https://errors-api.cloud.com/{kind}");
    json(
        status,
        &StandardError {
            r#type,
            detail,
            parameters,
        },
    )
}

/// Returns CVAD's classic 401, shape (b).
pub(super) fn cws_auth_exception(message: &str) -> Response {
    let body = serde_json::json!({ "Error": { "Message": message, "Type": "CWSAuthException" } });
    json(StatusCode::UNAUTHORIZED, &body)
}

/// CVAD's own error body, shape (c).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorData<'a> {
    error_message: &'a str,
    sdk_error_id: &'a str,
    error_type: &'a str,
    error_details: Option<&'a str>,
}

/// Returns CVAD's own error.
pub(super) fn error_data(status: StatusCode, message: &str) -> Response {
    let error_type = status.canonical_reason().unwrap_or_default();
    json(
        status,
        &ErrorData {
            error_message: message,
            sdk_error_id: "",
            error_type,
            error_details: None,
        },
    )
}

/// The API gateway's error body, shape (d).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApimError<'a> {
    status_code: u16,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    activity_id: Option<String>,
}

/// Returns an error of the API gateway.
pub(super) fn apim_error(status: StatusCode, message: &str) -> Response {
    let activity_id = Some(Uuid::new_v4().to_string());
    json(
        status,
        &ApimError {
            status_code: status.as_u16(),
            message,
            activity_id,
        },
    )
}

/// Returns 429 of the API gateway with `Retry-After`.
pub(super) fn apim_rate_limited(seconds: u64) -> Response {
    let message = format!("Rate limit is exceeded. Try again in {seconds} seconds.");
    with(apim_too_many(&message), RETRY_AFTER, seconds)
}

/// Returns 429 of the API gateway without `Retry-After`.
pub(super) fn apim_too_many(message: &str) -> Response {
    json(
        StatusCode::TOO_MANY_REQUESTS,
        &ApimError {
            status_code: 429,
            message,
            activity_id: None,
        },
    )
}

/// Rounds up to whole seconds for `Retry-After`.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Returns 403 for a customer or a region that is not the token's.
pub(super) fn not_authorized() -> Response {
    let detail = "User is not authenticated for the specified resource.";
    standard_error(
        StatusCode::FORBIDDEN,
        "common/authorization",
        detail,
        Value::Array(Vec::new()),
    )
}

/// Returns 415 with the supported type.
pub(super) fn unsupported_media_type() -> Response {
    let detail = "The content type must be application/json; charset=utf-8.";
    let kind = "common/unsupportedMediaType";
    standard_error(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        kind,
        detail,
        Value::Array(Vec::new()),
    )
}

/// Returns 400 that names the argument.
pub(super) fn invalid_argument(name: &str) -> Response {
    let parameters = serde_json::json!([{ "name": "argument", "value": name }]);
    let detail = "An argument of the request is invalid.";
    standard_error(
        StatusCode::BAD_REQUEST,
        "common/invalidArgument",
        detail,
        parameters,
    )
}

/// Response extension: the API gateway sends no transaction id (contract §3).
#[derive(Clone, Copy)]
pub(super) struct WithoutTransactionId;

/// Returns the id of an invented object: the same at every start, and distinguishable from a random
/// one.
pub(super) fn synthetic_uuid(collection: u16, index: usize) -> Uuid {
    const BASE: u128 = 0xc170_0000_0000_4000_8000_0000_0000_0000;
    Uuid::from_u128(BASE | u128::from(collection) << 96 | index as u128)
}

/// Returns [`synthetic_uuid`] in the notation of JSON.
pub(super) fn synthetic_id(collection: u16, index: usize) -> String {
    synthetic_uuid(collection, index).to_string()
}

/// Returns the standard 404.
pub(super) fn not_found() -> Response {
    let detail = "The requested resource was not found.";
    standard_error(
        StatusCode::NOT_FOUND,
        "common/notFound",
        detail,
        Value::Array(Vec::new()),
    )
}

/// Returns the standard 405 with the permitted methods.
pub(super) fn method_not_allowed(allow: &'static str) -> Response {
    let detail = "The method is not allowed for the requested resource.";
    let kind = "common/methodNotAllowed";
    let response = standard_error(
        StatusCode::METHOD_NOT_ALLOWED,
        kind,
        detail,
        Value::Array(Vec::new()),
    );
    with(response, ALLOW, HeaderValue::from_static(allow))
}

/// A body that holds a value (a slot, a permit) until its last frame is returned.
///
/// Not until it is dropped: over HTTP/2 a client can receive the end of the stream and send its
/// next request before the server drops the body.
pub(super) struct HoldingBody<T> {
    body: Body,
    held: Option<T>,
}

impl<T> HoldingBody<T> {
    /// Drops `held` at the end of the body; at once if the body is empty.
    pub(super) fn new(body: Body, held: T) -> Self {
        let held = Some(held).filter(|_| !http_body::Body::is_end_stream(&body));
        Self { body, held }
    }
}

impl<T: Unpin> http_body::Body for HoldingBody<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if self.body.is_end_stream() {
            self.held = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
