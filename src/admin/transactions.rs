//! `GET /transactions/{id}`: a recent exchange by any of its ids. `GET /transactions`: a search.

use std::net::IpAddr;

use citrix_wire::{form, percent, transaction_id};
use fleet_protocol::Replica;
use http::StatusCode;
use serde::Serialize;

use super::times::Times;
use super::{Admin, FORMAT, FullResponse, json, text};
use crate::error::Reason;
use crate::fleet::members;
use crate::observe::recent::{BoundedText, Record, Search, StatusSearch};

/// Maximum number of exchanges with one id. Several can share an id that a caller chose.
const MAX_EXCHANGES: usize = 20;
/// Maximum number of exchanges in the response to a search.
const MAX_FOUND: usize = 50;
/// Parameters of a search.
const PARAMETERS: &str = "id, caller, customer, route, status, path";

/// Returns the percent-decoded id of the path.
pub(super) fn id_of(path: &str) -> Option<String> {
    let id = path.strip_prefix("/transactions/")?;
    (!id.is_empty()).then(|| percent::decode_lossy(id))
}

pub(super) async fn respond(admin: &Admin, id: &str) -> FullResponse {
    let recent = &admin.shared.metrics.recent;
    let times = Times::now(&admin.shared);
    let search = Search {
        id: Some(id.to_owned()),
        ..Search::default()
    };
    let records = recent.find(&search, MAX_EXCHANGES);
    let owner = if records.is_empty() {
        owner(admin, id).await
    } else {
        None
    };
    let result = LookupResult {
        format: FORMAT,
        id,
        exchanges: views(&records, &times),
        detail: records.is_empty().then(|| not_found(admin, &times)),
        owner,
    };
    json(
        if records.is_empty() {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::OK
        },
        &result,
    )
}

/// Responds to a search. Empty parameters, which forms send, are ignored.
pub(super) fn respond_to_search(admin: &Admin, query: &str) -> FullResponse {
    let search = match parse(query) {
        Ok(search) => search,
        Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
    };
    let recent = &admin.shared.metrics.recent;
    let times = Times::now(&admin.shared);
    let mut records = recent.find(&search, MAX_FOUND + 1);
    let more = records.len() > MAX_FOUND;
    records.truncate(MAX_FOUND);
    let (searched, since) = recent.coverage();
    let result = SearchResult {
        format: FORMAT,
        now: times.precise(times.instant),
        exchanges: views(&records, &times),
        more,
        searched,
        since: since.map(|since| times.precise(since)),
    };
    json(StatusCode::OK, &result)
}

fn parse(query: &str) -> Result<Search, String> {
    let mut search = Search::default();
    for (name, value) in form::pairs(query) {
        if value.is_empty() {
            continue;
        }
        match name.as_ref() {
            "id" => search.id = Some(value.into_owned()),
            "caller" => search.caller = Some(value.into_owned()),
            "customer" => search.customer = Some(value.into_owned()),
            "route" => search.route = Some(value.into_owned()),
            "path" => search.path = Some(value.into_owned()),
            "status" => {
                let status = StatusSearch::parse(&value);
                let problem = || "invalid status; expected, for example, 502 or 5xx\n".to_owned();
                search.status = Some(status.ok_or_else(problem)?);
            }
            _ => return Err(format!("unknown parameter; available: {PARAMETERS}\n")),
        }
    }
    Ok(search)
}

fn not_found(admin: &Admin, times: &Times) -> String {
    let searched = match admin.shared.metrics.recent.coverage() {
        (_, None) => "no exchange has ended yet".to_owned(),
        (1, Some(since)) => {
            format!(
                "the only recorded exchange, of {}, has another id",
                times.precise(since)
            )
        }
        (count, Some(since)) => {
            format!(
                "none of the last {count} exchanges, since {}, has this id",
                times.precise(since)
            )
        }
    };
    format!(
        "{searched}; an exchange is recorded when it ends, and older ones are in the access log"
    )
}

#[derive(Serialize)]
struct LookupResult<'a> {
    format: u32,
    id: &'a str,
    exchanges: Vec<ExchangeView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Owner>,
}

#[derive(Serialize)]
struct SearchResult<'a> {
    format: u32,
    now: String,
    exchanges: Vec<ExchangeView<'a>>,
    /// Older ones match too.
    more: bool,
    /// Number of recorded exchanges. Failures and rejections before `since` were searched as well.
    searched: usize,
    /// Time since which the record is complete; `None` if no exchange has ended yet.
    since: Option<String>,
}

