//! Services with one habit of their own in front of a small answer, and the addresses that are no more.

use http::StatusCode;
use http::header::{ACCEPT, HeaderName, LOCATION, RETRY_AFTER};
use serde_json::json;

use super::call::Call;
use super::canned::{self, ADM, APP_LAYERING, ENDPOINT_MANAGEMENT, SESSION_RECORDING};
use super::fault_responses::rfc3339;
use super::responses::{self, Response};
use super::stats::count;

/// `POST /resourceprovider/{customer}/site/activation?customerId={customer}`: 202 while the site thaws, 200 when
/// it is awake.
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

/// `/api/site`, and `/api/recordings`, which wants to know of which site and server.
pub(super) fn session_recording(call: &Call<'_>) -> Response {
    let of_a_site = call.prefix().to_ascii_lowercase().ends_with("recordings");
    let missing = ["SiteId", "ServerId"]
        .into_iter()
        .find(|name| !call.parts.headers.contains_key(*name));
    match missing {
        Some(name) if of_a_site => responses::invalid_argument(name),
        _ => canned::respond(call, SESSION_RECORDING),
    }
}

/// App Layering, in its preview version only; with `?async=true` a task.
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

/// NetScaler Console, which wants to be told that it is in the cloud.
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

/// Endpoint Management reporting: five requests a minute, told in headers of its own, and a `Retry-After` that is
/// an RFC 3339 date (contract §4).
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

/// An address that Citrix has retired. Citrix does not say what it answers there; a plain 410 is ours.
pub(super) fn retired(call: &Call<'_>) -> Response {
    count(&call.state.counters.retired);
    responses::text(
        StatusCode::GONE,
        "The API at this address has been retired.",
    )
}
