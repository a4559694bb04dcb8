//! Pages of machines, with a configurable minimum size per machine.

use http::StatusCode;
use serde_json::{Value, json};

use crate::query::{Query, continuation_offset, continuation_token};
use crate::responses::{self, Response};
use crate::state::State;

const MACHINES: usize = 2345;
const DEFAULT_LIMIT: usize = 250;
const MAX_LIMIT: usize = 1000;
/// Text that fills a machine up. It is the customer's data, so a proxy must not rewrite the link in
/// it.
const FILLING: &str =
    "A note that an admin left, see https://api.cloud.com/cvad/manage/Machines for more. ";

/// Responds to `GET Machines?limit=…&continuationToken=…`.
pub(super) fn page(state: &State, query: Query<'_>) -> Response {
    let limit = match query.number("limit") {
        Ok(limit) => limit.unwrap_or(DEFAULT_LIMIT),
        Err(_) => 0,
    };
    if !(1..=MAX_LIMIT).contains(&limit) {
        return responses::error_data(StatusCode::BAD_REQUEST, "The limit must be from 1 to 1000.");
    }
    let start = match query.get("continuationToken") {
        None => Some(0),
        Some(token) => continuation_offset("machines", &token),
    };
    let Some(start) = start else {
        return responses::error_data(
            StatusCode::BAD_REQUEST,
            "The continuation token is invalid.",
        );
    };
    let end = start.saturating_add(limit).min(MACHINES);
    let items: Vec<_> = (start..end).map(|index| machine(state, index)).collect();
    let next = (end < MACHINES).then(|| continuation_token("machines", end));
    responses::ok(&json!({ "Items": items, "ContinuationToken": next }))
}

/// Responds to `POST Machines/$search` with the same machines for every search.
pub(super) fn found(state: &State) -> Response {
    let items: Vec<_> = (0..10).map(|index| machine(state, index)).collect();
    responses::ok(&json!({ "Items": items, "ContinuationToken": null, "TotalItems": items.len() }))
}

/// Responds to `GET Machines/{id}`.
pub(super) fn one(state: &State, id: &str) -> Response {
    match (0..MACHINES).find(|&index| machine_id(index).eq_ignore_ascii_case(id)) {
        Some(index) => responses::ok(&machine(state, index)),
        None => responses::error_data(StatusCode::NOT_FOUND, "The machine does not exist."),
    }
}

fn machine_id(index: usize) -> String {
    responses::synthetic_id(1, index)
}

fn machine(state: &State, index: usize) -> Value {
    let mut machine = json!({
        "Id": machine_id(index),
        "Uid": index + 1,
        "Name": format!("ACME\\VDA-{index:04}"),
        "DnsName": format!("vda-{index:04}.acme.example"),
        "AgentVersion": "2402.0.0.0",
        "AllocationType": "Random",
        "AssociatedUsers": [],
        "DeliveryGroup": { "Id": responses::synthetic_id(2, index % 7), "Name": format!("Group {}", index % 7) },
        "FaultState": if index % 50 == 49 { "Unregistered" } else { "None" },
        "InMaintenanceMode": index % 20 == 19,
        "IPAddress": format!("10.0.{}.{}", index / 250, index % 250 + 1),
        "OSType": "Windows 2022",
        "PowerState": "On",
        "ProvisioningType": "MCS",
        "RegistrationState": if index % 50 == 49 { "Unregistered" } else { "Registered" },
        "SessionCount": index % 5,
        "SessionSupport": "MultiSession",
        "Zone": { "Name": "Zone / Fürth" },
    });
    if state.machine_bytes > 0 {
        let missing = state
            .machine_bytes
            .saturating_sub(machine.to_string().len());
        machine["Description"] = FILLING
            .chars()
            .cycle()
            .take(missing)
            .collect::<String>()
            .into();
    }
    machine
}
