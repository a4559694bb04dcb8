//! CVAD (DaaS): `me`, pages of machines, async jobs, batches (contract §4 and §5).

mod batch;
mod machines;

use http::header::{CONTENT_LENGTH, LOCATION, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use uuid::Uuid;

use super::call::Call;
use super::query::Query;
use super::responses::{self, Response};
use super::state::State;
use super::stats::count;
use super::tenants::Tenant;
use super::trust::is_json;
use citrix_wire::citrix::headers::CITRIX_INSTANCE_ID;

/// Maximum request body in bytes, above any batch of a test.
const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// Non-standard status of a frozen site (contract §4).
const SITE_FROZEN: u16 = 530;

/// The context of an operation, alone or in a batch.
struct OperationContext<'a> {
    state: &'a State,
    tenant: &'a Tenant,
    client_id: &'a str,
    /// Base URL of links to other operations.
    link_base: String,
}

/// One operation, as a request or as an item of a batch.
struct Operation<'a> {
    method: &'a Method,
    /// Path segments below the site.
    path: Vec<&'a str>,
    query: Query<'a>,
}

impl<'a> OperationContext<'a> {
    fn of(call: &'a Call<'_>) -> Self {
        Self {
            state: call.state,
            tenant: call.tenant(),
            client_id: call.client_id(),
            link_base: call.link_base(),
        }
    }
}

/// Responds to everything below `/cvad/manage`, or below the site on a direct host.
pub(super) async fn respond(mut call: Call<'_>) -> Response {
    if call.tenant().is_frozen() {
        return frozen();
    }
    let first = call
        .rest
        .first()
        .copied()
        .unwrap_or_default()
        .to_ascii_lowercase();
    if let Some(rejection) = check_instance(&call, &first) {
        return rejection;
    }
    if !call.is_get() && has_body(&call.parts.headers) && !is_json(&call.parts.headers) {
        return responses::unsupported_media_type();
    }
    // Reads the body even where it does not matter: an unread body would close the client's
    // connection.
    let Ok(body) = Limited::new(&mut call.body, BODY_LIMIT).collect().await else {
        return responses::error_data(StatusCode::PAYLOAD_TOO_LARGE, "The request is too large.");
    };
    let context = OperationContext::of(&call);
    if first == "$batch" && call.is_post() {
        return batch::respond(&context, &body.to_bytes()).await;
    }
    let operation = Operation {
        method: &call.parts.method,
        path: call.rest.clone(),
        query: call.query(),
    };
    operate(&context, &operation)
}

/// Responds to `GET me` on the direct hosts, where it is not below a site. Clients poll it while a
/// site is frozen.
pub(super) fn me_on_direct_host(call: &Call<'_>) -> Response {
    if call.tenant().is_frozen() {
        frozen()
    } else {
        me(&OperationContext::of(call))
    }
}

fn operate(context: &OperationContext<'_>, operation: &Operation<'_>) -> Response {
    let first = operation
        .path
        .first()
        .copied()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let reads = [Method::GET, Method::HEAD].contains(operation.method);
    match (&first[..], &operation.path[..]) {
        ("me", [_]) => me(context),
        (_, path) if !reads => change(context, operation, path),
        ("sites", [_]) => responses::ok(&json!({ "Items": sites(context.tenant) })),
        ("about", [_]) => responses::ok(&json!({ "AppVersion": "emulator" })),
        ("tenants", [_]) => {
            let id = context.tenant.id();
            responses::ok(&json!({ "Items": [{ "Id": id, "Name": id }] }))
        }
        ("machines", [_]) => machines::page(context.state, operation.query),
        ("machines", [_, id]) => machines::one(context.state, id),
        ("jobs", [_, id]) => job(context, id),
        ("jobs", [_, id, results]) if results.eq_ignore_ascii_case("results") => {
            job_results(context, id)
        }
        _ => responses::error_data(
            StatusCode::NOT_FOUND,
            "The requested object does not exist.",
        ),
    }
}

