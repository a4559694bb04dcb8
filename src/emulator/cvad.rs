//! CVAD (DaaS): who am I, machines by the page, async jobs (contract 4 and 5).

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::answers::{self, Response};
use super::query::{continuation_offset, continuation_token};
use super::routes::Call;
use super::state::State;
use super::stats::count;
use super::trust::is_json;
use crate::citrix::headers::CITRIX_INSTANCE_ID;

const MACHINES: usize = 2345;
const DEFAULT_LIMIT: usize = 250;
const MAX_LIMIT: usize = 1000;

/// Anything below `/cvad/manage`, or below the site of a direct address.
pub(super) async fn answer(mut call: Call<'_>) -> Response {
    let first = call.rest.first().copied().unwrap_or_default().to_ascii_lowercase();
    if let Some(refusal) = instance_refusal(call.state, &call.parts.headers, &first) {
        return refusal;
    }
    // What is in it does not matter, but a body left unread would cost the caller the connection.
    let mut length = 0;
    while let Some(Ok(frame)) = call.body.frame().await {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
    if !call.is_get() && length > 0 && !is_json(&call.parts.headers) {
        let detail = "The content type must be application/json.";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return answers::standard_error(status, "common/unsupportedMediaType", detail, json!([]));
    }
    match (&first[..], &call.rest[..]) {
        ("me", [_]) => me(&call),
        (_, rest) if !call.is_get() => change(&call, rest),
        ("sites", [_]) => answers::ok(&json!({ "Items": [site(call.state)] })),
        ("machines", [_]) => machines(&call),
        ("machines", [_, id]) => one_machine(id),
        ("jobs", [_, id]) => job(call.state, id),
        ("jobs", [_, id, results]) if results.eq_ignore_ascii_case("results") => job_results(call.state, id),
        _ => answers::error_data(StatusCode::NOT_FOUND, "The requested object does not exist."),
    }
}

/// All but a few operations are about a site. A wrong one is refused; a missing one is counted and forgiven, as
/// what the real service then does is not documented.
fn instance_refusal(state: &State, headers: &HeaderMap, first: &str) -> Option<Response> {
    match headers.get(CITRIX_INSTANCE_ID) {
        Some(site) if !site.as_bytes().eq_ignore_ascii_case(state.site_id.as_bytes()) => {
            Some(answers::error_data(StatusCode::BAD_REQUEST, "The site does not exist."))
        }
        None if !matches!(first, "me" | "sites" | "about") => {
            count(&state.counters.missing_instance_id);
            None
        }
        _ => None,
    }
}

/// `GET me`: where every client learns the site id.
pub(super) fn me(call: &Call<'_>) -> Response {
    let state = call.state;
    answers::ok(&json!({
        "UserId": state.client_id,
        "DisplayName": format!("{} (emulator)", state.client_id),
        "IsCspCustomer": false,
        "Customers": [{
            "Id": state.customer_id,
            "Name": state.customer_id,
            "Sites": [site(state)],
        }],
    }))
}

fn site(state: &State) -> Value {
    json!({ "Id": state.site_id, "Name": "cloudxdsite" })
}

/// With `?async=true` it starts a job; `$search` finds; the rest is done at once.
fn change(call: &Call<'_>, rest: &[&str]) -> Response {
    let state = call.state;
    let kind = rest.last().copied().unwrap_or_default();
    if call.query().get("async").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        let action = rest.iter().position(|segment| segment.starts_with('$')).unwrap_or(rest.len());
        let id = state.jobs.start(kind.to_owned(), rest[..action].join("/"));
        let location = format!("{}/cvad/manage/Jobs/{id}", state.base_url);
        return answers::with_text(answers::empty(StatusCode::ACCEPTED), LOCATION, &location);
    }
    if kind.eq_ignore_ascii_case("$search") {
        let items: Vec<_> = (0..10).map(machine).collect();
        return answers::ok(&json!({ "Items": items, "ContinuationToken": null, "TotalItems": items.len() }));
    }
    answers::empty(StatusCode::NO_CONTENT)
}

/// `GET Machines?limit=…&continuationToken=…`.
fn machines(call: &Call<'_>) -> Response {
    let query = call.query();
    let limit = match query.number("limit") {
        Ok(limit) => limit.unwrap_or(DEFAULT_LIMIT),
        Err(_) => 0,
    };
    if !(1..=MAX_LIMIT).contains(&limit) {
        return answers::error_data(StatusCode::BAD_REQUEST, "The limit must be from 1 to 1000.");
    }
    let start = match query.get("continuationToken") {
        None => Some(0),
        Some(token) => continuation_offset("machines", &token),
    };
    let Some(start) = start else {
        return answers::error_data(StatusCode::BAD_REQUEST, "The continuation token is invalid.");
    };
    let end = start.saturating_add(limit).min(MACHINES);
    let items: Vec<_> = (start..end).map(machine).collect();
    let next = (end < MACHINES).then(|| continuation_token("machines", end));
    answers::ok(&json!({ "Items": items, "ContinuationToken": next }))
}

fn one_machine(id: &str) -> Response {
    match (0..MACHINES).find(|&index| machine_id(index).eq_ignore_ascii_case(id)) {
        Some(index) => answers::ok(&machine(index)),
        None => answers::error_data(StatusCode::NOT_FOUND, "The machine does not exist."),
    }
}

fn machine_id(index: usize) -> String {
    answers::synthetic_id(1, index)
}

fn machine(index: usize) -> Value {
    json!({
        "Id": machine_id(index),
        "Uid": index + 1,
        "Name": format!("ACME\\VDA-{index:04}"),
        "DnsName": format!("vda-{index:04}.acme.example"),
        "AgentVersion": "2402.0.0.0",
        "AllocationType": "Random",
        "AssociatedUsers": [],
        "DeliveryGroup": { "Id": answers::synthetic_id(2, index % 7), "Name": format!("Group {}", index % 7) },
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
    })
}

/// `GET Jobs/{id}`: a step further at each look.
fn job(state: &State, id: &str) -> Response {
    let Some(job) = Uuid::try_parse(id).ok().and_then(|id| state.jobs.poll(id)) else {
        return no_job();
    };
    let (status, percent) = job.status();
    let results = format!("{}/cvad/manage/Jobs/{}/results", state.base_url, job.id);
    answers::ok(&json!({
        "Id": job.id.to_string(),
        "Type": job.kind,
        "Status": status,
        "OverallProgressPercent": percent,
        "IsCancellable": false,
        "ResultLocation": job.is_complete().then_some(results),
    }))
}

/// `GET Jobs/{id}/results`: results are not kept, so it sends the caller to the object.
fn job_results(state: &State, id: &str) -> Response {
    match Uuid::try_parse(id).ok().and_then(|id| state.jobs.get(id)) {
        Some(job) if job.is_complete() => {
            let location = format!("{}/cvad/manage/{}", state.base_url, job.subject);
            answers::with_text(answers::empty(StatusCode::SEE_OTHER), LOCATION, &location)
        }
        _ => no_job(),
    }
}

fn no_job() -> Response {
    answers::error_data(StatusCode::NOT_FOUND, "The job does not exist.")
}
