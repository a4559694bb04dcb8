//! `GET /transactions/{id}`: a recent exchange by any of its ids.

use std::net::IpAddr;

use citrix_wire::percent;
use http::StatusCode;
use serde::Serialize;

use super::times::Times;
use super::{Admin, Answer, FORMAT, json};
use crate::error::Reason;
use crate::observe::recent::{BoundedText, Record};

/// Exchanges that are told of one id; only ids that callers choose can be of several.
const MOST: usize = 20;

/// The id in the path, without its escapes.
pub(super) fn id_of(path: &str) -> Option<String> {
    let id = path.strip_prefix("/transactions/")?;
    (!id.is_empty()).then(|| percent::decode_lossy(id))
}

pub(super) fn answer(admin: &Admin, id: &str) -> Answer {
    let recent = &admin.shared.metrics.recent;
    let times = Times::now(&admin.shared);
    let records = recent.find(id, MOST);
    let found = Found {
        format: FORMAT,
        id,
        exchanges: records
            .iter()
            .map(|record| Exchange::new(record, &times))
            .collect(),
        detail: records.is_empty().then(|| nothing(admin, &times)),
    };
    json(
        if records.is_empty() {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::OK
        },
        &found,
    )
}

fn nothing(admin: &Admin, times: &Times) -> String {
    let begin = match admin.shared.metrics.recent.coverage() {
        (_, None) => "no exchange is over yet".to_owned(),
        (1, Some(since)) => {
            format!(
                "the one exchange that is remembered, of {}, has another id",
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
        "{begin}; an exchange is remembered once it is over, and what is older is in the access log"
    )
}

#[derive(Serialize)]
struct Found<'a> {
    format: u32,
    id: &'a str,
    exchanges: Vec<Exchange<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// An exchange that is over; names are those of the access log.
#[derive(Serialize)]
pub(super) struct Exchange<'a> {
    /// When the request's head was complete.
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
    /// What the caller was told.
    detail: Option<&'a str>,
    /// What a library or the system said.
    cause: Option<&'a str>,
    end: &'static str,
    attempts: u32,
    total_ms: f64,
    waited_ms: f64,
    upstream_ms: f64,
    ours_ms: f64,
}

impl<'a> Exchange<'a> {
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
    fn the_path_names_one_id() {
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
