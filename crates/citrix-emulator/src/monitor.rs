//! Monitor OData: a service document, metadata, entity sets with links to the next page, errors as
//! text (contract §3 and §4). Analytics have the same format.

mod filter;
mod schema;

use std::cmp::Ordering;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use self::filter::Filter;
use self::schema::{ANALYTICS, EntitySet, MONITOR, Service};
use super::call::Call;
use super::query::{Query, decode, is_named};
use super::responses::{self, Response};

/// Rows of each entity set.
const ROWS: usize = 2500;
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
    match segments[..] {
        [] | [""] => service_document(call, service),
        ["$metadata"] => xml(service.metadata()),
        [set, ref rest @ ..] => match service.addressed(set) {
            Some((set, None)) => collection(call, set, rest),
            Some((set, Some(key))) => entity(call, set, key, rest),
            None => no_resource(),
        },
    }
}

/// Returns the list of entity sets (OData JSON 4.01, section 5).
fn service_document(call: &Call<'_>, service: &Service) -> Response {
    let sets = service
        .sets
        .iter()
        .map(|set| json!({ "name": set.name, "kind": "EntitySet", "url": set.name }));
    odata(&json!({
        "@odata.context": format!("{}$metadata", base(call)),
        "value": sets.collect::<Vec<_>>(),
    }))
}

/// Responds to `GET {EntitySet}` and `GET {EntitySet}/$count`.
fn collection(call: &Call<'_>, set: &EntitySet, rest: &[&str]) -> Response {
    let query = call.query();
    let Some(options) = Options::parse(query, set) else {
        let error =
            json!({ "error": { "code": "BadRequest", "message": "The query is not valid." } });
        return responses::text(StatusCode::BAD_REQUEST, error.to_string());
    };
    let rows = options.rows(set);
    match rest {
        [] => page(call, set, &options, rows),
        // `$top` and `$skip` do not apply (OData Protocol 4.01, section 11.2.10).
        ["$count"] => responses::text(StatusCode::OK, rows.len().to_string()),
        _ => no_resource(),
    }
}

fn page(call: &Call<'_>, set: &EntitySet, options: &Options, rows: Vec<usize>) -> Response {
    let first = options.skip.min(rows.len());
    // `$top` limits the whole result, `PAGE` one response.
    let wanted = options.top.unwrap_or(usize::MAX).min(rows.len() - first);
    let length = wanted.min(PAGE);
    let base = base(call);
    let mut body = Map::new();
    let context = format!("{base}$metadata#{}{}", set.name, options.selection());
    body.insert("@odata.context".to_owned(), json!(context));
    if options.count {
        body.insert("@odata.count".to_owned(), json!(rows.len()));
    }
    let page = rows[first..first + length].iter();
    let page = page.map(|&index| options.project(set.row(index)));
    body.insert("value".to_owned(), page.collect());
    if wanted > length {
        let top = options.top.map(|top| top - length);
        let link = next_link(&base, set.name, call.query(), top, first + length);
        body.insert("@odata.nextLink".to_owned(), json!(link));
    }
    odata(&Value::Object(body))
}

/// Responds to `GET {EntitySet}({key})`, `…/{Property}` and `…/{Property}/$value`.
fn entity(call: &Call<'_>, set: &EntitySet, key: &str, rest: &[&str]) -> Response {
    let Some(row) = set.find(key) else {
        return no_resource();
    };
    let context = format!("{}$metadata#{}", base(call), set.name);
    let property = |name: &str| row.get(name).filter(|_| set.property(name).is_some());
    match *rest {
        [] => {
            let mut body = Map::new();
            body.insert(
                "@odata.context".to_owned(),
                json!(format!("{context}/$entity")),
            );
            body.extend(row);
            odata(&Value::Object(body))
        }
        [name] => match property(name) {
            Some(value) => odata(&json!({
                "@odata.context": format!("{context}({key})/{name}"),
                "value": value,
            })),
            None => no_resource(),
        },
        [name, "$value"] => match property(name) {
            Some(Value::String(text)) => responses::text(StatusCode::OK, text.clone()),
            Some(value) => responses::text(StatusCode::OK, value.to_string()),
            None => no_resource(),
        },
        _ => no_resource(),
    }
}

/// System query options.
#[derive(Default)]
struct Options {
    top: Option<usize>,
    skip: usize,
    count: bool,
    filter: Option<Filter>,
    /// Properties, with `true` for descending order.
    order: Vec<(String, bool)>,
    select: Vec<String>,
}

impl Options {
    /// Returns `None` if an option is invalid.
    fn parse(query: Query<'_>, set: &EntitySet) -> Option<Self> {
        let names = |option: &str| -> Vec<String> {
            let list = query.get(option).unwrap_or_default();
            let names = list.split(',').map(|name| name.trim().to_owned());
            names
                .filter(|name| !name.is_empty() && name != "*")
                .collect()
        };
        let order = names("$orderby")
            .into_iter()
            .map(|item| match item.split_once(' ') {
                None => Some((item, false)),
                Some((name, "asc")) => Some((name.to_owned(), false)),
                Some((name, "desc")) => Some((name.to_owned(), true)),
                Some(_) => None,
            })
            .collect::<Option<Vec<_>>>()?;
        let select = names("$select");
        let mut used = order.iter().map(|(name, _)| name).chain(&select);
        if !used.all(|name| set.property(name).is_some()) {
            return None;
        }
        Some(Self {
            top: query.number("$top").ok()?,
            skip: query.number("$skip").ok()?.unwrap_or(0),
            count: query.is_true("$count"),
            filter: match query.get("$filter") {
                Some(text) => Some(Filter::parse(&text, set)?),
                None => None,
            },
            order,
            select,
        })
    }

    /// Returns the indices of the rows that match, in order.
    fn rows(&self, set: &EntitySet) -> Vec<usize> {
        let matches = |index: &usize| {
            self.filter
                .as_ref()
                .is_none_or(|filter| filter.matches(&set.row(*index)))
        };
        let mut rows: Vec<usize> = (0..ROWS).filter(matches).collect();
        if !self.order.is_empty() {
            rows.sort_by_cached_key(|&index| OrderKey {
                values: self
                    .order
                    .iter()
                    .map(|(name, down)| {
                        let value = set.row(index).remove(name).unwrap_or_default();
                        (value, *down)
                    })
                    .collect(),
            });
        }
        rows
    }

    /// Returns the list of selected properties for the context URL.
    fn selection(&self) -> String {
        if self.select.is_empty() {
            String::new()
        } else {
            format!("({})", self.select.join(","))
        }
    }

    fn project(&self, mut row: Map<String, Value>) -> Value {
        if !self.select.is_empty() {
            row.retain(|name, _| self.select.contains(name));
        }
        Value::Object(row)
    }
}

/// The values of the properties in `$orderby`, with `true` for descending order.
#[derive(PartialEq, Eq)]
struct OrderKey {
    values: Vec<(Value, bool)>,
}

impl Ord for OrderKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.values.iter().zip(&other.values);
        pairs
            .map(|((left, down), (right, _))| {
                let order = filter::compare(left, right).unwrap_or(Ordering::Equal);
                if *down { order.reverse() } else { order }
            })
            .fold(Ordering::Equal, Ordering::then)
    }
}

impl PartialOrd for OrderKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
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

fn odata(body: &Value) -> Response {
    let media = HeaderValue::from_static("application/json; odata.metadata=minimal");
    versioned(responses::ok(body), media)
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
