//! `GET /transactions/{id}`: a recent exchange by any of its ids.

use std::net::IpAddr;

use citrix_wire::{percent, transaction_id};
use fleet_protocol::Replica;
use http::StatusCode;
use serde::Serialize;

use super::times::Times;
use super::{Admin, FORMAT, FullResponse, json};
use crate::error::Reason;
use crate::fleet::members;
use crate::observe::recent::{BoundedText, Record};

/// Maximum number of exchanges in a response. Several can share an id that a caller chose.
const MAX_EXCHANGES: usize = 20;

/// Returns the percent-decoded id of the path.
pub(super) fn id_of(path: &str) -> Option<String> {
    let id = path.strip_prefix("/transactions/")?;
    (!id.is_empty()).then(|| percent::decode_lossy(id))
}

pub(super) async fn respond(admin: &Admin, id: &str) -> FullResponse {
    let recent = &admin.shared.metrics.recent;
    let times = Times::now(&admin.shared);
    let records = recent.find(id, MAX_EXCHANGES);
    let owner = if records.is_empty() {
        owner(admin, id).await
    } else {
        None
    };
    let result = LookupResult {
        format: FORMAT,
        id,
        exchanges: records
            .iter()
            .map(|record| ExchangeView::new(record, &times))
            .collect(),
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

impl<'a> ExchangeView<'a> {
    pub(super) fn new(record: &'a Record, times: &Times) -> Self {
        let milliseconds = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let text = |text: &'a str| (!text.is_empty()).then_some(text);
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
            detail: text(&record.detail),
            cause: text(&record.cause),
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
