//! Monitor OData: a service document, metadata, entity sets with links to the next page, errors as
//! text (contract §3 and §4). Analytics have the same format.

mod data;
mod filter;
mod model;
mod primitive;
mod projection;
mod query_error;
mod query_options;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use self::data::{ANALYTICS, MONITOR};
use self::model::{EntitySet, Property, Service};
use self::primitive::Primitive;
use self::projection::Projection;
use self::query_error::QueryError;
use self::query_options::{ENTITY, OTHER, QueryOptions};
use super::call::Call;
use super::query::{Query, decode, is_named};
use super::responses::{self, Response};

/// Rows of one response.
const PAGE: usize = 1000;

/// Responds to requests below `/monitorodata`.
pub(super) async fn respond(call: &Call<'_>) -> Response {
    call.state.monitor_latency().await;
    service(call, &MONITOR)
}

/// Responds to requests below `/casodata`.
pub(super) fn analytics(call: &Call<'_>) -> Response {
    service(call, &ANALYTICS)
}

fn service(call: &Call<'_>, service: &Service) -> Response {
    if !call.is_get() {
        return responses::text(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed.");
    }
    let segments: Vec<String> = call.rest.iter().map(|raw| decode(raw)).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let response = match segments[..] {
        [] | [""] => service_document(call, service),
        ["$metadata"] => metadata(call, service),
        [set, ref rest @ ..] => match service.addressed(set) {
            Some((set, None)) => collection(call, set, rest),
            Some((set, Some(key))) => match set.find(key) {
                Some(index) => entity(call, set, index, rest),
                None => Ok(no_resource()),
            },
            None => Ok(no_resource()),
        },
    };
    response.unwrap_or_else(|error| error.response())
}

/// Returns the rows of an entity set of Monitor that a query selects, in order and before paging;
/// `None` if there is no such set or the query is rejected.
pub fn selected_rows(set: &str, query: &str) -> Option<Vec<usize>> {
    let (set, key) = MONITOR.addressed(set)?;
    if let Some(key) = key {
        return set.find(key).map(|index| vec![index]);
    }
    let options = QueryOptions::parse(Query::of(query), set).ok()?;
    Some(options.rows(set))
}

/// Returns the list of entity sets (OData JSON 4.01, section 5).
fn service_document(call: &Call<'_>, service: &Service) -> Result<Response, QueryError> {
    query_options::check(call.query(), OTHER, "json")?;
    let sets = service
        .sets
        .iter()
        .map(|set| json!({ "name": set.name, "kind": "EntitySet", "url": set.name }));
    Ok(odata(&json!({
        "@odata.context": format!("{}$metadata", base(call)),
        "value": sets.collect::<Vec<_>>(),
    })))
}

fn metadata(call: &Call<'_>, service: &Service) -> Result<Response, QueryError> {
    query_options::check(call.query(), OTHER, "xml")?;
    Ok(xml(service.metadata()))
}

/// Responds to `GET {EntitySet}` and `GET {EntitySet}/$count`.
fn collection(
    call: &Call<'_>,
    set: &'static EntitySet,
    rest: &[&str],
) -> Result<Response, QueryError> {
    let options = QueryOptions::parse(call.query(), set)?;
    let rows = options.rows(set);
    Ok(match rest {
        [] => page(call, set, &options, &rows),
        // `$top` and `$skip` do not apply (OData Protocol 4.01, section 11.2.10).
        ["$count"] => responses::text(StatusCode::OK, rows.len().to_string()),
        _ => no_resource(),
    })
}

fn page(
    call: &Call<'_>,
    set: &'static EntitySet,
    options: &QueryOptions,
    rows: &[usize],
) -> Response {
    let first = options.skip.min(rows.len());
    // `$top` limits the whole result, `PAGE` one response.
    let wanted = options.top.unwrap_or(usize::MAX).min(rows.len() - first);
    let length = wanted.min(PAGE);
    let top = options.top.map(|top| top.saturating_sub(length));
    let next_link = (wanted > length)
        .then(|| next_link(&base(call), set.name, call.query(), top, first + length));
    odata(&Page {
        context: context(call, set) + &options.projection.context(),
        count: options.count.then_some(rows.len()),
        next_link,
        value: Rows {
            set,
            projection: &options.projection,
            indices: &rows[first..first + length],
        },
    })
}

#[derive(Serialize)]
struct Page<'a> {
    #[serde(rename = "@odata.context")]
    context: String,
    #[serde(rename = "@odata.count", skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    #[serde(rename = "@odata.nextLink", skip_serializing_if = "Option::is_none")]
    next_link: Option<String>,
    value: Rows<'a>,
}