fn frozen() -> Response {
    let status = StatusCode::from_u16(SITE_FROZEN).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    responses::error_data(status, "The site is frozen.")
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
}

/// Rejects an unknown `Citrix-InstanceId`. A missing one is only counted, since the response of the
/// real service is not documented.
fn check_instance(call: &Call<'_>, first: &str) -> Option<Response> {
    let sites = &call.tenant().customer.sites;
    let known = |site: &[u8]| {
        sites
            .iter()
            .any(|own| own.as_bytes().eq_ignore_ascii_case(site))
    };
    match call.parts.headers.get(CITRIX_INSTANCE_ID) {
        Some(site) if !known(site.as_bytes()) => Some(responses::error_data(
            StatusCode::BAD_REQUEST,
            "The site does not exist.",
        )),
        // The path contains the site on the direct hosts.
        None if call.customer.is_none() && !matches!(first, "me" | "sites" | "about") => {
            count(&call.state.counters.missing_instance_id);
            None
        }
        _ => None,
    }
}

/// Responds to `GET me`, from which clients get the site id.
fn me(context: &OperationContext<'_>) -> Response {
    responses::ok(&json!({
        "UserId": context.client_id,
        "DisplayName": format!("{} (emulator)", context.client_id),
        "IsCspCustomer": false,
        "Customers": [{
            "Id": context.tenant.id(),
            "Name": context.tenant.id(),
            "Sites": sites(context.tenant),
        }],
    }))
}

fn sites(tenant: &Tenant) -> Value {
    let sites = tenant.customer.sites.iter();
    sites
        .map(|id| json!({ "Id": id, "Name": "cloudxdsite" }))
        .collect()
}

/// Starts a job with `?async=true`, responds to `$search`, and does nothing for any other change.
fn change(context: &OperationContext<'_>, operation: &Operation<'_>, path: &[&str]) -> Response {
    let kind = path.last().copied().unwrap_or_default();
    if operation.query.is_true("async") {
        let action = path
            .iter()
            .position(|segment| segment.starts_with('$'))
            .unwrap_or(path.len());
        let id =
            context
                .state
                .jobs
                .start(context.client_id, kind.to_owned(), path[..action].join("/"));
        let location = format!("{}/Jobs/{id}", context.link_base);
        return responses::with_text(responses::empty(StatusCode::ACCEPTED), LOCATION, &location);
    }
    if kind.eq_ignore_ascii_case("$search") {
        return machines::found(context.state);
    }
    responses::empty(StatusCode::NO_CONTENT)
}

/// Responds to `GET Jobs/{id}`; the job advances with each request.
fn job(context: &OperationContext<'_>, id: &str) -> Response {
    let Some(job) = Uuid::try_parse(id)
        .ok()
        .and_then(|id| context.state.jobs.poll(context.client_id, id))
    else {
        return no_job();
    };
    let (status, percent) = job.status();
    let results = format!("{}/Jobs/{}/results", context.link_base, job.id);
    responses::ok(&json!({
        "Id": job.id.to_string(),
        "Type": job.kind,
        "Status": status,
        "OverallProgressPercent": percent,
        "IsCancellable": false,
        "ResultLocation": job.is_complete().then_some(results),
    }))
}

/// Responds to `GET Jobs/{id}/results` with a redirect to the object, since results are not stored.
fn job_results(context: &OperationContext<'_>, id: &str) -> Response {
    match Uuid::try_parse(id)
        .ok()
        .and_then(|id| context.state.jobs.get(context.client_id, id))
    {
        Some(job) if job.is_complete() => {
            let location = format!("{}/{}", context.link_base, job.subject);
            responses::with_text(responses::empty(StatusCode::SEE_OTHER), LOCATION, &location)
        }
        _ => no_job(),
    }
}

fn no_job() -> Response {
    responses::error_data(StatusCode::NOT_FOUND, "The job does not exist.")
}
