//! The two token endpoints (contract §1).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use serde::Serialize;
use serde_json::{Value, json};

use super::call::Call;
use super::faults::TokenFault;
use super::query::decode;
use super::responses::{self, Response};
use super::state::State;
use super::stats::count;
use super::tenants::{Identity, Tenant};

/// Maximum request body in bytes.
const BODY_LIMIT: usize = 64 * 1024;
/// Delay of [`TokenFault::Slow`], longer than a client's usual timeout of 15 s.
const SLOW_DELAY: Duration = Duration::from_secs(20);
const INVALID_CLIENT: &str = "Invalid client id or client secret.";

/// One of the two token endpoints.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TrustEndpoint {
    Oauth2,
    Trust,
}

/// Responds to `POST /cctrustoauth2/{root|customer}/tokens/clients` with a form.
pub(super) async fn oauth2(mut call: Call<'_>) -> Response {
    let state = call.state;
    if let Some(response) = respond_without_body(&call, TrustEndpoint::Oauth2).await {
        return response;
    }
    // The exact type: a charset is rejected (contract §1.3).
    if call
        .parts
        .headers
        .get(CONTENT_TYPE)
        .is_none_or(|value| value != "application/x-www-form-urlencoded")
    {
        let detail = "Content-Type must be set to application/x-www-form-urlencoded";
        return oauth2_error("invalid_request", detail);
    }
    let body = read(&mut call.body).await.unwrap_or_default();
    let form = parse_form(&body);
    let field = |name| form.get(name).map(String::as_str);
    if field("grant_type") != Some("client_credentials") {
        return oauth2_error(
            "unsupported_grant_type",
            "The grant type must be client_credentials.",
        );
    }
    match log_in(&call, field("client_id"), field("client_secret")) {
        Some(client) => oauth2_success(&oauth2_body(state, &client)),
        None => oauth2_error("invalid_client", INVALID_CLIENT),
    }
}

/// Responds to `POST /{root|customer}/tokens/clients` with JSON.
pub(super) async fn trust(mut call: Call<'_>) -> Response {
    let state = call.state;
    if let Some(response) = respond_without_body(&call, TrustEndpoint::Trust).await {
        return response;
    }
    if !is_json(&call.parts.headers) {
        let message = "The request entity's media type is not supported for this resource.";
        return responses::json(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &json!({ "message": message }),
        );
    }
    let body = read(&mut call.body).await.unwrap_or_default();
    let Ok(Value::Object(fields)) = serde_json::from_slice(&body) else {
        let state = json!({ "credentials": ["An error has occurred."] });
        let body = json!({ "message": "The request is invalid.", "modelState": state });
        return responses::json(StatusCode::BAD_REQUEST, &body);
    };
    // Citrix's samples write the keys in two ways (contract §1.1).
    let field = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))?
            .1
            .as_str()
    };
    match log_in(&call, field("clientId"), field("clientSecret")) {
        Some(client) => trust_success(&trust_body(state, &client)),
        // An assumption: Citrix does not document this response (contract §10, item 4).
        None => responses::json(
            StatusCode::UNAUTHORIZED,
            &json!({ "message": INVALID_CLIENT }),
        ),
    }
}

/// Returns a response that does not depend on the request body: wrong path, wrong method, rate
/// limit or fault.
async fn respond_without_body(call: &Call<'_>, endpoint: TrustEndpoint) -> Option<Response> {
    if !call.rest.is_empty() {
        return Some(responses::not_found());
    }
    if !call.is_post() {
        return Some(responses::method_not_allowed("POST"));
    }
    count(&call.state.counters.token_requests);
    if let Some(rate) = call.state.limits.logins
        && let Err(wait) = call.state.logins.acquire(rate)
    {
        return Some(responses::apim_rate_limited(responses::whole_seconds(wait)));
    }
    let fault = call.state.token_fault()?;
    if fault == TokenFault::Slow {
        tokio::time::sleep(SLOW_DELAY).await;
    }
    faulty_response(call.state, fault, endpoint)
}

