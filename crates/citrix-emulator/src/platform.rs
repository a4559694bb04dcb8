//! The platform services system log and resource locations (contract §4).

use serde_json::{Value, json};

use super::call::Call;
use super::query::{continuation_offset, continuation_token};
use super::responses::{self, Response};

const RECORDS: usize = 430;
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;

/// Responds to `GET /systemlog/records?Limit=…&ContinuationToken=…`.
pub(super) fn system_log(call: &Call<'_>) -> Response {
    if !call.is_get() {
        return responses::method_not_allowed("GET, HEAD");
    }
    if !matches!(call.rest[..], [records] if records.eq_ignore_ascii_case("records")) {
        return responses::not_found();
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
        return responses::invalid_argument("Limit");
    }
    let Some(start) = start else {
        return responses::invalid_argument("ContinuationToken");
    };
    let end = start.saturating_add(limit).min(RECORDS);
    let names = if call.state.system_log_old_names {
        in_pascal_case
    } else {
        std::convert::identity
    };
    let items: Vec<_> = (start..end)
        .map(|index| names(record(call.tenant().id(), index)))
        .collect();
    responses::ok(&names(json!({
        "count": items.len(),
        "items": items,
        "estimatedTotalItems": RECORDS,
        "continuationToken": (end < RECORDS).then(|| continuation_token("records", end)),
    })))
}

/// Returns an object with the member names in the notation that the system log had first.
fn in_pascal_case(object: Value) -> Value {
    let Value::Object(members) = object else {
        return object;
    };
    let pascal = |name: String| name[..1].to_ascii_uppercase() + &name[1..];
    members
        .into_iter()
        .map(|(name, value)| (pascal(name), value))
        .collect()
}

fn record(customer: &str, index: usize) -> Value {
    json!({
        "recordId": responses::synthetic_id(4, index),
        "utcTimestamp": format!("2025-01-15T{:02}:{:02}:00.0000000Z", index / 60 % 24, index % 60),
        "customerId": customer,
        "eventType": "delegatedadministration:administrator/update",
        "targetDisplayName": format!("Administrator {index}"),
        "targetEmail": format!("admin{index}@acme.example"),
        "targetType": "administrator",
        "actorDisplayName": "emulator",
        "actorType": "api-client",
        "message": { "en-US": format!("Changed the access of administrator {index}") },
    })
}

/// Responds to `GET resourcelocations[/{id}]` on the API gateway and on the classic host.
pub(super) fn resource_locations(call: &Call<'_>) -> Response {
    if !call.is_get() {
        return responses::method_not_allowed("GET, HEAD");
    }
    let locations = ["Datacenter Fürth", "Datacenter Ost", "Cloud West"]
        .iter()
        .enumerate();
    let mut locations = locations.map(|(index, name)| {
        json!({
            "id": responses::synthetic_id(5, index),
            "name": name,
            "internalOnly": false,
            "readOnly": false,
            "timeZone": "GMT Standard Time",
        })
    });
    match call.rest[..] {
        [] | [""] => responses::ok(&json!({ "items": locations.collect::<Vec<_>>() })),
        [id] => match locations.find(|location| location["id"] == id) {
            Some(location) => responses::ok(&location),
            None => responses::not_found(),
        },
        _ => responses::not_found(),
    }
}