/// Another replica, which generated an id.
#[derive(Serialize)]
struct Owner {
    /// The last eight digits of the id.
    id: String,
    /// The name for people.
    replica: String,
}

/// Returns the other replica that generated an id, if the fleet knows it.
async fn owner(admin: &Admin, id: &str) -> Option<Owner> {
    let fleet = admin.shared.fleet.as_ref()?;
    let replica = transaction_id::replica_of(id).map(Replica)?;
    if replica == fleet.replica() {
        return None;
    }
    match fleet.record(replica).await {
        members::Record::Member(member) => Some(Owner {
            id: replica.to_string(),
            replica: member.name,
        }),
        members::Record::Absent | members::Record::Undecipherable => None,
    }
}

/// An exchange that has ended, with the names of the access log.
#[derive(Serialize)]
pub(super) struct ExchangeView<'a> {
    /// Time at which the request head was complete.
    at: Option<String>,
    request_id: BoundedText<36>,
    transaction_id: BoundedText<128>,
    citrix_transaction_id: BoundedText<64>,
    x_cws_transaction_id: BoundedText<64>,
    cc_transaction_id: BoundedText<64>,
    method: BoundedText<16>,
    path: BoundedText<128>,
    route: BoundedText<64>,
    caller: BoundedText<64>,
    customer: BoundedText<64>,
    address: Option<IpAddr>,
    retired: Option<&'static str>,
    status: u16,
    reason: Option<&'static str>,
    /// As returned to the caller.
    detail: Option<&'a str>,
    cause: Option<&'a str>,
    end: &'static str,
    attempts: u32,
    total_ms: f64,
    waited_ms: f64,
    upstream_ms: f64,
    ours_ms: f64,
}

/// Returns the views of records, in their order.
pub(super) fn views<'a>(records: &'a [Record], times: &Times) -> Vec<ExchangeView<'a>> {
    records
        .iter()
        .map(|record| ExchangeView::new(record, times))
        .collect()
}

impl<'a> ExchangeView<'a> {
    pub(super) fn new(record: &'a Record, times: &Times) -> Self {
        let milliseconds = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let present = |text: &'a str| (!text.is_empty()).then_some(text);
        let [
            citrix_transaction_id,
            x_cws_transaction_id,
            cc_transaction_id,
        ] = record.citrix_ids;
        Self {
            at: record.began.map(|began| times.precise(began)),
            request_id: record.request_id,
            transaction_id: record.transaction_id,
            citrix_transaction_id,
            x_cws_transaction_id,
            cc_transaction_id,
            method: record.method,
            path: record.path,
            route: record.route,
            caller: record.caller,
            customer: record.customer,
            address: record.address,
            retired: record.retired,
            status: record.status,
            reason: record.reason.map(Reason::as_str),
            detail: present(&record.detail),
            cause: present(&record.cause),
            end: record.end.as_str(),
            attempts: record.attempts,
            total_ms: milliseconds(record.total),
            waited_ms: milliseconds(record.waited),
            upstream_ms: milliseconds(record.upstream),
            ours_ms: milliseconds(record.gateway),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_of_a_search_is_a_form() {
        let search = parse("caller=a%2Fb+c&customer=&status=5XX&path=/x&id=&route=none").unwrap();
        assert_eq!(
            (search.caller.as_deref(), search.customer, search.id),
            (Some("a/b c"), None, None)
        );
        assert_eq!(search.status, Some(StatusSearch::Class(5)));
        assert_eq!(
            (search.path.as_deref(), search.route.as_deref()),
            (Some("/x"), Some("none"))
        );
        assert!(parse("").is_ok());
        for (query, problem) in [
            (
                "status=abc",
                "invalid status; expected, for example, 502 or 5xx\n",
            ),
            (
                "from=1",
                "unknown parameter; available: id, caller, customer, route, status, path\n",
            ),
        ] {
            assert_eq!(parse(query).unwrap_err(), problem, "{query}");
        }
    }

    #[test]
    fn path_names_one_id() {
        for (path, id) in [
            ("/transactions/abc-1", Some("abc-1")),
            ("/transactions/a%2Fb%3f%25", Some("a/b?%")),
            ("/transactions/a/b", Some("a/b")),
            ("/transactions/100%", Some("100%")),
            ("/transactions/%zz%4", Some("%zz%4")),
            ("/transactions/", None),
            ("/transactions", None),
        ] {
            assert_eq!(id_of(path).as_deref(), id, "{path}");
        }
    }
}
