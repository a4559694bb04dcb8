//! `GET /tokens/{customer}/events`: the history of a customer's token.

use http::StatusCode;
use serde::Serialize;

use super::times::{Times, rfc3339};
use super::{Admin, FORMAT, FullResponse, json, refresh, text};
use crate::token::events::{EventKind, TokenEvent};
use crate::token::status::WhichSecret;

/// Returns the customer if the path is one of this endpoint.
pub(super) fn customer_of(path: &str) -> Option<&str> {
    refresh::customer_before(path, "/events")
}

#[derive(Serialize)]
struct History<'a> {
    format: u32,
    now: String,
    customer: &'a str,
    /// The newest first.
    events: Vec<EventView>,
}

/// An event and its repetitions in a row.
#[derive(Serialize)]
struct EventView {
    /// `login`, `adopted`, `login_failed` or `unauthorized`.
    kind: &'static str,
    first_at: String,
    at: String,
    count: u64,
    /// Of a failed login or a 401.
    outcome: Option<&'static str>,
    generation: Option<u64>,
    secret: Option<&'static str>,
}

pub(super) fn respond(admin: &Admin, customer: &str) -> FullResponse {
    let published = admin.shared.published.load();
    let mut customers = published.customers.iter();
    let Some(found) = customers.find(|known| known.credential.customer() == customer) else {
        return text(StatusCode::NOT_FOUND, "no customer with this id\n");
    };
    let times = Times::now(&admin.shared);
    let events = found.token.events().all();
    let history = History {
        format: FORMAT,
        now: times.precise(times.instant),
        customer,
        events: events.iter().rev().map(EventView::new).collect(),
    };
    json(StatusCode::OK, &history)
}

impl EventView {
    fn new(event: &TokenEvent) -> Self {
        let (kind, outcome, generation, secret) = match event.kind {
            EventKind::Login { generation, secret } => {
                ("login", None, Some(generation), Some(secret))
            }
            EventKind::Adopted { generation } => ("adopted", None, Some(generation), None),
            EventKind::LoginFailed(outcome) => ("login_failed", Some(outcome.label()), None, None),
            EventKind::Unauthorized(outcome) => ("unauthorized", Some(outcome.label()), None, None),
        };
        Self {
            kind,
            first_at: rfc3339(event.first),
            at: rfc3339(event.last),
            count: event.count,
            outcome,
            generation,
            secret: secret.map(WhichSecret::name),
        }
    }
}
