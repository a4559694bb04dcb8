//! `POST $batch`: several operations in one request, each with its own header fields (contract §5).

use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Operation, OperationContext, operate};
use crate::access::{Dialect, field_token_status};
use crate::bearer_status::BearerStatus;
use crate::query::Query;
use crate::responses::{self, Response};
use crate::stats::count;

const MAX_ITEMS: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch {
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    reference: Option<String>,
    #[serde(default = "default_method")]
    method: String,
    /// Relative to the site; on the direct hosts prefixed with customer and site.
    relative_url: String,
    #[serde(default)]
    headers: Vec<Field>,
}

/// Returns the default of Citrix's SDK.
fn default_method() -> String {
    "GET".to_owned()
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Field {
    name: String,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ItemResult {
    reference: Option<String>,
    code: u16,
    headers: Vec<Field>,
    body: String,
}

/// Returns the responses to all items, in their order.
pub(super) async fn respond(context: &OperationContext<'_>, body: &[u8]) -> Response {
    let Ok(batch) = serde_json::from_slice::<Batch>(body) else {
        return responses::error_data(StatusCode::BAD_REQUEST, "The batch is invalid.");
    };
    if batch.items.len() > MAX_ITEMS {
        return responses::error_data(StatusCode::BAD_REQUEST, "The batch has too many items.");
    }
    let mut items = Vec::with_capacity(batch.items.len());
    for item in batch.items {
        let response =
            check_authorization(context, &item).unwrap_or_else(|| perform(context, &item));
        items.push(item_result(item.reference, response).await);
    }
    responses::ok(&json!({ "TotalItems": items.len(), "Items": items }))
}

/// Rejects an item whose own `Authorization`, `CwsAuth` or `Bearer`, is not valid for the customer.
/// An item without one uses that of the batch.
fn check_authorization(context: &OperationContext<'_>, item: &Item) -> Option<Response> {
    let field = item
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("authorization"))?;
    let status = match field_token_status(context.state, field.value.as_bytes(), true) {
        (BearerStatus::Valid, Some(identity))
            if std::ptr::eq(&*identity.tenant, context.tenant) =>
        {
            return None;
        }
        (status, _) => status,
    };
    count(&context.state.counters.refused_batch_items);
    Some(Dialect::Cvad.no_token(status, ""))
}

fn perform(context: &OperationContext<'_>, item: &Item) -> Response {
    let Ok(method) = item.method.parse::<Method>() else {
        return responses::error_data(StatusCode::METHOD_NOT_ALLOWED, "The method is unknown.");
    };
    let (path, query) = item
        .relative_url
        .split_once('?')
        .unwrap_or((&item.relative_url, ""));
    let mut path: Vec<_> = path.trim_start_matches('/').split('/').collect();
    if let [customer, site, ..] = path[..]
        && context.tenant.has_id(customer.as_bytes())
        && context
            .tenant
            .customer
            .sites
            .iter()
            .any(|own| own.eq_ignore_ascii_case(site))
    {
        path.drain(..2);
    }
    operate(
        context,
        &Operation {
            method: &method,
            path,
            query: Query::of(query),
        },
    )
}

async fn item_result(reference: Option<String>, response: Response) -> ItemResult {
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await;
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    ItemResult {
        reference,
        code: parts.status.as_u16(),
        headers: fields(&parts.headers),
        body,
    }
}

/// Returns the fields that Citrix's samples show, with the samples' names.
fn fields(headers: &HeaderMap) -> Vec<Field> {
    let known = [("location", "Location"), ("content-type", "Content-Type")];
    let field = |(key, name): (&str, &str)| {
        let value = headers.get(key)?.to_str().ok()?.to_owned();
        Some(Field {
            name: name.to_owned(),
            value,
        })
    };
    known.into_iter().filter_map(field).collect()
}