/// Rows that are generated while they are serialized, one at a time.
struct Rows<'a> {
    set: &'static EntitySet,
    projection: &'a Projection,
    indices: &'a [usize],
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = |&index| self.projection.row(self.set, index);
        serializer.collect_seq(self.indices.iter().map(row))
    }
}

/// Responds to `GET {EntitySet}({key})`, and below it to navigation properties, a property and its
/// `$value`.
fn entity(
    call: &Call<'_>,
    set: &'static EntitySet,
    index: usize,
    rest: &[&str],
) -> Result<Response, QueryError> {
    let (mut set, mut index, mut rest) = (set, index, rest);
    while let [name, after @ ..] = rest
        && let Ok(navigation) = set.navigation(name)
    {
        index = (navigation.index)(index);
        (set, rest) = (navigation.target, after);
    }
    match rest {
        [] => single(call, set, index),
        [name, after @ ..] => match set.property(name) {
            Ok(property) => value(call, set, index, property, after),
            Err(_) => Ok(no_resource()),
        },
    }
}

fn single(call: &Call<'_>, set: &'static EntitySet, index: usize) -> Result<Response, QueryError> {
    query_options::check(call.query(), ENTITY, "json")?;
    let projection = Projection::parse(call.query(), set)?;
    let mut body = projection.row(set, index);
    let context = format!("{}{}/$entity", context(call, set), projection.context());
    body.insert("@odata.context".to_owned(), json!(context));
    Ok(odata(&Value::Object(body)))
}

fn value(
    call: &Call<'_>,
    set: &EntitySet,
    index: usize,
    property: &Property,
    rest: &[&str],
) -> Result<Response, QueryError> {
    query_options::check(call.query(), OTHER, "json")?;
    Ok(match (rest, (property.value)(index)) {
        // OData Protocol 4.01, sections 11.2.4 and 11.2.4.1.
        ([] | ["$value"], Primitive::Null) => responses::empty(StatusCode::NO_CONTENT),
        ([], value) => odata(&json!({
            "@odata.context": format!("{}({})/{}", context(call, set), set.key_of(index), property.name),
            "value": value.to_json(),
        })),
        (["$value"], Primitive::String(text)) => responses::text(StatusCode::OK, text),
        (["$value"], value) => responses::text(StatusCode::OK, value.literal()),
        _ => no_resource(),
    })
}

/// Returns the context URL of an entity set (OData Protocol 4.01, section 10.2).
fn context(call: &Call<'_>, set: &EntitySet) -> String {
    format!("{}$metadata#{}", base(call), set.name)
}

/// Returns the base of links. Relative links are relative to the service, the base of the context
/// URL (OData JSON 4.01, section 4.6).
fn base(call: &Call<'_>) -> String {
    if call.state.links.relative {
        String::new()
    } else {
        call.link_base() + "/"
    }
}

fn odata(body: &impl Serialize) -> Response {
    let media = HeaderValue::from_static("application/json; odata.metadata=minimal");
    versioned(responses::json(StatusCode::OK, body), media)
}

fn xml(text: String) -> Response {
    let media = HeaderValue::from_static("application/xml");
    versioned(responses::text(StatusCode::OK, text), media)
}

fn versioned(response: Response, media: HeaderValue) -> Response {
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
