//! `GET /regions`: the cached redirects to other regions.

use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use super::times::rfc3339;
use super::{Admin, FullResponse, json_body};

/// A redirect of a customer's requests below `from`.
#[derive(Serialize)]
struct RedirectView {
    customer: String,
    from: String,
    to: String,
    until: String,
}

pub(super) fn respond(admin: &Admin) -> FullResponse {
    let (now, instant) = (admin.shared.clock.now(), Instant::now());
    let redirects = admin.shared.regions.list();
    let views: Vec<_> = redirects
        .iter()
        .map(|redirect| RedirectView {
            customer: redirect.customer.to_str().unwrap_or_default().to_owned(),
            from: redirect.from.to_string(),
            to: redirect.to.to_string(),
            until: rfc3339(now + redirect.until.saturating_duration_since(instant)),
        })
        .collect();
    // Strings always serialize.
    let body = serde_json::to_vec_pretty(&views).unwrap_or_default();
    json_body(StatusCode::OK, body)
}
