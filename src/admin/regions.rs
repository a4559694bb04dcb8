//! `GET /regions`: the redirects to other regions that are remembered.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use super::{Admin, Answer, text};

/// A customer's requests below `from` go to `to`.
#[derive(Serialize)]
struct Shown {
    customer: String,
    from: String,
    to: String,
    /// RFC 3339.
    until: String,
}

pub(super) fn answer(admin: &Admin) -> Answer {
    let (now, instant) = (admin.shared.clock.now(), Instant::now());
    let moves = admin.shared.regions.list();
    let shown = moves.iter().map(|moved| Shown {
        customer: moved.customer.to_str().unwrap_or_default().to_owned(),
        from: moved.from.to_string(),
        to: moved.to.to_string(),
        until: humantime::format_rfc3339_seconds(
            now + moved.until.saturating_duration_since(instant),
        )
        .to_string(),
    });
    // Strings always serialize.
    let body = serde_json::to_vec_pretty(&shown.collect::<Vec<_>>()).unwrap_or_default();
    let mut answer = text(StatusCode::OK, body);
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
