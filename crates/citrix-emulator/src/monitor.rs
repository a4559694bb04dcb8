//! Monitor OData: links to the next page, errors as text (contract §3 and §4). Analytics have the
//! same format.

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::call::Call;
use super::query::{Query, is_named};
use super::responses::{self, Response};

const ROWS: usize = 2500;
const PAGE: usize = 1000;
/// Collections, all with the same rows.
const ENTITIES: [&str; 6] = [
    "Machines",
    "Sessions",
    "Connections",
    "Users",
    "DesktopGroups",
    "Applications",
];
const ANALYTICS: [&str; 3] = ["sessions", "machines", "users"];

/// Responds to `GET {Entity}?$top=…&$skip=…`.
pub(super) async fn respond(call: &Call<'_>) -> Response {
    call.state.monitor_latency().await;
    page(call, &ENTITIES)
}

/// Responds to `GET /casodata/{sessions|machines|users}`.
pub(super) fn analytics(call: &Call<'_>) -> Response {
    page(call, &ANALYTICS)
}

fn page(call: &Call<'_>, entities: &[&str]) -> Response {
    if !call.is_get() {
        return responses::text(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed.");
    }
    let [entity] = call.rest[..] else {
        return no_resource();
    };
    let Some(entity) = entities
        .iter()
        .find(|name| name.eq_ignore_ascii_case(entity))
    else {
        return no_resource();
    };
    let query = call.query();
    let (Ok(top), Ok(skip)) = (query.number("$top"), query.number("$skip")) else {
        let error =
            json!({ "error": { "code": "BadRequest", "message": "The query is not valid." } });
        return responses::text(StatusCode::BAD_REQUEST, error.to_string());
    };
    let first = skip.unwrap_or(0).min(ROWS);
    // `$top` limits the whole result, `PAGE` one response.
    let wanted = top.unwrap_or(ROWS).min(ROWS - first);
    let rows = wanted.min(PAGE);

    // Relative links are relative to the service, the base of the context URL (OData JSON 4.01,
    // section 4.6).
    let base = if call.state.links.relative {
        String::new()
    } else {
        call.link_base() + "/"
    };
    let mut body = Map::new();
    body.insert(
        "@odata.context".to_owned(),
        json!(format!("{base}$metadata#{entity}")),
    );
    if query.get("$count").is_some_and(|value| value == "true") {
        body.insert("@odata.count".to_owned(), json!(ROWS));
    }
    body.insert(
        "value".to_owned(),
        (first..first + rows)
            .map(|index| row(entity, index))
            .collect(),
    );
    if wanted > rows {
        let link = next_link(
            &base,
            entity,
            query,
            top.map(|top| top - rows),
            first + rows,
        );
        body.insert("@odata.nextLink".to_owned(), json!(link));
    }
    odata(&Value::Object(body))
}

fn odata(body: &Value) -> Response {
    let response = responses::ok(body);
    let media = HeaderValue::from_static("application/json; odata.metadata=minimal");
    let response = responses::with(response, CONTENT_TYPE, media);
    responses::with(
        response,
        HeaderName::from_static("odata-version"),
        HeaderValue::from_static("4.0"),
    )
}

fn no_resource() -> Response {
    responses::text(
        StatusCode::NOT_FOUND,
        "No HTTP resource was found that matches the request.",
    )
}

/// Returns a link to the rest of the result: the same query with new `$top` and `$skip`.
fn next_link(
    base: &str,
    entity: &str,
    query: Query<'_>,
    top: Option<usize>,
    skip: usize,
) -> String {
    let is_paging = |pair: &&str| is_named(pair, "$top") || is_named(pair, "$skip");
    let mut pairs: Vec<_> = query
        .pairs()
        .filter(|pair| !is_paging(pair))
        .map(str::to_owned)
        .collect();
    pairs.extend(top.map(|top| format!("$top={top}")));
    pairs.push(format!("$skip={skip}"));
    format!("{base}{entity}?{}", pairs.join("&"))
}

fn row(entity: &str, index: usize) -> Value {
    json!({
        "Id": responses::synthetic_id(3, index),
        "Name": format!("ACME\\{entity}-{index:04}"),
        "DnsName": format!("vda-{index:04}.acme.example"),
        "CurrentRegistrationState": 1,
        "LifecycleState": 0,
        "CreatedDate": "2025-01-15T08:30:00Z",
        "ModifiedDate": "2025-01-15T08:30:00Z",
    })
}
