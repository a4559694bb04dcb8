//! Secure Private Access: a rate limit, and redirects to the region of the customer's data
//! (contract §1.6 and §4).

use http::header::LOCATION;
use http::{Method, StatusCode};
use serde_json::json;
use uuid::Uuid;

use super::call::Call;
use super::faults::RedirectTarget;
use super::responses::{self, Response};
use super::trust::is_json;

/// First path segment of redirected requests in the other region.
const REGION_PATH: &str = "feature-data_accesssecurity";

/// Responds to `/accessSecurity/…`: GET returns an empty list, changes with JSON succeed without an
/// effect.
pub(super) fn respond(call: &Call<'_>) -> Response {
    if let Err(wait) = call
        .tenant()
        .access_security
        .acquire(call.state.limits.access_security)
    {
        return responses::apim_rate_limited(responses::whole_seconds(wait));
    }
    if let Some(base) = redirect_base(call) {
        return redirect(call, &base);
    }
    match call.parts.method {
        _ if call.is_get() => responses::ok(&json!({ "items": [], "total": 0 })),
        Method::DELETE => responses::empty(StatusCode::NO_CONTENT),
        _ if !is_json(&call.parts.headers) => responses::unsupported_media_type(),
        Method::POST => responses::json(
            StatusCode::CREATED,
            &json!({ "id": Uuid::new_v4().to_string() }),
        ),
        _ => responses::empty(StatusCode::NO_CONTENT),
    }
}

/// Returns the base URL to redirect to, or `None` if the data is in this region. The other region
/// never redirects, nor does [`REGION_PATH`].
fn redirect_base(call: &Call<'_>) -> Option<String> {
    let is_region_path = call
        .prefix()
        .trim_start_matches('/')
        .eq_ignore_ascii_case(REGION_PATH);
    if call.origin.other_region || is_region_path {
        return None;
    }
    let state = call.state;
    let redirect = state.faults().region_redirect.clone()?;
    Some(match redirect {
        RedirectTarget::To(base) => base,
        RedirectTarget::Other => {
            format!(
                "{}/{REGION_PATH}",
                state.region_url.as_ref().unwrap_or(&state.base_url)
            )
        }
    })
}

/// Returns 307 with another host and another first path segment.
fn redirect(call: &Call<'_>, base: &str) -> Response {
    let query = call
        .parts
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let location = format!("{base}/{}{query}", call.rest.join("/"));
    let parameters = json!([
        { "name": "Citrix-CustomerId", "value": call.tenant().id() },
        { "name": "customerDataRegion", "value": "eu" },
        { "name": "currentAPIMRegion", "value": "us" },
    ]);
    let detail = "The customer's data is in another region.";
    let response = responses::standard_error(
        StatusCode::TEMPORARY_REDIRECT,
        "common/Redirect",
        detail,
        parameters,
    );
    responses::with_text(response, LOCATION, &location)
}