/// Returns the response of a fault that replaces all others.
fn faulty_response(state: &State, fault: TokenFault, endpoint: TrustEndpoint) -> Option<Response> {
    let success = |body: &str| match endpoint {
        TrustEndpoint::Oauth2 => oauth2_success(body),
        TrustEndpoint::Trust => trust_success(body),
    };
    let kind = "common/rateLimitExceeded";
    Some(match fault {
        TokenFault::RateLimited => responses::apim_rate_limited(1),
        TokenFault::RateLimitedBody => responses::standard_error(
            StatusCode::TOO_MANY_REQUESTS,
            kind,
            "Too many requests.",
            json!([{ "name": "retryDelay", "value": "1" }]),
        ),
        TokenFault::ServerError => {
            responses::apim_error(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
        }
        TokenFault::Html => responses::html(
            StatusCode::OK,
            "<!DOCTYPE html><html><body>Please sign in to the network.</body></html>",
        ),
        TokenFault::Empty => success(""),
        TokenFault::Truncated => {
            let first = state.first();
            let client_id = first
                .customer
                .clients
                .first()
                .map_or("", |client| &client.id)
                .into();
            let client = Identity {
                tenant: Arc::clone(first),
                client_id,
            };
            let body = match endpoint {
                TrustEndpoint::Oauth2 => oauth2_body(state, &client),
                TrustEndpoint::Trust => trust_body(state, &client),
            };
            success(&body[..body.len() / 2])
        }
        TokenFault::ErrorIn200 => success(&error_body(
            "server_error",
            "The token could not be issued.",
        )),
        TokenFault::Slow
        | TokenFault::ExpiresInNumber
        | TokenFault::ExpiresInMissing
        | TokenFault::ExpiresInZero => return None,
    })
}

/// Formats the body like production does: indented, with surrounding white space (contract §1.1).
fn oauth2_body(state: &State, client: &Identity) -> String {
    let token = issue(state, client);
    let seconds = state.tokens.lifetime().as_secs();
    let expires_in = match state.token_fault() {
        Some(TokenFault::ExpiresInMissing) => String::new(),
        Some(TokenFault::ExpiresInNumber) => format!(",\n  \"expires_in\": {seconds}"),
        Some(TokenFault::ExpiresInZero) => ",\n  \"expires_in\": \"0\"".to_owned(),
        _ => format!(",\n  \"expires_in\": \"{seconds}\""),
    };
    format!(
        "\n{{\n  \"token_type\": \"bearer\",\n  \"access_token\": \"{token}\"{expires_in}\n}}\n  "
    )
}

/// The body of the JSON endpoint, in the order of Citrix's sample.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrustTokenBody<'a> {
    principal: &'a str,
    subject: &'a str,
    token: String,
    open_id_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<Value>,
}

fn trust_body(state: &State, client: &Identity) -> String {
    let seconds = state.tokens.lifetime().as_secs();
    let expires_in = match state.token_fault() {
        Some(TokenFault::ExpiresInMissing) => None,
        Some(TokenFault::ExpiresInNumber) => Some(json!(seconds.to_string())),
        Some(TokenFault::ExpiresInZero) => Some(json!(0)),
        _ => Some(json!(seconds)),
    };
    let token = issue(state, client);
    // No service accepts an id token.
    let open_id_token = token.split('.').take(2).collect::<Vec<_>>().join(".") + ".aWQ";
    let body = TrustTokenBody {
        principal: &client.client_id,
        subject: &client.client_id,
        token,
        open_id_token,
        expires_in,
    };
    // Strings and numbers always serialize.
    serde_json::to_string(&body).unwrap_or_default()
}

fn issue(state: &State, client: &Identity) -> String {
    count(&state.counters.tokens_issued);
    client.tenant.stats().tokens_issued += 1;
    state.tokens.issue(client.clone(), state.now())
}

fn oauth2_success(body: &str) -> Response {
    let mut response = responses::text(StatusCode::OK, Bytes::copy_from_slice(body.as_bytes()));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
        (PRAGMA, "no-cache"),
        (ACCESS_CONTROL_EXPOSE_HEADERS, "X-Cws-TransactionId"),
        (HeaderName::from_static("x-cc-localgeo"), "US"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn trust_success(body: &str) -> Response {
    let mut response = responses::text(StatusCode::OK, Bytes::copy_from_slice(body.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn error_body(error: &str, description: &str) -> String {
    json!({ "error": error, "error_description": description }).to_string()
}

/// Returns 400 with Citrix's reason phrase over HTTP/1.1 (contract §1.3).
fn oauth2_error(error: &str, description: &str) -> Response {
    let mut response = oauth2_success(&error_body(error, description));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
        .extensions_mut()
        .insert(ReasonPhrase::from_static(b"Invalid request"));
    response
}

/// Returns the client with these credentials if the customer in the path is its own or `root`.
/// Citrix does not document the response to a foreign customer, which is assumed to equal that to
/// wrong credentials.
fn log_in(call: &Call<'_>, id: Option<&str>, secret: Option<&str>) -> Option<Identity> {
    let (path_customer, id, secret) = (call.customer?, id?, secret.unwrap_or_default());
    let has_client =
        |tenant: &&Arc<Tenant>| tenant.customer.clients.iter().any(|client| client.id == id);
    let tenant = call.state.tenants().find(has_client)?;
    tenant.stats().token_requests += 1;
    let own_customer =
        path_customer.eq_ignore_ascii_case("root") || tenant.has_id(path_customer.as_bytes());
    let tenant = Arc::clone(tenant);
    (own_customer && tenant.accepts_secret(id, secret)).then(|| Identity {
        tenant,
        client_id: id.into(),
    })
}

/// Returns `true` if `Content-Type` is JSON without a charset or with UTF-8.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut parts = value
        .split(';')
        .map(|part| part.trim().to_ascii_lowercase());
    parts
        .next()
        .is_some_and(|media| media == "application/json")
        && parts.all(|parameter| match parameter.strip_prefix("charset=") {
            Some(charset) => charset.trim_matches('"') == "utf-8",
            None => true,
        })
}

async fn read(body: &mut Incoming) -> Option<Bytes> {
    Limited::new(body, BODY_LIMIT)
        .collect()
        .await
        .ok()
        .map(http_body_util::Collected::to_bytes)
}

fn parse_form(body: &[u8]) -> HashMap<String, String> {
    let body = String::from_utf8_lossy(body);
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}
