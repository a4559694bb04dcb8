//! The smaller services: system log, resource locations, service states, access security, app configuration
//! (contract 4).

use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::answers::{self, Response};
use super::query::{continuation_offset, continuation_token};
use super::routes::Call;
use super::trust::is_json;

const RECORDS: usize = 430;
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;

/// `GET /systemlog/records?Limit=…&ContinuationToken=…`.
pub(super) fn system_log(call: &Call<'_>) -> Response {
    if !call.is_get() {
        return answers::method_not_allowed("GET, HEAD");
    }
    if !matches!(call.rest[..], [records] if records.eq_ignore_ascii_case("records")) {
        return answers::not_found();
    }
    let query = call.query();
    let limit = match query.number("Limit") {
        Ok(limit) => limit.unwrap_or(DEFAULT_LIMIT),
        Err(_) => 0,
    };
    let start = match query.get("ContinuationToken") {
        None => Some(0),
        Some(token) => continuation_offset("records", &token),
    };
    if !(1..=MAX_LIMIT).contains(&limit) {
        return invalid_argument("Limit");
    }
    let Some(start) = start else { return invalid_argument("ContinuationToken") };
    let end = start.saturating_add(limit).min(RECORDS);
    let items: Vec<_> = (start..end).map(|index| record(&call.state.customer_id, index)).collect();
    answers::ok(&json!({
        "Count": items.len(),
        "Items": items,
        "EstimatedTotalItems": RECORDS,
        "ContinuationToken": (end < RECORDS).then(|| continuation_token("records", end)),
    }))
}

fn invalid_argument(name: &str) -> Response {
    let parameters = json!([{ "name": "argument", "value": name }]);
    let detail = "An argument of the request is invalid.";
    answers::standard_error(StatusCode::BAD_REQUEST, "common/invalidArgument", detail, parameters)
}

fn record(customer: &str, index: usize) -> Value {
    json!({
        "RecordId": answers::synthetic_id(4, index),
        "UtcTimestamp": format!("2025-01-15T{:02}:{:02}:00.0000000Z", index / 60 % 24, index % 60),
        "CustomerId": customer,
        "EventType": "delegatedadministration:administrator/update",
        "TargetDisplayName": format!("Administrator {index}"),
        "TargetEmail": format!("admin{index}@acme.example"),
        "TargetType": "administrator",
        "ActorDisplayName": "emulator",
        "ActorType": "api-client",
        "Message": { "en-US": format!("Changed the access of administrator {index}") },
    })
}

/// `GET resourcelocations[/{id}]`, on the API gateway and on the classic host.
pub(super) fn resource_locations(call: &Call<'_>) -> Response {
    if !call.is_get() {
        return answers::method_not_allowed("GET, HEAD");
    }
    let locations = ["Datacenter Fürth", "Datacenter Ost", "Cloud West"].iter().enumerate();
    let mut locations = locations.map(|(index, name)| {
        json!({
            "id": answers::synthetic_id(5, index),
            "name": name,
            "internalOnly": false,
            "readOnly": false,
            "timeZone": "GMT Standard Time",
        })
    });
    match call.rest[..] {
        [] | [""] => answers::ok(&json!({ "items": locations.collect::<Vec<_>>() })),
        [id] => match locations.find(|location| location["id"] == id) {
            Some(location) => answers::ok(&location),
            None => answers::not_found(),
        },
        _ => answers::not_found(),
    }
}

/// `GET /{customer}/serviceStates`: what the customer is entitled to.
pub(super) fn service_states(call: &Call<'_>) -> Response {
    match call.rest[..] {
        [] | [""] if call.is_get() => {
            let state = |name| json!({ "serviceName": name, "state": "Production", "type": "Production" });
            answers::ok(&json!({ "items": [state("xendesktop"), state("platform"), state("wem")] }))
        }
        [] | [""] => answers::method_not_allowed("GET, HEAD"),
        _ => answers::not_found(),
    }
}

/// `/accessSecurity/…`: a list for who reads, an echo of success for who writes JSON.
pub(super) fn access_security(call: &Call<'_>) -> Response {
    match call.parts.method {
        _ if call.is_get() => answers::ok(&json!({ "items": [], "total": 0 })),
        Method::DELETE => answers::empty(StatusCode::NO_CONTENT),
        _ if !is_json(&call.parts.headers) => {
            let detail = "The content type must be application/json; charset=utf-8.";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            answers::standard_error(status, "common/unsupportedMediaType", detail, json!([]))
        }
        Method::POST => answers::json(StatusCode::CREATED, &json!({ "id": Uuid::new_v4().to_string() })),
        _ => answers::empty(StatusCode::NO_CONTENT),
    }
}

/// `/aca/…` (Global App Configuration), one of the few that take the standard scheme (contract 2).
pub(super) fn app_configuration(call: &Call<'_>) -> Response {
    if call.is_get() {
        answers::ok(&json!({ "items": [], "count": 0, "nextPageToken": null }))
    } else {
        answers::method_not_allowed("GET, HEAD")
    }
}
