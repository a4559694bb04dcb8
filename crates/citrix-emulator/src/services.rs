//! Services that check one detail before a canned response, and retired addresses.

use http::StatusCode;
use http::header::{ACCEPT, HeaderName, LOCATION, RETRY_AFTER};
use serde_json::json;

use super::call::Call;
use super::canned::{self, ADM, APP_LAYERING, ENDPOINT_MANAGEMENT, SESSION_RECORDING};
use super::fault_responses::rfc3339;
use super::responses::{self, Response};
use super::stats::count;

/// Responds to `POST /resourceprovider/{customer}/site/activation?customerId={customer}`: 202 while
/// the site thaws, 200 if it is active.
pub(super) fn activation(call: &Call<'_>) -> Response {
    if !call.rest.is_empty() {
        return responses::not_found();
    }
    if !call.is_post() {
        return responses::method_not_allowed("POST");
    }
    let status = if call.tenant().activate() {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    responses::empty(status)
}

/// Responds to `/api/site`, and to `/api/recordings`, which requires `SiteId` and `ServerId`.
pub(super) fn session_recording(call: &Call<'_>) -> Response {
    let is_recordings = call.prefix().to_ascii_lowercase().ends_with("recordings");
    let missing = ["SiteId", "ServerId"]
        .into_iter()
        .find(|name| !call.parts.headers.contains_key(*name));
    match missing {
        Some(name) if is_recordings => responses::invalid_argument(name),
        _ => canned::respond(call, SESSION_RECORDING),
    }
}

/// Responds as App Layering: preview version only; a task with `?async=true`.
pub(super) fn app_layering(call: &Call<'_>) -> Response {
    let accept = call
        .parts
        .headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    let mut parameters = accept.split(';').skip(1).map(str::trim);
    if !parameters.any(|parameter| parameter.eq_ignore_ascii_case("version=preview")) {
        let detail = "The requested version is not acceptable.";
        let kind = "common/notAcceptable";
        return responses::standard_error(StatusCode::NOT_ACCEPTABLE, kind, detail, json!([]));
    }
    if !call.is_get() && call.query().is_true("async") {
        let location = format!("{}/Tasks/1", call.link_base());
        return responses::with_text(responses::empty(StatusCode::ACCEPTED), LOCATION, &location);
    }
    canned::respond(call, APP_LAYERING)
}

/// Responds as NetScaler Console, which requires `isCloud: true`.
pub(super) fn adm(call: &Call<'_>) -> Response {
    if call
        .parts
        .headers
        .get("isCloud")
        .is_some_and(|value| value == "true")
    {
        return canned::respond(call, ADM);
    }
    let message =
        json!({ "errorcode": 1, "message": "The header isCloud is missing.", "severity": "ERROR" });
    responses::json(StatusCode::BAD_REQUEST, &message)
}

/// Responds as Endpoint Management reporting: the rate limit is in its own header fields, and
/// `Retry-After` is an RFC 3339 date (contract §4).
pub(super) fn endpoint_management(call: &Call<'_>) -> Response {
    let rate = call.state.limits.endpoint_management;
    let (response, remaining) = match call.tenant().endpoint_management.acquire(rate) {
        Ok(remaining) => (canned::respond(call, ENDPOINT_MANAGEMENT), remaining),
        Err(wait) => {
            let kind = "common/rateLimitExceeded";
            let response = responses::standard_error(
                StatusCode::TOO_MANY_REQUESTS,
                kind,
                "Too many requests.",
                json!([]),
            );
            let date = rfc3339(call.state.now(), responses::whole_seconds(wait));
            (responses::with_text(response, RETRY_AFTER, &date), 0)
        }
    };
    let response = responses::with(
        response,
        HeaderName::from_static("citrix-ratelimit-limit"),
        rate.count,
    );
    responses::with(
        response,
        HeaderName::from_static("citrix-ratelimit-remaining"),
        remaining,
    )
}

/// Returns 410 for a retired address. Citrix does not document its response.
pub(super) fn retired(call: &Call<'_>) -> Response {
    count(&call.state.counters.retired);
    responses::text(
        StatusCode::GONE,
        "The API at this address has been retired.",
    )
}
